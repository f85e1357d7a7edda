"""A tracefs instance of our own, for real root only, removed when we are done or dead.

tracefs is one for the whole machine, so an instance (instances/faultkit-PID) is the one thing that would outlive a killed
run. A guardian, a child that does nothing but wait for our end, removes it then.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from pathlib import Path

from faultkit.errors import Unable
from faultkit.stage.namespace import Namespace

_MOUNTED = Path("/sys/kernel/tracing")
_EVENTS = ("tcp_send_reset", "tcp_receive_reset")
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def _mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {os.fsdecode(target)}: {os.strerror(number)}")


def _remove(instance: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        instance.rmdir()


def _guard(instance: Path) -> tuple[int, int]:
    """Fork the guardian. Returns its process id and the pipe whose closing, by us or by our death, sends it to work."""
    theirs, ours = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            # Holding nothing else of ours open: neither a terminal nor a pipe whose reader waits for its end.
            os.dup2(theirs, 0)
            os.closerange(1, os.sysconf("SC_OPEN_MAX"))
            while os.read(0, 1):
                pass
            _remove(instance)
        finally:
            os._exit(0)
    os.close(theirs)
    return child, ours


class Instance:
    """instances/faultkit-PID with the two reset events on, stamped with CLOCK_MONOTONIC."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guardian, self._pipe = _guard(path)
        try:
            path.mkdir()
            (path / "trace_clock").write_text("mono")
            for event in _EVENTS:
                (path / "events/tcp" / event / "enable").write_text("1")
            self.events = os.open(path / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except BaseException:
            self._end_guardian()
            raise

    def _end_guardian(self) -> None:
        os.close(self._pipe)
        os.waitpid(self._guardian, 0)

    def lost(self) -> int:
        """Events that the ring buffer overwrote before they were read, over all processors."""
        lines = (line for stats in self.path.glob("per_cpu/cpu*/stats") for line in stats.read_text().splitlines())
        return sum(int(line.split(":")[1]) for line in lines if line.startswith("overrun"))

    def close(self) -> None:
        os.close(self.events)
        self._end_guardian()


def open_instance(namespace: Namespace | None) -> Instance:
    """A trace instance, or `Unable` with what is missing. Must be called before threads start.

    tracefs that is not mounted is mounted in our own mount namespace only (so never with --on host).
    """
    if threading.active_count() > 1:
        raise Unable(
            "the trace instance must be made before threads start and this process has some: run it in a child"
        )
    if os.geteuid() != 0 or (namespace and namespace.user):
        raise Unable("tracefs is readable by root alone: run as root (sudo) to see the kernel's reset reasons")
    try:
        if not (_MOUNTED / "events").is_dir():
            if namespace is None:
                raise Unable(
                    "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing, or leave --on host out"
                )
            _mount(None, b"/", None, _MS_REC | _MS_PRIVATE)
            _mount(b"tracefs", os.fsencode(_MOUNTED), b"tracefs", 0)
        if not (_MOUNTED / "events/tcp" / _EVENTS[0]).is_dir():
            raise Unable(f"this kernel has no tracepoint tcp:{_EVENTS[0]} with a reason: Linux 6.10 or later has it")
        return Instance(_MOUNTED / "instances" / f"faultkit-{os.getpid()}")
    except OSError as error:
        raise Unable(f"tracefs cannot be used here ({error}): the kernel's reset reasons stay unseen") from error
