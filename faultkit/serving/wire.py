"""What a connection gives and takes, below what its fault decides: reads and writes that wait, and end with it."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
import ssl
from typing import TYPE_CHECKING

import trio

from faultkit import sockets
from faultkit.serving.engine import Engine
from faultkit.serving.record import Connection
from faultkit.serving.tls import Below, cut_off
from faultkit.serving.verbs import CHUNK, End

if TYPE_CHECKING:
    from collections.abc import Iterator

TCP_NOTSENT_LOWAT = 25  # include/uapi/linux/tcp.h


class Wire(End):
    """The server's end of one connection, with its waits."""

    __slots__ = ("_holding", "_kept", "_stream", "raw", "raw_before", "spoke")

    _engine: Engine

    def __init__(self, sock: socket.socket, record: Connection, engine: Engine, tls: ssl.SSLContext | None) -> None:
        super().__init__(sock, record, engine, tls)
        self._holding = 0  # waits for `heal`
        self._kept = b""  # read ahead, and to be received
        self._stream: trio.SSLStream[Below] | None = None
        self.raw = 0  # bytes given to the socket, below TLS where there is TLS
        self.raw_before = 0  # and before it counted as just come
        self.spoke = trio.Event()  # set when something was sent, for who waits for that

    def _broke(self, error: BaseException) -> None:
        """An error came while no task of its own waited."""
        raise NotImplementedError

    @property
    def quiet_seconds(self) -> float:
        """How long no byte has come or gone. The kernel's count may have begun before the accept."""
        return min(sockets.quiet_seconds(self.sock), self.record.age_seconds)

    @property
    def comes_from_elsewhere(self) -> bool:
        """May the client be in another network namespace? Over loopback it is in this one."""
        peer = self.record.peer
        if peer is None or ipaddress.ip_address(peer.host).is_loopback:
            return False
        return sockets.state(self.sock) == "ESTABLISHED"

    async def still_there(self) -> None:
        """To be asked after a wait: what was done to the connection meanwhile may have closed its socket. Ends the task then;
        raises `trio.ClosedResourceError` where that is shielded."""
        if self.record.ended:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the connection has ended")

    async def may_read(self) -> None:
        """Wait until it may."""
        while self._reading is not None:
            await self._held(self._reading)
        await self.still_there()

    async def may_speak(self) -> bool:
        """Wait until it may. False where FIN was said, after which nothing is."""
        while self._audible is not None:
            await self._held(self._audible)
        await self.still_there()
        if self._said_fin:
            await trio.lowlevel.checkpoint()
        return not self._said_fin

    async def _held(self, gate: trio.Event) -> None:
        """Wait for `heal`. A peer that closes meanwhile, or resets, ends the connection: nobody reads, so nobody is told."""
        await self.still_there()
        if self._watch is None:
            self._watch = self._engine.watch(self.sock.fileno(), self._left_alone, self._broke, select.EPOLLRDHUP)
        self._holding += 1
        try:
            await gate.wait()
        finally:
            self._holding -= 1
            if not self._holding:
                self._forget()

    def _left_alone(self) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._read_all()
        self._leave(f"lost: {errno.errorcode[error]}" if error else "peer closed")

    async def _byte_there(self) -> bool:
        """Wait for something to read, and leave it there. False where the peer has closed instead."""
        while True:
            await self._readable()
            with contextlib.suppress(BlockingIOError):
                return bool(self.sock.recv(1, socket.MSG_PEEK))

    async def _receive(self, limit: int) -> bytes:
        if self._kept:
            data, self._kept = self._kept[:limit], self._kept[limit:]
            return data
        if not self._stream:
            return await self.receive_below(limit)
        try:
            return bytes(await self._stream.receive_some(limit))
        except trio.BrokenResourceError as error:
            if cut_off(error):
                return b""
            raise

    async def _take(self, limit: int) -> bytes | None:
        """What is there, or None after a wait for it: how much may be read, if anything, is to be asked again then."""
        if self._stream or self._line or self._kept:
            return await self._receive(limit)
        try:
            return self.sock.recv(limit)
        except BlockingIOError:
            await self._readable()
            return None

    async def receive_below(self, limit: int) -> bytes:
        """From the socket, below TLS where there is TLS."""
        while True:
            most = min(limit, await self._readable() or limit) if self._line else limit
            try:
                data = self.sock.recv(most)
            except BlockingIOError:
                if self._line:
                    self._line.emptied()
                else:
                    await self._readable()
                continue
            if self._line:
                self._line.took(len(data))
            return data

    async def _readable(self, more_than: int = 0) -> int:
        """Wait for something to read, or the end. Over a long or narrow line: more bytes than that, and gives how many."""
        ripe = 0
        if self._line:
            ripe = await self._line.ripe(more_than)
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.wait_readable(self.sock)
        await self.still_there()
        return ripe

    async def _send(self, data: bytes, *, whole: bool) -> int:
        if not self._stream:
            return await self._send_raw(data, whole=whole)
        with self._counted(data, whole=whole) as sent:
            await self._stream.send_all(data)
            sent.append(len(data))
        return len(data)

    async def _send_raw(self, data: bytes, *, whole: bool = False) -> int:
        while True:
            try:
                with self._counted(data, whole=whole) as sent:
                    sent.append(self.put(data))
                return sent[0]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)
                await self.still_there()

    def put(self, data: bytes) -> int:
        """One send(2), which is not counted."""
        # Slices that wait for the peer's window are put together again (tcp_sendmsg()), unless each is an end of a record.
        size = self.sock.send(data, socket.MSG_EOR if self._slice else 0)
        self.raw += size
        self.spoke.set()
        return size

    @contextlib.contextmanager
    def _counted(self, data: bytes, *, whole: bool) -> Iterator[list[int]]:
        """Counted before it is sent, because a client may look as soon as it is told; what was not sent is taken back."""
        sent: list[int] = []
        self.record.sent += len(data)
        self.record.answers += whole
        try:
            yield sent
        finally:
            missing = len(data) - sum(sent)
            self.record.sent -= missing
            if missing:
                self.record.answers -= whole

    async def _flushed(self) -> None:
        """Wait until the kernel has sent what it was given: an abort throws away what is queued."""
        await self.still_there()
        if not self.is_unix and sockets.clock(self.sock).unsent:
            # With the least TCP_NOTSENT_LOWAT (tcp(7)) a socket is writable when nothing is unsent.
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1)
            await trio.lowlevel.wait_writable(self.sock)
            await self.still_there()
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0)

    async def _more(self, known: int) -> bytes:
        """The first bytes, more than are known, or as many where the peer has closed its direction."""
        if self._stream or self.is_unix:  # which tells of no more that have come
            more, self._kept = self._kept, b""
            self._kept = more + await self._receive(CHUNK)
            return self._kept
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, known + 1)
        try:
            while True:
                ripe = await self._readable(known)
                with contextlib.suppress(BlockingIOError):
                    return self.sock.recv(ripe or CHUNK, socket.MSG_PEEK)
        finally:
            if not self.record.ended:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
