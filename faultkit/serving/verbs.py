"""The verbs on one served connection: what a fault does, at once, and a handler may do as well."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import socket
import ssl
import subprocess
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import trio

from faultkit import keywords, sockets
from faultkit.errors import Misuse
from faultkit.serving.engine import Watch
from faultkit.serving.line import Line
from faultkit.serving.record import Connection, size

CHUNK = 65536  # bytes; arbitrary

P = ParamSpec("P")
E = TypeVar("E", bound="End")


def _verb(act: Callable[Concatenate[E, P], None]) -> Callable[Concatenate[E, P], None]:
    """What can be done to a connection that goes on. One that has ended is left as it is: its descriptor is closed, and the
    number may be another's."""

    names = [*inspect.signature(act).parameters][1:]

    @functools.wraps(act)
    def does(end: E, /, *arguments: P.args, **named: P.kwargs) -> None:
        if arguments or named:
            keywords.check(act, dict(zip(names, arguments, strict=False)) | named, of=f"conn.{act.__name__}")
        if end.record.ended is None:
            act(end, *arguments, **named)

    return does


class Watching(Protocol):
    """Whose epoll the socket is in."""

    def forget(self, watch: Watch | None) -> None: ...


class End:
    """The server's end of one connection, and what can be done to it. Nothing here waits. Nothing is done to a connection that
    has ended."""

    __slots__ = (
        "_audible",
        "_engine",
        "_healed",
        "_last_words",
        "_line",
        "_notifies",
        "_pace",
        "_rate",
        "_reading",
        "_said_fin",
        "_slice",
        "_task",
        "_tls",
        "_watch",
        "clock",
        "draining",
        "in_tls",
        "record",
        "said",
        "sock",
        "to_say",
    )

    def __init__(self, sock: socket.socket, record: Connection, engine: Watching, tls: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.record = record
        self.clock = trio.CancelScope()  # of what waits for it to be idle
        self.draining = False  # nothing more is said; what comes is read and thrown away until the peer closes
        self._engine = engine
        self._watch: Watch | None = None  # in the engine's epoll
        self._tls = tls
        self.in_tls = False  # the handshake is done
        self._task: trio.CancelScope | None = None
        self._audible: trio.Event | None = None  # set again by heal(): until then nothing is sent
        self._reading: trio.Event | None = None
        self._said_fin = False
        self._notifies = False  # close_notify instead of FIN
        self._last_words = (b"", 0)  # again and again, so many bytes in all, before the FIN of `garbage`
        self._slice = 0  # bytes of one send; 0: as many as there are
        self._pace = 0.0  # bytes per second that the line takes; 0: as fast as it goes
        self._rate = 0.0  # and that are sent, no more than those
        self._line: Line | None = None  # a long or narrow one
        self.said: list[tuple[str, int]] = []  # what the protocol that is spoken is to say
        self.to_say = trio.Event()  # set when there is something
        self._healed: trio.Event | None = None  # set by heal(): what was slow need not wait any more

    @property
    def is_unix(self) -> bool:
        """Is it no connection of TCP's?"""
        return self.sock.family == socket.AF_UNIX

    def _must_be_tcp(self, verb: str) -> None:
        if self.is_unix:
            raise Misuse(f"{verb}() is TCP's, and this is a Unix socket: close_unread() gives ECONNRESET there")

    @_verb
    def abort(self) -> None:
        """RST: close with SO_LINGER {on, 0}, everything read first, or the kernel would call it unread."""
        if self.is_unix:  # what is unread is what gives ECONNRESET there
            self._leave("abort")
            self.sock.close()
            return
        sockets.black_hole(self.sock)  # what came after the last look would be unread
        self._read_all()
        self._leave("abort")
        sockets.abort(self.sock)

    @_verb
    def close_unread(self) -> None:
        """RST: close with received bytes unread. Raises `Misuse` where nothing is unread."""
        waiting = sockets.unread(self.sock)
        if waiting:
            self._leave(f"close with {size(waiting)} unread")
        sockets.close_unread(self.sock)

    @_verb
    def close(self) -> None:
        """FIN, both directions at once, everything read first: what the peer sends after it is answered with RST."""
        self._read_all()
        self._leave("close")
        self.sock.close()

    @_verb
    def close_held(self) -> None:
        """Close, with a FIN that the kernel holds back: what the peer sends meets FIN-WAIT-1, and is answered with RST."""
        self._must_be_tcp("close_held")
        self._leave("close")
        with contextlib.suppress(OSError):  # the peer has reset it already
            self.sock.shutdown(socket.SHUT_RDWR)
        sockets.heal(self.sock)
        self.sock.close()

    @_verb
    def finish(self) -> None:
        """FIN, then read and throw away until the peer closes: the lingering close of web servers. Never RST."""
        self._say_fin()
        self._drain()

    @_verb
    def close_notify(self) -> None:
        """TLS: close_notify (RFC 8446 section 6.1), and no FIN; then read and throw away until the peer closes. Raises `Misuse`
        before the handshake."""
        if not self.in_tls:
            raise Misuse("close_notify() is said in TLS, and there was no handshake yet: finish() is FIN alone")
        self._notifies = True
        self._drain()

    def _drain(self) -> None:
        self.draining = True
        if self._task:
            self._task.cancel()

    @_verb
    def half_close(self) -> None:
        """FIN, and go on reading; what is said from now on is not sent."""
        self._say_fin()

    @_verb
    def vanish(self) -> None:
        """Be gone without FIN or RST. PermissionError without CAP_NET_ADMIN in the network namespace."""
        self._must_be_tcp("vanish")
        # Refused, where it is, before anything is written down.
        self.sock.setsockopt(socket.IPPROTO_TCP, sockets.TCP_REPAIR, 1)
        self._leave("vanish")
        sockets.vanish(self.sock)

    @_verb
    def disconnect(self) -> None:
        """RST: connect(2) to AF_UNSPEC, everything read first."""
        self._must_be_tcp("disconnect")
        self._read_all()
        self._leave("disconnect")
        sockets.disconnect(self.sock)
        self.sock.close()

    @_verb
    def crash(self, *, read: bool) -> None:
        """Give the connection to a process of its own, and kill that: its kernel closes what it had, with everything read
        or as it is."""
        if read:
            self._read_all()
        waiting = sockets.unread(self.sock)
        number = self.sock.fileno()
        with subprocess.Popen(["sleep", "infinity"], stdin=subprocess.DEVNULL, pass_fds=[number]) as owner:
            self._leave(f"killed with {size(waiting)} unread" if waiting else "killed")
            self.sock.close()
            owner.kill()

    @_verb
    def black_hole(self) -> None:
        """Hear nothing and say nothing: the peer's kernel gets no answer until `heal`, and times out in the end."""
        self._must_be_tcp("black_hole")
        sockets.black_hole(self.sock)
        self.stall()

    @_verb
    def stop_reading(self) -> None:
        """Read nothing more, with the smallest receive buffer: the peer's send() waits, its kernel sees a zero window."""
        if not self.is_unix:
            sockets.stop_reading(self.sock)
        if self._reading is None:
            self._reading = trio.Event()
        self.stall()

    @_verb
    def stall(self) -> None:
        """Say nothing more until `heal`; what comes is still acknowledged. A peer that closes ends the connection."""
        if self._audible is None:
            self._audible = trio.Event()

    @_verb
    def heal(self) -> None:
        """Undo `black_hole`, `stop_reading`, `stall`, `slow` and `slices`, and go on."""
        if not self.is_unix:
            sockets.heal(self.sock)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            if self._reading is not None:
                sockets.resume_reading(self.sock)
        self._slice, self._rate = 0, self._pace
        self._open_gates()

    @_verb
    def slow(self, *, bytes_per_second: float) -> None:
        """Send no faster than that from now on."""
        if not bytes_per_second > 0:
            raise Misuse(f"slow: {bytes_per_second} bytes per second would never end: take more than 0, or stall()")
        self._rate = min(bytes_per_second, self._pace or bytes_per_second)
        if self._healed is None:
            self._healed = trio.Event()

    @_verb
    def slices(self, *, size: int) -> None:
        """Send in segments of so many bytes from now on (TCP_NODELAY, MSG_EOR)."""
        self._must_be_tcp("slices")
        if size < 1:
            raise Misuse(f"slices: segments of {size} bytes carry nothing: take 1 or more")
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._slice = size

    @_verb
    def garbage(self, data: bytes, *, size: int) -> None:
        """Send bytes that are no answer, below TLS where there is TLS, again and again until it is that size; then `finish`."""
        if not data or size < 1:
            raise Misuse(f"garbage: {len(data)} bytes, {size} in all: take 1 or more of both")
        self._last_words = (data * max(1, CHUNK // len(data)), size)
        self._drain()

    @_verb
    def early_response(self, data: bytes) -> None:
        """Answer before the request is read, and close with it unread."""
        self.record.sent += self.sock.send(data)
        self.close_unread()

    @_verb
    def shorten_fin_wait(self, *, seconds: int) -> None:
        """Let the kernel forget the connection that long after its FIN is acknowledged (TCP_LINGER2, tcp(7))."""
        self._must_be_tcp("shorten_fin_wait")
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, seconds)

    @_verb
    def say(self, word: str, number: int) -> None:
        """Let `answer="http2"` say so: "goaway" or "rst-stream" with that error code, "settings" with so many streams at once."""
        self.said.append((word, number))
        self.to_say.set()

    def _say_fin(self) -> None:
        self._said_fin = True
        try:
            sockets.half_close(self.sock)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the peer has reset it already, which the next read tells
                raise

    def _leave(self, how: str) -> None:
        """The socket is about to be closed; it is written down before, because a client may look as soon as it is told."""
        self.record.end(how)
        if self._task:
            self._task.cancel()
        self._let_go()

    def _let_go(self) -> None:
        """Whatever waits for the socket, which is about to be closed, finds that the connection has ended. Its number may soon
        be another's."""
        self._forget()
        self._open_gates()
        if self._line:
            self._line.close()
        self.clock.cancel()
        if self._task and self.sock.fileno() != -1:
            trio.lowlevel.notify_closing(self.sock)

    def _open_gates(self) -> None:
        for gate in (self._audible, self._reading, self._healed):
            if gate is not None:
                gate.set()
        self._audible = self._reading = self._healed = None

    def _forget(self) -> None:
        """Be watched no more."""
        self._engine.forget(self._watch)
        self._watch = None

    def _read_all(self) -> None:
        with contextlib.suppress(OSError):  # the peer has reset it: nothing is unread
            while sockets.unread(self.sock):
                self._count(self.sock.recv(CHUNK, socket.MSG_DONTWAIT))

    def _count(self, data: bytes) -> None:
        if not self._tls:  # of TLS what the application got is counted
            self.record.received += len(data)
