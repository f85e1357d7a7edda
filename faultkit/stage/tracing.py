"""A tracefs instance of our own, for real root only, removed when we are done or dead.

tracefs is one for the whole machine, so an instance (instances/faultkit-PID-…) is the one thing that would outlive a killed
run. A guardian, a child that does nothing but wait for our end, removes it then; and what is left of a container that was
killed with all in it, guardians too, goes with the next run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from pathlib import Path

from faultkit.errors import Unable, exhausted, starting
from faultkit.stage.namespace import CAP_SYS_ADMIN, Namespace, capable, mount, outer_uid

_MOUNTED = Path("/sys/kernel/tracing")
EVENTS = ("tcp_send_reset", "tcp_receive_reset")
TICK = 0.1  # seconds; arbitrary: the kernel's clock for files is up to a tick behind (4 to 10 ms)
OLD = 60.0  # seconds; arbitrary: an instance that nobody has opened for so long will not be


def path(pid: int) -> Path:
    """A process's instance, instances/faultkit-PID-NAMESPACE: a PID is one process's in its PID namespace alone."""
    return _MOUNTED / "instances" / f"faultkit-{pid}-{os.stat('/proc/self/ns/pid').st_ino}"


def _switch_on(instance: Path) -> None:
    (instance / "trace_clock").write_text("mono")
    # Every reset of the machine is in it, other people's storms too: three times what there would be.
    (instance / "buffer_size_kb").write_text("4096")
    for event in EVENTS:
        (instance / "events/tcp" / event / "enable").write_text("1")


def _keep(instance: Path, lifeline: int, report: int) -> None:
    """In the guardian: make the instance, say so, wait for the other end of the lifeline to close, remove the instance."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Nothing else of ours stays open: neither a terminal nor a pipe whose reader waits for its end.
    os.dup2(lifeline, 0)
    os.dup2(report, 1)
    os.closerange(2, os.sysconf("SC_OPEN_MAX"))
    made = False
    try:
        instance.mkdir()
        made = True
        _switch_on(instance)
        told = b"ready"
    except OSError as error:
        told = str(error).encode()
    with contextlib.suppress(BrokenPipeError):  # we were killed meanwhile
        os.write(1, told)
    os.close(1)
    _clear(instance.parent)
    while os.read(0, 1):
        pass
    if made:  # one that stood there is somebody else's
        _remove(instance)


def _clear(instances: Path) -> None:
    """Remove what nobody has open any more. The kernel refuses the others (EBUSY); one that is being made is not open yet."""
    for left in instances.glob("faultkit-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > OLD:
                left.rmdir()


def _remove(instance: Path) -> None:
    """Remove it; a process that is being killed may hold it open for a moment longer than the lifeline."""
    deadline = time.monotonic() + 5  # arbitrary: it takes milliseconds
    while time.monotonic() < deadline:
        try:
            instance.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.01)
        else:
            return


class Instance:
    """A directory of instances/ with the two reset events on, stamped with CLOCK_MONOTONIC.

    The kernel takes some 30 ms to make it and as long to remove it. Both happen in the guardian, beside other work:
    `open` waits for the one, `close` for the other, and `stop` lets the removal begin.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = -1
        self._began = time.time()
        lifeline, self._lifeline = os.pipe()
        self._report, report = os.pipe()
        with starting():
            self._guardian = os.fork()
        if self._guardian == 0:
            try:
                os.close(self._lifeline)
                _keep(path, lifeline, report)
            finally:
                os._exit(0)
        os.close(lifeline)
        os.close(report)

    def open(self) -> None:
        """Wait until the events are on, and open them for reading. Raises `OSError`."""
        with os.fdopen(self._report, "rb") as pipe:
            self._report = -1
            told = pipe.read().decode()
        if told != "ready":
            raise OSError(told or "the guardian of the trace instance has ended")
        self.events = os.open(self.path / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def lost(self) -> int:
        """Events that the ring buffer overwrote before they were read, over all processors."""
        lines = (line for stats in self.path.glob("per_cpu/cpu*/stats") for line in stats.read_text().splitlines())
        return sum(int(line.split(":")[1]) for line in lines if line.startswith("overrun"))

    def stop(self) -> None:
        """Read no more; the guardian begins to remove the instance."""
        for descriptor in (self.events, self._report, self._lifeline):
            if descriptor >= 0:
                os.close(descriptor)
        self.events = self._report = self._lifeline = -1

    def close(self) -> None:
        """Wait until the instance and its guardian are gone. What a guardian that was killed has left is removed here."""
        self.stop()
        _, status = os.waitpid(self._guardian, 0)
        if os.WIFSIGNALED(status) and self._is_ours():
            _remove(self.path)

    def _is_ours(self) -> bool:
        """Has our guardian made it? It may not have come to say so."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_mtime > self._began - TICK
        return False


_NOT_ROOT_ENOUGH = (
    "tracefs needs CAP_SYS_ADMIN of the machine, which uid 0 has not here: in a container --privileged, to see the kernel's "
    "reset reasons"
)


def ready(namespace: Namespace | None) -> str:
    """Make tracefs readable, or raise `Unable` with what is missing. Gives the format of the tracepoint tcp_send_reset.

    tracefs that is not mounted is mounted in our own mount namespace only (so never with --on host).
    """
    if os.geteuid() != 0 or (namespace and namespace.user):
        if outer_uid() == 0:
            raise Unable(_NOT_ROOT_ENOUGH)
        raise Unable("tracefs is readable by root alone: run as root (sudo) to see the kernel's reset reasons")
    try:
        if not (_MOUNTED / "events").is_dir():
            if namespace is None:
                if not capable(CAP_SYS_ADMIN):
                    raise Unable(_NOT_ROOT_ENOUGH)
                raise Unable(
                    "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing, or leave --on host out"
                )
            mount(b"tracefs", os.fsencode(_MOUNTED))
        told = (_MOUNTED / "events/tcp" / EVENTS[0] / "format").read_text()
    except OSError as error:
        raise exhausted(error) or Unable(
            f"tracefs cannot be used here ({error}): the kernel's reset reasons stay unseen"
        ) from error
    if "reason" not in told:
        raise Unable("this kernel's tcp:tcp_send_reset gives no reason: Linux 6.10 or later does")
    return told


def start(namespace: Namespace | None) -> Instance:
    """Begin to make a trace instance, or raise `Unable` with what is missing. Must be called before threads start."""
    if threading.active_count() > 1:
        raise Unable(
            "the trace instance must be made before threads start and this process has some: run it in a child"
        )
    ready(namespace)
    return Instance(path(os.getpid()))
