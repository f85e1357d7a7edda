"""ip(8) inside a namespace that faultkit made, and nowhere else: addresses and MPTCP endpoints, which only it can set."""

from __future__ import annotations

import os
import subprocess

import trio

from faultkit.errors import Unable, starting
from faultkit.stage.firewall import find
from faultkit.stage.namespace import Namespace


async def ip(namespace: Namespace, line: str) -> None:
    """Run `ip LINE`. Raises `Unable` outside our namespace, where ip is not installed, and with its words where it fails."""
    if not namespace.holds():
        raise Unable(f"`ip {line}` was not run: this process is not inside a namespace that faultkit made")
    path = find("ip")
    if path is None:
        raise Unable("ip is not installed: apt-get install iproute2")
    with starting():
        ended = await trio.run_process(
            [path, *line.split()],
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise Unable(f"`ip {line}` ended with exit status {ended.returncode} in our own namespace: {said[0]}")
