"""The calls witness: a TCP socket on trio that writes down every call with its result or errno.

The connection calls (connect, send, recv, shutdown) return what happened as a `Call` and raise nothing: an errno is the
thing to be seen here, not an accident. Set-up calls (bind, listen, setsockopt ...) are written down too and do raise.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import trio

from faultkit import sockets
from faultkit.errors import exhausted
from faultkit.evidence.transcript import Address, Call, Transcript

T = TypeVar("T")

# What tcp(7), ip(7), ipv6(7) and socket(7) call the options that a play sets; the names of the headers.
_OPTIONS: dict[tuple[int, int], str] = {
    (socket.SOL_SOCKET, socket.SO_LINGER): "SO_LINGER",
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): "SO_KEEPALIVE",
    (socket.SOL_SOCKET, socket.SO_REUSEADDR): "SO_REUSEADDR",
    (socket.SOL_SOCKET, socket.SO_RCVBUF): "SO_RCVBUF",
    (socket.SOL_SOCKET, socket.SO_SNDBUF): "SO_SNDBUF",
    (socket.SOL_SOCKET, socket.SO_ERROR): "SO_ERROR",
    (socket.SOL_SOCKET, sockets.SO_MAX_PACING_RATE): "SO_MAX_PACING_RATE",
    (socket.IPPROTO_IP, socket.IP_TTL): "IP_TTL",
    (socket.IPPROTO_IP, 11): "IP_RECVERR",
    (socket.IPPROTO_IP, 21): "IP_MINTTL",
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): "IPV6_UNICAST_HOPS",
    (socket.IPPROTO_IPV6, 25): "IPV6_RECVERR",
    (socket.IPPROTO_IPV6, 73): "IPV6_MINHOPCOUNT",
    (socket.IPPROTO_TCP, 19): "TCP_REPAIR",
    (socket.IPPROTO_TCP, 20): "TCP_REPAIR_QUEUE",
    (socket.IPPROTO_TCP, 21): "TCP_QUEUE_SEQ",
    (socket.IPPROTO_TCP, 24): "TCP_TIMESTAMP",
} | {
    (socket.IPPROTO_TCP, int(getattr(socket, name))): name
    for name in [
        "TCP_KEEPIDLE",
        "TCP_KEEPINTVL",
        "TCP_KEEPCNT",
        "TCP_USER_TIMEOUT",
        "TCP_INFO",
        "TCP_CORK",
        "TCP_NODELAY",
        "TCP_QUICKACK",
        "TCP_LINGER2",
        "TCP_SYNCNT",
        "TCP_WINDOW_CLAMP",
        "TCP_DEFER_ACCEPT",
        "TCP_MAXSEG",
    ]
}


def errno_name(error: OSError) -> str:
    """ "ECONNRESET" for an OSError that carries one, else its text."""
    return errno.errorcode.get(error.errno or 0, str(error))


def option_name(level: int, name: int) -> str:
    """ "SO_LINGER" for (SOL_SOCKET, SO_LINGER); numbers for an option that no play has used so far."""
    return _OPTIONS.get((level, name), f"{level}/{name}")


def _value(level: int, name: int, value: int | bytes) -> str:
    if (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER) and isinstance(value, bytes):
        on, seconds = struct.unpack("ii", value)
        return f"{{{on}, {seconds}}}"
    return str(value) if isinstance(value, int) else f"{len(value)} bytes"


class Calls:
    """The witness: makes recorded sockets, and counts them for each role."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.look: Callable[[], None] = lambda: None  # before and after each call, for who watches what it brings about
        self.adopted: list[Socket] = []
        self.numbers: Counter[str] = Counter()  # how many sockets each role has had

    def open_socket(self, role: str, family: int, protocol: int = 0) -> Socket:
        """A new stream socket of that address family: TCP, unless another protocol is asked for (IPPROTO_MPTCP)."""
        return self.adopt(role, socket.socket(family, socket.SOCK_STREAM, protocol))

    def adopt(self, role: str, sock: socket.socket) -> Socket:
        """Record what is done with a socket that exists already."""
        self.numbers[role] += 1
        adopted = Socket(self, role, self.numbers[role], sock)
        self.adopted.append(adopted)
        return adopted

    def admit(self, call: Call) -> None:
        """Take over a call that another process has recorded."""
        self.transcript.calls.append(call)
        self.numbers[call.role] = max(self.numbers[call.role], call.socket)

    def discard(self) -> None:
        """Close what the play left open, without recording it: the play is over."""
        for left in self.adopted:
            if left.raw.fileno() >= 0:
                trio.lowlevel.notify_closing(left.raw)
                left.raw.close()


class Socket:
    """One recorded, non-blocking TCP socket. `role` says whose it is ("client", "server")."""

    def __init__(self, calls: Calls, role: str, number: int, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.calls = calls
        self.role = role
        self.number = number
        self.raw = sock
        self._note_address()

    @property
    def family(self) -> int:
        return self.raw.family

    @property
    def address(self) -> Address:
        """Our end. A socket that is bound to nothing yet has port 0."""
        return Address(*self.raw.getsockname()[:2])

    def _note_address(self) -> None:
        address = self.address
        if address.port:
            self.calls.transcript.roles[address] = self.role
        with contextlib.suppress(OSError):  # not connected, or not any more
            peer = Address(*self.raw.getpeername()[:2])
            self.calls.transcript.connections[self.role, self.number] = frozenset({address, peer})

    def _told(self, name: str, argument: str, outcome: str, began_ns: int, data: bytes = b"") -> Call:
        call = Call(self.role, self.number, name, argument, outcome, began_ns, time.time_ns(), data)
        self.calls.transcript.calls.append(call)
        self.calls.look()
        return call

    def _set_up(self, name: str, argument: str, action: Callable[[], T], outcome: Callable[[T], str]) -> T:
        self.calls.look()
        began = time.time_ns()
        try:
            result = action()
        except OSError as error:
            self._told(name, argument, errno_name(error), began)
            raise
        self._told(name, argument, outcome(result), began)
        return result

    async def _wait(
        self, name: str, argument: str, attempt: Callable[[], T], outcome: Callable[[T], str], *, writing: bool = False
    ) -> tuple[Call, T | None]:
        """Try, and wait for the socket while it would block."""
        began = time.time_ns()
        try:
            await trio.lowlevel.checkpoint()
            while True:
                self.calls.look()
                try:
                    result = attempt()
                except BlockingIOError:
                    if writing:
                        await trio.lowlevel.wait_writable(self.raw)
                    else:
                        await trio.lowlevel.wait_readable(self.raw)
                else:
                    return self._told(
                        name, argument, outcome(result), began, result if isinstance(result, bytes) else b""
                    ), result
        except OSError as error:
            call, lacking = self._told(name, argument, errno_name(error), began), exhausted(error)
            if lacking:  # which is no word of TCP's
                raise lacking from error
            return call, None
        except trio.Cancelled:
            self._told(name, argument, "cancelled", began)
            raise

    def bind(self, address: Address) -> None:
        """bind(2), written down with the port that it got, where any was asked for."""
        began = time.time_ns()
        try:
            self.raw.bind(address)
        except OSError as error:
            self._told("bind", str(address), errno_name(error), began)
            raise
        self._told("bind", str(self.address), "ok", began)
        self._note_address()

    def listen(self, backlog: int = 128) -> None:
        self._set_up("listen", str(backlog), lambda: self.raw.listen(backlog), lambda _: "ok")

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        argument = f"{option_name(level, name)} {_value(level, name, value)}"
        self._set_up("setsockopt", argument, lambda: self.raw.setsockopt(level, name, value), lambda _: "ok")

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        argument = option_name(level, name)
        return self._set_up(
            "getsockopt", argument, lambda: self.raw.getsockopt(level, name, size), lambda v: f"{len(v)} bytes"
        )

    def unsent(self) -> int:
        """Bytes in the send queue that were never sent (ioctl SIOCOUTQNSD, tcp(7))."""
        return self._queued("SIOCOUTQNSD", 0x894B)

    def unread(self) -> int:
        """Bytes in the receive queue (ioctl SIOCINQ, tcp(7))."""
        return self._queued("SIOCINQ", termios.FIONREAD)

    def _queued(self, name: str, request: int) -> int:
        def ask() -> int:
            return int(struct.unpack("i", fcntl.ioctl(self.raw, request, bytes(4)))[0])

        return self._set_up("ioctl", name, ask, lambda n: f"{n} bytes")

    async def connect(self, address: Address) -> Call:
        """connect(2), waiting as a blocking one does."""
        started = False

        def attempt() -> None:
            nonlocal started
            if started:
                number = self.raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            else:
                started = True
                number = self.raw.connect_ex(address)
                self._note_address()
            if number == errno.EINPROGRESS:
                raise BlockingIOError
            if number:
                raise OSError(number, os.strerror(number))

        call = (await self._wait("connect", str(address), attempt, lambda _: "ok", writing=True))[0]
        self._note_address()
        return call

    async def accept(self) -> Socket | None:
        """accept(2): the connection, or None where the call failed."""
        accepted = (await self._wait("accept", "", self.raw.accept, lambda _: "ok"))[1]
        if accepted is None:
            return None
        return self.calls.adopt(self.role, accepted[0])

    async def send(self, data: bytes) -> Call:
        """send(2), once."""
        return (await self._wait("send", "", lambda: self.raw.send(data), str, writing=True))[0]

    async def send_all(self, data: bytes) -> Call:
        """send(2) until all of it is taken or a call fails. Gives the last call."""
        while True:
            told = await self.send(data)
            if not told.outcome.isdecimal() or not (data := data[int(told.outcome) :]):
                return told

    async def recv(self, size: int, *, peek: bool = False) -> Call:
        """recv(2), once; `peek` looks without taking (MSG_PEEK)."""
        flags = socket.MSG_PEEK if peek else 0
        name = "MSG_PEEK" if peek else ""
        return (
            await self._wait("recv", name, lambda: self.raw.recv(size, flags), lambda data: str(len(data) or "EOF"))
        )[0]

    async def recv_later(self) -> Call:
        """recv(2) as soon as it would not block. A wait that is cancelled is not recorded."""
        await self.readable()
        return await self.recv(65536)

    async def drain(self) -> Call:
        """recv(2) until there is no more. Gives the last: EOF, or an error."""
        while (told := await self.recv(65536)).data:
            pass
        return told

    async def readable(self) -> None:
        """Wait until a recv would not block: data, FIN or error has arrived. Nothing is taken and nothing is recorded."""
        await trio.lowlevel.wait_readable(self.raw)

    def ready(self) -> bool:
        """Would a recv not block now? Nothing is taken and nothing is recorded."""
        return bool(select.select([self.raw], [], [], 0)[0])

    async def over(self) -> None:
        """Wait until the connection is over in both directions (POLLHUP): a reset has arrived, or a timer has run out.

        Nothing is taken and nothing is recorded. `readable` cannot tell a reset that comes behind a FIN from the FIN.
        """
        # An epoll set that asks for nothing is told of errors and hang-ups alone (epoll_ctl(2)), and can be waited for.
        with select.epoll() as hung_up:
            hung_up.register(self.raw, 0)
            await trio.lowlevel.wait_readable(hung_up.fileno())

    async def delivered(self) -> None:
        """Wait until the other end's kernel has acknowledged everything that was sent. Nothing is recorded."""
        # A program has no event for an acknowledgement.
        while sockets.clock(self.raw).unacknowledged:  # noqa: ASYNC110
            await trio.sleep(0.002)

    async def dropped(self, segments: int) -> None:
        """Wait until that many segments that arrived were dropped below the socket, or it is closed. Nothing is recorded."""
        # Nobody is told of what is dropped.
        while sockets.state(self.raw) != "CLOSED" and sockets.dropped(self.raw) < segments:  # noqa: ASYNC110
            await trio.sleep(0.002)

    def shutdown(self, how: int) -> Call:
        names = {socket.SHUT_RD: "SHUT_RD", socket.SHUT_WR: "SHUT_WR", socket.SHUT_RDWR: "SHUT_RDWR"}
        began = time.time_ns()
        try:
            self.raw.shutdown(how)
        except OSError as error:
            return self._told("shutdown", names[how], errno_name(error), began)
        return self._told("shutdown", names[how], "ok", began)

    def disconnect(self) -> None:
        """connect(2) to AF_UNSPEC. Told as "disconnect", because "connect" says the opposite."""
        self._set_up("disconnect", "AF_UNSPEC", lambda: sockets.disconnect(self.raw), lambda _: "ok")

    def close(self) -> None:
        """close(2), once; a second close does nothing."""
        if self.raw.fileno() >= 0:
            trio.lowlevel.notify_closing(self.raw)
            self._set_up("close", "", self.raw.close, lambda _: "ok")
