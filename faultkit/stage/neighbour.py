"""Further network namespaces beside the stage's own: other hosts, joined to it by veth pairs.

They belong to this process alone, have no name, and end with it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from faultkit.errors import Unable, exhausted, starting
from faultkit.stage.firewall import find
from faultkit.stage.namespace import CLONE_NEWNET, Namespace, setns, unshare

_HERE = Path("/proc/thread-self/ns/net")
_PATIENCE = 10.0  # seconds; arbitrary: a command takes milliseconds


class Neighbour:
    """A host next to the stage's own. Its interface is eth0; the stage's end of the cable has the neighbour's name."""

    def __init__(self, own: Namespace, name: str) -> None:
        if not own.holds():
            raise Unable("no second namespace is made: this process is not inside one that faultkit made")
        self.name = name
        self.host = ""  # its address, once it is joined
        self._home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                unshare(CLONE_NEWNET)
                try:
                    self._there = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
                finally:
                    setns(self._home, CLONE_NEWNET)
            except OSError as error:
                raise exhausted(error) or Unable(
                    f"a second network namespace is refused ({error.strerror}): sysctl user.max_net_namespaces"
                ) from error
        except BaseException:
            os.close(self._home)
            raise
        self._cable = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is there, and what it makes belongs there: a socket stays. Nothing may be awaited meanwhile."""
        setns(self._there, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(self._home, CLONE_NEWNET)

    def join(self, *, here: str, there: str) -> None:
        """Lay the cable: `here` and `there` are the addresses of its ends ("192.0.2.1/30"); all else goes out by ours."""
        self.host = there.partition("/")[0]
        self._ip(f"link add {self.name} type veth peer name eth0 netns /proc/self/fd/{self._there}")
        self._cable = True
        self._ip(f"address add {here} dev {self.name}{_at_once(here)}", f"link set {self.name} up")
        with self.entered():
            self._ip(
                "link set lo up",
                f"address add {there} dev eth0{_at_once(there)}",
                "link set eth0 up",
                f"route add default via {here.partition('/')[0]}",
            )

    def _ip(self, *lines: str) -> None:
        path = find("ip")
        if path is None:
            raise Unable("ip is not installed: apt-get install iproute2")
        with starting():
            ended = subprocess.run(
                [path, "-batch", "-"],
                input="\n".join(lines).encode(),
                capture_output=True,
                pass_fds=(self._there,),
                timeout=_PATIENCE,
                check=False,
            )
        if ended.returncode:
            said = ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise Unable(f"`ip {'; '.join(lines)}` is refused in our own namespace: {said[0]}")

    def close(self) -> None:
        """Take the cable out and leave: without sockets the namespace is gone."""
        try:
            if self._cable:
                self._ip(f"link delete {self.name}")
        finally:
            os.close(self._there)
            os.close(self._home)


def _at_once(address: str) -> str:
    # Duplicate address detection (RFC 4862 section 5.4) would take a second.
    return " nodad" if ":" in address else ""
