"""Waiting for what has no event of its own, and looking into somebody's network namespace."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], bool], running: subprocess.Popen[str] | None = None, seconds: float = 20) -> None:
    """Wait for it, as long as the process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert running is None or running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def network(pid: int | str) -> int:
    """The inode of its network namespace, 0 where it has ended or is another's."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    return 0


def inside(inode: int) -> list[str]:
    """Who is in that namespace."""
    return [process.name for process in Path("/proc").glob("[0-9]*") if network(process.name) == inode]


def moved(running: subprocess.Popen[str]) -> int:
    """Wait until it is in a namespace of its own, and give the inode."""
    until(lambda: network(running.pid) not in (0, network("self")), running)
    return network(running.pid)
