"""One served connection: what it did, for the test, and the verbs on it, for faults and handlers."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import trio

from faultkit import sockets
from faultkit.errors import Misuse
from faultkit.serving.engine import Engine
from faultkit.serving.waiting import Waiting
from faultkit.transcript import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faultkit.serving.answers import Handler
    from faultkit.serving.faults import Fault

CHUNK = 65536  # bytes; arbitrary
PACED = 10  # segments with data that the kernel does not pace: tcp_update_skb_after_send()
TCP_NOTSENT_LOWAT = 25  # include/uapi/linux/tcp.h
TAIL = 10  # bytes of the one after them, so seconds for which a FIN is held back: half as many at least


class Connection:
    """What one connection did. Written by the server while it goes on; counts are in bytes, times in seconds."""

    __slots__ = (
        "_waiting",
        "answers",
        "ended",
        "fault",
        "fired_after_seconds",
        "number",
        "opened_at",
        "over",
        "peer",
        "received",
        "requests",
        "seconds",
        "sent",
    )

    def __init__(self, number: int, peer: Address | None, fault: str, waiting: Waiting) -> None:
        self.number = number  # the first is 1
        self.peer = peer  # None where the kernel did not tell
        self.fault = fault  # "ok" for none
        self.received = 0
        self.sent = 0
        self.requests = 0
        self.answers = 0
        self.opened_at = time.monotonic()
        self.fired_after_seconds: float | None = None  # None while the fault has not set in
        self.ended: str | None = None  # None while it goes on; else how: "abort", "peer closed" ...
        self.seconds: float | None = None  # from the accept to the end
        self.over = False  # its socket is closed
        self._waiting = waiting

    @property
    def fired(self) -> bool:
        """Has the fault set in?"""
        return self.fired_after_seconds is not None

    def wait_for_end(self, *, timeout_seconds: float = 5.0) -> Connection:
        """Wait until it has ended, not in an event loop. Raises `TimeoutError`."""
        self._waiting.wait(lambda: self.over, lambda: f"connection {self.number} goes on", timeout_seconds)
        return self

    async def await_end(self) -> Connection:
        """Wait until it has ended, in asyncio or Trio; the caller's own timeout ends the wait."""
        await self._waiting.come(lambda: self.over)
        return self

    async def await_fired(self) -> Connection:
        """Wait until its fault has set in, in asyncio or Trio; the caller's own timeout ends the wait."""
        await self._waiting.come(lambda: self.fired)
        return self

    def document(self) -> dict[str, object]:
        """The same for machines."""
        return {
            "number": self.number,
            "peer": str(self.peer) if self.peer else None,
            "fault": self.fault,
            "received": self.received,
            "sent": self.sent,
            "requests": self.requests,
            "answers": self.answers,
            "fired_after_seconds": self.fired_after_seconds,
            "ended": self.ended,
            "seconds": self.seconds,
        }

    # What the server writes.

    @property
    def age_seconds(self) -> float:
        """Since the accept."""
        return time.monotonic() - self.opened_at

    def end(self, how: str) -> None:
        """Write down how it ended, once."""
        if self.ended is None:
            self.seconds = self.age_seconds
            self.ended = how

    def changed(self) -> None:
        """Wake who waits for something in it."""
        self._waiting.changed()

    def __repr__(self) -> str:
        fired = f", fired after {self.fired_after_seconds:.4f} s" if self.fired_after_seconds is not None else ""
        return (
            f"<connection {self.number} from {self.peer}: {self.fault}, {self.received} bytes in, {self.sent} out{fired}, "
            f"{self.ended or 'open'}>"
        )


class Live:
    """The server's end of one connection, as faults and handlers have it: `async def handler(conn)`.

    The verbs are those of `faultkit.sockets`. What ends the connection ends the handler too, at its next wait.
    """

    __slots__ = (
        "_audible",
        "_begun",
        "_early",
        "_engine",
        "_fault",
        "_heard_fin",
        "_last_words",
        "_rate",
        "_reading",
        "_said_fin",
        "_slice",
        "_stopped",
        "_stream",
        "_task",
        "_tls",
        "descriptor",
        "draining",
        "has_task",
        "parked",
        "record",
        "sock",
        "spared",
    )

    def __init__(
        self, sock: socket.socket, record: Connection, fault: Fault | None, engine: Engine, tls: ssl.SSLContext | None
    ) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        self.record = record
        self.parked = False  # it has been watched by the engine's epoll
        self.has_task = False
        self.draining = False  # nothing more is said; what comes is read and thrown away until the peer closes
        self.spared = False  # the server was healed before the fault set in
        self._fault = fault
        self._engine = engine
        self._tls = tls
        self._task: trio.CancelScope | None = None
        self._stream: trio.SSLStream[_Raw] | None = None
        self._audible: trio.Event | None = None  # set again by heal(): until then nothing is sent
        self._reading: trio.Event | None = None
        self._stopped = False
        self._said_fin = False
        self._heard_fin = False
        self._last_words = (b"", 0)  # again and again, so many bytes in all, before the FIN of `garbage`
        self._early = b""  # read before there was a task
        self._begun = False  # part of a request was read
        self._slice = 0  # bytes of one send; 0: as many as there are
        self._rate = 0.0  # bytes per second; 0: as fast as it goes

    # What a handler does.

    async def receive(self, limit: int = CHUNK) -> bytes:
        """Up to `limit` bytes as they come, b"" when the peer has closed its direction. Raises `OSError` as recv(2) does."""
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._may_read()
            if self._early:
                data, self._early = self._early[:limit], self._early[limit:]
                return data
            fault = self.armed
            if fault is None:
                data = await self._receive(limit)
            elif fault.meets_next_byte(self.record, begun=self._begun) and await self._byte_there():
                await self._fire()
                continue
            else:
                idle = fault.when.amount if fault.when.kind == "idle" else float("inf")
                with trio.move_on_after(idle) as patience:
                    data = await self._receive(max(1, fault.may_read(self.record, limit)))
                if patience.cancelled_caught:
                    await self._fire()
                    continue
            self.record.received += len(data)
            self._begun = self._begun or bool(data)
            self._heard_fin = not data
            if fault and fault.when.kind == "bytes" and self.record.received >= fault.when.amount:
                await self._fire()
            return data

    async def request(self) -> None:
        """Say that a request is there, whole: what `after_requests` counts."""
        self.record.requests += 1
        self._begun = False
        fault = self.armed
        if fault and fault.when.kind == "requests" and self.record.requests >= fault.when.amount:
            if fault.served.unread and not sockets.unread(self.sock):
                raise Misuse(
                    f"{fault.name}: request {self.record.requests} came with the one before it, and was read with it: "
                    "nothing is left to leave unread; let the client wait for each answer"
                )
            await self._fire()

    async def answer(self, body: bytes, head: bytes = b"") -> None:
        """Send an answer, whole: what `after_answers` counts and "mid-body" cuts in two."""
        fault = self.armed
        if fault and fault.when.kind == "mid-body":
            middle = len(body) // 2
            await self.send(head + body[:middle])
            await self._flushed()
            await self._fire()
            head, body = b"", body[middle:]
        elif fault and fault.served.holds_fin and self.record.answers + 1 == fault.when.amount:
            head, body = b"", await self._send_paced(head + body)
        if head or body:
            await self._say(head + body, whole=True)
        else:
            self.record.answers += 1
        fault = self.armed
        if fault and fault.when.kind == "answers" and self.record.answers >= fault.when.amount:
            await self._flushed()
            await self._fire()

    async def send(self, data: bytes) -> None:
        """Send all of it; after `half_close`, none. Raises `OSError` as send(2) does."""
        await self._say(data)

    async def _say(self, data: bytes, *, whole: bool = False) -> None:
        """Send all of it. Where an answer is whole with that, it is counted."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while data:
            if not await self._may_speak():
                return
            if self.record.ended or self.draining:
                await trio.sleep_forever()  # cancelled already
            fault, size = self.armed, len(data)
            if fault and fault.when.kind == "sent":
                size = min(size, int(fault.when.amount) - self.record.sent)
            if self._slice:
                size = min(size, self._slice)
            if self._rate:
                size = min(size, max(1, int(self._rate / 10)))
            size = await self._send(data[:size], whole=whole and size == len(data))
            data = data[size:]
            if fault and fault.when.kind == "sent" and self.record.sent >= fault.when.amount:
                await self._flushed()
                await self._fire()
            if self._rate:
                await trio.sleep(size / self._rate)  # what this fault is: bytes per second

    # The verbs: what a fault does, at once.

    def abort(self) -> None:
        """RST: close with SO_LINGER {on, 0}, everything read first, or the kernel would call it unread."""
        sockets.black_hole(self.sock)  # what came after the last look would be unread
        self._read_all()
        self._leave("abort")
        sockets.abort(self.sock)

    def close_unread(self) -> None:
        """RST: close with received bytes unread. Raises `Misuse` where nothing is unread."""
        waiting = sockets.unread(self.sock)
        if waiting:
            self._leave(f"close with {waiting} bytes unread")
        sockets.close_unread(self.sock)

    def close(self) -> None:
        """FIN, both directions at once, everything read first: what the peer sends after it is answered with RST."""
        self._read_all()
        self._leave("close")
        self.sock.close()

    def close_held(self) -> None:
        """Close, with a FIN that the kernel holds back: what the peer sends meets FIN-WAIT-1, and is answered with RST."""
        self._leave("close")
        with contextlib.suppress(OSError):  # the peer has reset it already
            self.sock.shutdown(socket.SHUT_RDWR)
        sockets.heal(self.sock)
        self.sock.close()

    def finish(self) -> None:
        """FIN, then read and throw away until the peer closes: the lingering close of web servers. Never RST."""
        self._say_fin()
        self._drain()

    def _drain(self) -> None:
        self.draining = True
        if self._task:
            self._task.cancel()

    def half_close(self) -> None:
        """FIN, and go on reading; what is said from now on is not sent."""
        self._say_fin()

    def vanish(self) -> None:
        """Be gone without FIN or RST. PermissionError without CAP_NET_ADMIN in the network namespace."""
        self.sock.setsockopt(
            socket.IPPROTO_TCP, sockets.TCP_REPAIR, 1
        )  # refused, where it is, before anything is written down
        self._leave("vanish")
        sockets.vanish(self.sock)

    def disconnect(self) -> None:
        """RST: connect(2) to AF_UNSPEC, everything read first."""
        self._read_all()
        self._leave("disconnect")
        sockets.disconnect(self.sock)
        self.sock.close()

    def crash(self, *, read: bool) -> None:
        """Give the connection to a process of its own, and kill that: its kernel closes what it had, with everything read
        or as it is."""
        if read:
            self._read_all()
        waiting = sockets.unread(self.sock)
        number = self.sock.fileno()
        with subprocess.Popen(["sleep", "infinity"], stdin=subprocess.DEVNULL, pass_fds=[number]) as owner:
            self._leave(f"killed with {waiting} bytes unread" if waiting else "killed")
            self.sock.close()
            owner.kill()

    def black_hole(self) -> None:
        """Hear nothing and say nothing: the peer's kernel gets no answer until `heal`, and times out in the end."""
        sockets.black_hole(self.sock)
        self.stall()

    def stop_reading(self) -> None:
        """Read nothing more, with the smallest receive buffer: the peer's send() waits, its kernel sees a zero window."""
        sockets.stop_reading(self.sock)
        if self._reading is None:
            self._reading = trio.Event()
        self.stall()

    def stall(self) -> None:
        """Say nothing more until `heal`; what comes is still acknowledged. A peer that closes ends the connection."""
        if self._audible is None:
            self._audible = trio.Event()

    def heal(self) -> None:
        """Undo `black_hole`, `stop_reading`, `stall`, `slow` and `slices`, and go on."""
        if self.record.ended:
            return
        sockets.heal(self.sock)
        if self._reading is not None:
            sockets.resume_reading(self.sock)
        self._slice, self._rate = 0, 0.0
        for gate in (self._audible, self._reading):
            if gate is not None:
                gate.set()
        self._audible = self._reading = None

    def slow(self, *, bytes_per_second: float) -> None:
        """Send no faster than that from now on."""
        self._rate = bytes_per_second

    def slices(self, *, size: int) -> None:
        """Send in segments of so many bytes from now on (TCP_NODELAY, MSG_EOR)."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._slice = size

    def garbage(self, data: bytes, *, size: int) -> None:
        """Send bytes that are no answer, below TLS where there is TLS, again and again until it is that size; then `finish`."""
        self._last_words = (data * (CHUNK // len(data)), size)
        self._drain()

    def early_response(self, data: bytes) -> None:
        """Answer before the request is read, and close with it unread."""
        self.record.sent += self.sock.send(data)
        self.close_unread()

    def shorten_fin_wait(self, *, seconds: int) -> None:
        """Let the kernel forget the connection that long after its FIN is acknowledged (TCP_LINGER2, tcp(7))."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, seconds)

    # What the server does.

    @property
    def armed(self) -> Fault | None:
        """The fault that is still to set in."""
        record = self.record
        return None if self.spared or record.ended or record.fired_after_seconds is not None else self._fault

    def met(self, fault: Fault) -> bool:
        """Are the bytes that set it off there? What was read of them and is not enough, `receive` gives first.

        Waits for nothing: raises `BlockingIOError` where there is nothing to read.
        """
        if fault.meets_next_byte(self.record, begun=False):
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        data = self.sock.recv(fault.may_read(self.record, CHUNK), socket.MSG_DONTWAIT)
        self.record.received += len(data)
        self._early, self._begun = data, bool(data)
        return self.record.received >= fault.when.amount

    def fire(self) -> None:
        """Let the fault set in, if it has one and has not yet."""
        fault = self.armed
        if fault is None:
            return
        assert fault.served.act
        # Written down before, because a client may look as soon as it is told.
        self.record.fired_after_seconds = self.record.age_seconds
        try:
            fault.served.act(self)
        except BaseException:
            self.record.fired_after_seconds = None
            raise
        self.record.changed()

    @property
    def how(self) -> str:
        """How it ended, where its task came to its end by itself."""
        if self._stopped:
            return "server closed"
        return "peer closed" if self._heard_fin else "closed"

    async def run(self, handler: Handler) -> None:
        """The connection's task: TLS, the handler, and what is left to do after a fault. Errors come out as they are."""
        if self.record.ended:  # before its task came to its first step
            return
        self.sock.setblocking(False)
        with trio.CancelScope() as self._task:
            if self.draining or self._stopped:
                self._task.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._tls and not await self._begin_tls(self._tls):
                return
            await handler(self)
            if self._audible is not None:
                await self._held(self._audible)  # a FIN would say something
            if not self.record.ended and self._stream and not self._said_fin:
                with trio.move_on_after(1):  # close_notify; arbitrary: nobody has to read it
                    await self._stream.aclose()
        if self.draining and not self.record.ended:
            with trio.CancelScope() as self._task:
                await self._finish()

    async def _finish(self) -> None:
        words, left = self._last_words
        at = 0
        while left:
            size = await self._send_raw(words[at : at + left])
            at, left = (at + size) % len(words), left - size
        self._say_fin()
        while data := await self._receive_raw(CHUNK):
            self._count(data)
        self._heard_fin = True

    def stop(self) -> None:
        """End its task."""
        self._stopped, self.draining = True, False
        if self._task:
            self._task.cancel()

    async def _begin_tls(self, context: ssl.SSLContext) -> bool:
        """The handshake. False where the client goes instead."""
        fault = self.armed
        if fault and fault.when.kind == "client-hello" and await self._byte_there():
            await self._fire()
        # Not https_compatible, which would leave out the close_notify of a healthy end too.
        self._stream = trio.SSLStream(_Raw(self), context, server_side=True)
        try:
            await self._stream.do_handshake()
        except trio.BrokenResourceError as error:
            if _cut_off(error):
                self._heard_fin = True
                return False
            raise
        fault = self.armed
        if fault and fault.when.kind == "handshake":
            await self._fire()
        return True

    def _say_fin(self) -> None:
        self._said_fin = True
        try:
            sockets.half_close(self.sock)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the peer has reset it already, which the next read tells
                raise

    async def _send_paced(self, data: bytes) -> bytes:
        """Send all but the end of it, and give that end. The kernel holds back what comes after it (`sockets.hold_back`), for
        5 s or more, and nothing is heard from then on: what the peer says to it is to meet `close_held`."""
        if len(data) < PACED + TAIL:
            raise Misuse(
                f"{self.record.fault}: an answer of {len(data)} bytes is too short to hold a FIN back: "
                f"take {PACED + TAIL} or more"
            )
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.send(data[: -PACED - TAIL])
        for at in range(-PACED - TAIL, -TAIL):
            await self.send(data[at : at + 1])
        # A program has no event for it. The last segment must not wait for an acknowledgement that is not heard.
        while sockets.clock(self.sock).unacknowledged:  # noqa: ASYNC110
            await trio.sleep(0.001)
        sockets.black_hole(self.sock)
        sockets.hold_back(self.sock)
        return data[-TAIL:]

    async def _fire(self) -> None:
        self.fire()
        await trio.lowlevel.checkpoint()  # what ended the connection ends its task here

    def _leave(self, how: str) -> None:
        """The socket is about to be closed; it is written down before, because a client may look as soon as it is told."""
        self.record.end(how)
        self._engine.forget(self.descriptor)  # whose number another connection may soon have
        if self._task:
            self._task.cancel()  # before the next line: who is cancelled waits no more
            trio.lowlevel.notify_closing(self.sock)

    async def _may_read(self) -> None:
        while self._reading is not None:
            await self._held(self._reading)

    async def _may_speak(self) -> bool:
        """Wait until it may. False where FIN was said, after which nothing is."""
        while self._audible is not None:
            await self._held(self._audible)
        if self._said_fin:
            await trio.lowlevel.checkpoint()
        return not self._said_fin

    async def _held(self, gate: trio.Event) -> None:
        """Wait for `heal`. A peer that closes meanwhile, or resets, ends the connection: nobody reads, who would be told."""
        watched = self._engine.watch(self.descriptor, self._left_alone, select.EPOLLRDHUP)
        try:
            await gate.wait()
        finally:
            if watched and not self.record.ended:
                self._engine.forget(self.descriptor)

    def _left_alone(self) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._read_all()
        self._leave(f"lost: {errno.errorcode[error]}" if error else "peer closed")

    def _read_all(self) -> None:
        with contextlib.suppress(OSError):  # the peer has reset it: nothing is unread
            while sockets.unread(self.sock):
                self._count(self.sock.recv(CHUNK, socket.MSG_DONTWAIT))

    def _count(self, data: bytes) -> None:
        if not self._tls:  # of TLS what the application got is counted
            self.record.received += len(data)

    async def _byte_there(self) -> bool:
        """Wait for something to read, and leave it there. False where the peer has closed instead."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            with contextlib.suppress(BlockingIOError):
                return bool(self.sock.recv(1, socket.MSG_PEEK))

    async def _receive(self, limit: int) -> bytes:
        if not self._stream:
            return await self._receive_raw(limit)
        try:
            return bytes(await self._stream.receive_some(limit))
        except trio.BrokenResourceError as error:
            if _cut_off(error):
                return b""
            raise

    async def _receive_raw(self, limit: int) -> bytes:
        while True:
            try:
                return self.sock.recv(limit)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock)

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

    def put(self, data: bytes) -> int:
        """One send(2), which is not counted."""
        # Slices that wait for the peer's window are put together again (tcp_sendmsg()), unless each is an end of a record.
        return self.sock.send(data, socket.MSG_EOR if self._slice else 0)

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
        if sockets.clock(self.sock).unsent:
            # With the least TCP_NOTSENT_LOWAT (tcp(7)) a socket is writable when nothing is unsent.
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1)
            await trio.lowlevel.wait_writable(self.sock)
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0)


def _cut_off(error: trio.BrokenResourceError) -> bool:
    """Did the peer close without close_notify, as many do?"""
    # Some take it for a close_notify (OP_IGNORE_UNEXPECTED_EOF, which Python 3.11.2 sets), an error in a handshake too.
    return isinstance(error.__cause__, ssl.SSLEOFError | ssl.SSLZeroReturnError)


class _Raw(trio.abc.Stream):
    """The connection below TLS.

    What SSLStream waits for in between may be shielded, so whether a fault has closed the socket meanwhile is asked here.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._head = b""  # of a record: its type, version and length (RFC 8446 section 5.1)
        self._left = 0  # bytes of that record

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._live._may_read()
        fault = self._live.armed
        if not (fault and fault.served.unread):
            return await self._live._receive_raw(max_bytes or CHUNK)
        # A client's last record of the handshake and its first request may come together, and what the fault leaves unread
        # must be left in the kernel: so no more than one record is taken.
        data = await self._live._receive_raw(self._left or 5 - len(self._head))
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            if len(self._head) == 5:
                self._head, self._left = b"", int.from_bytes(self._head[3:])
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        left = bytes(data)
        while left and await self._live._may_speak():
            try:
                left = left[self._live.put(left) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._live.sock)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._live.sock)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()  # the server closes the socket
