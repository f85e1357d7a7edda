"""A server on a Unix socket: its listening socket, and which faults have a meaning there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
import tempfile

from faultkit.errors import Misuse, Unable, exhausted
from faultkit.evidence.transcript import Address
from faultkit.serving import plan as plans
from faultkit.serving.door import BACKLOG, Door
from faultkit.serving.faults import Fault
from faultkit.trigger import Trigger

# What they do is no matter of TCP's alone (unix(7)): who closes with bytes unread gives ECONNRESET there too.
FAULTS = (
    "accept-then-close",
    "backlog-full",
    "closed-port",
    "connect-hang",
    "crash:read",
    "crash:unread",
    "early-response",
    "garbage",
    "half-close",
    "ok",
    "refuse",
    "slow",
    "stall",
    "truncate",
    "unread",
    "zero-window",
)
NOBODY = Address("", 0)  # clients have no address there
MOMENTS = ("accept", "mid-body", "fire", "bytes", "sent", "requests", "answers", "listen", "with")


def check(plan: plans.Plan, when: Trigger | None) -> None:
    """Raise `Misuse` for a fault, or a trigger, that is TCP's."""
    if when and when.kind not in MOMENTS:
        raise Misuse(f"`{when}` is known of TCP alone: take another trigger for a Unix socket")
    if plan.gated:
        raise Misuse("a plan with refuse counts SYNs, and a Unix socket has none: take accept-then-close")
    if plan.seed is not None and not plan.drawn:
        raise Misuse("random with no fault draws from TCP's: name the fault for a Unix socket")
    for first in plan.named:
        fault: Fault | None = first
        while fault:
            base = fault.name if fault.name in FAULTS else fault.name.partition(":")[0]
            if base not in FAULTS and base != "crash":
                raise Misuse(f"{fault.name} is TCP's: a Unix socket has {', '.join(FAULTS)}")
            if fault.when.kind not in MOMENTS:
                raise Misuse(f"{fault.name} `{fault.when}` is known of TCP alone: take another trigger")
            fault = fault.then


def _is_path(text: str) -> bool:
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return bool(name) and b"\0" not in name


class UnixDoor(Door):
    """A path that is ours until `close`, listened at or not. Who is refused there is seen by nobody, so `turned_away` may be true
    for any that refuses."""

    def __init__(self, path: str | None) -> None:
        """A path in a new directory where none is given. Raises `Misuse` where it cannot be, `Unable` where nothing can."""
        self._directory: str | None = None
        try:
            if path is not None and not _is_path(path):
                raise Misuse(f"unix={path!r} is no path of a file: take one such as /run/x.sock, or True")
            if path is None:
                self._directory = tempfile.mkdtemp(prefix="faultkit-")
                path = os.path.join(self._directory, "socket")
            self.path = path
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                self.sock.bind(path)
            except BaseException:
                self.sock.close()
                raise
        except OSError as error:
            self._remove_directory()
            if "too long" in str(error):
                raise Misuse(f"unix={path!r}: a Unix socket's path has up to 107 bytes") from error
            if error.errno == errno.EADDRINUSE:
                raise Misuse(f"unix={path!r}: something is there already: remove it, or take another path") from error
            raise exhausted(error) or Unable(
                f"unix={path!r} cannot be made ({error.strerror}): take another path"
            ) from error
        self.address = Address(path, 0)
        self.listening = False
        self._was_shut = False
        self._fillers = []
        self._names: set[bytes] = set()  # of connections of our own, in the queue

    def open(self) -> None:
        """Listen: undo whatever was done."""
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        self.sock.listen(BACKLOG)  # who waits for room goes on
        self.listening = True

    def accept(self) -> tuple[socket.socket, Address]:
        """A client's connection. Raises as accept(2) does."""
        while True:
            sock, peer = self.sock.accept()
            if peer not in self._names:
                return sock, NOBODY
            self._names.discard(peer)
            sock.close()

    def refuse(self) -> None:
        """Keep the path, and do not listen there: connect() gets ECONNREFUSED. Who waits to be accepted is gone."""
        successor = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        beside = f"{self.path[:90]}.{secrets.token_hex(4)}"
        try:
            successor.bind(beside)
            os.rename(beside, self.path)  # at no time is nothing there
        except BaseException:
            successor.close()
            raise
        self.sock.close()
        self.sock, self.listening, self._was_shut = successor, False, True

    def hang(self) -> None:
        """Have no room: connect() waits, and gives EAGAIN to who does not."""
        self.fill()

    def fill(self) -> None:
        """Let the queue be full, with connections of our own."""
        self.open()
        self.sock.listen(0)
        self._was_shut = True
        while True:
            filler = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            name = b"\0faultkit-" + secrets.token_hex(8).encode()
            filler.bind(name)
            try:
                filler.connect(self.path)
            except BlockingIOError:
                filler.close()
                return
            self._fillers.append(filler)
            self._names.add(name)

    def defer(self, yes: bool = True) -> None:
        """TCP's alone."""

    def forget(self, *, defer: bool) -> None:
        """Nobody has been turned away yet."""
        self._was_shut = False

    @property
    def turned_away(self) -> bool:
        """May a client have met a closed door? Where it refused or had no room nobody knows."""
        return self._was_shut

    def close(self) -> None:
        """Let go of the path, and remove it."""
        for filler in self._fillers:
            filler.close()
        self.sock.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
