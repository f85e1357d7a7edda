"""One served connection: what it reads and says until its fault sets in, and after."""

from __future__ import annotations

import contextlib
import inspect
import select
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from faultkit import keywords, sockets
from faultkit.errors import Misuse
from faultkit.serving import peer, tracebacks
from faultkit.serving.engine import Engine, unshield
from faultkit.serving.line import Line
from faultkit.serving.record import Connection
from faultkit.serving.tls import Below, cut_off
from faultkit.serving.verbs import CHUNK
from faultkit.serving.which import More, Opening
from faultkit.serving.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from faultkit.serving.answers import Handler
    from faultkit.serving.faults import Fault

PACED = 10  # segments with data that the kernel does not pace: tcp_update_skb_after_send()
ROOM = 512  # bytes for what TLS adds to an answer that is to fit into one segment; arbitrary, it is some 22 for each 16 KiB
TAIL = 10  # bytes of the one after them, so seconds for which a FIN is held back: half as many at least


Choose = Callable[[Opening], "Fault | None"]


class Owner(Protocol):
    """Who has the connection."""

    def broke(self, live: Live, error: BaseException) -> None:
        """An error came while no task of its own waited."""

    def armed(self, live: Live) -> None:
        """Another of its faults is to set in: there may be something to wait for."""


class Live(Wire):
    """The server's end of one connection, as faults and handlers have it: `async def handler(conn)`.

    The verbs are those of `faultkit.sockets`. What ends the connection ends the handler too, at its next wait.
    """

    __slots__ = (
        "_begun",
        "_choose",
        "_early",
        "_fault",
        "_heard_fin",
        "_next",
        "_offered",
        "_owner",
        "_stopped",
        "_trio_task",
        "has_task",
        "saying",
        "spared",
    )

    def __init__(
        self,
        sock: socket.socket,
        record: Connection,
        fault: Fault | None,
        engine: Engine,
        tls: ssl.SSLContext | None,
        owner: Owner,
        *,
        tls_later: bool = False,
    ) -> None:
        super().__init__(sock, record, engine, None if tls_later else tls)
        self._offered = tls if tls_later else None
        self._owner = owner
        self.has_task = False
        self._trio_task: trio.lowlevel.Task | None = None
        self.spared = False  # the server was healed before the fault set in
        self._fault = fault  # the first
        self._next: Fault | None = None  # the one that is to set in, healed or not
        self._await(fault)
        self._choose: Choose | None = None  # which fault it has, by its first bytes
        self.saying = 0  # tasks that send
        self._stopped = False
        self._heard_fin = False
        self._early = b""  # read before there was a task
        self._begun = False  # part of a request was read

    # What a handler does.

    async def receive(self, limit: int = CHUNK) -> bytes:
        """Up to `limit` bytes as they come, b"" when the peer has closed its direction. Raises `OSError` as recv(2) does."""
        await trio.lowlevel.checkpoint()  # a peer that is always quicker must not keep the others waiting
        while True:
            await self.may_read()
            if self._choose is not None:
                await self._decide(self._choose)
                continue
            if self._early:
                data, self._early = self._early[:limit], self._early[limit:]
                return data
            fault = self.armed
            if fault and fault.meets_next_byte(self.record, begun=self._begun) and await self._byte_there():
                if self.armed is fault:  # another may have taken its place meanwhile
                    await self._fire()
                continue
            found = await self._take(max(1, fault.may_read(self.record, limit)) if fault else limit)
            if found is None:
                continue
            data = found
            if self.armed is not fault:
                fault = None if self.armed and self.armed.served.unread else self.armed  # it was read already
            self.record.received += len(data)
            self._begun = self._begun or bool(data)
            self._heard_fin = not data
            if fault and fault.when.kind == "bytes" and self.record.received >= fault.when.amount:
                await self._fire()
            elif fault and fault.when.kind == "read" and self.is_read(fault, self._peer_read()):
                await self._fire()  # a client that is quicker than a look at it has asked again since, or closed
            return data

    async def request(self) -> None:
        """Say that a request is there, whole: what `after_requests` counts."""
        await self.still_there()
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
        if fault and fault.when.kind == "mid-body" and body:
            middle = len(body) // 2
            await self.send(head + body[:middle])
            await self._flushed()
            await self._fire()
            head, body = b"", body[middle:]
        elif fault and fault.when.kind == "answers" and self.record.answers + 1 == fault.when.amount:
            if fault.served.holds_fin:
                head, body = b"", await self._send_paced(head + body)
            elif fault.served.ends_answer and (head or body) and not self.is_unix:
                head, body = b"", await self._send_corked(head + body)
        if head or body:
            await self._say(head + body, whole=True)
        else:
            self.record.answers += 1
        fault = self.armed
        if fault and fault.when.kind == "answers" and self.record.answers >= fault.when.amount:
            if not fault.served.ends_answer:
                await self._flushed()
            await self._fire()

    async def start_tls(self) -> None:
        """Go on in TLS, where that is `Tls(later=True)`: the handshake, as soon as the client begins it. Raises `Misuse` where it
        is not, and `trio.BrokenResourceError` where no handshake comes."""
        if self._offered is None:
            raise Misuse("conn.start_tls(): serve with tls=faultkit.Tls(later=True), and say it once")
        self._tls, self._offered = self._offered, None
        if not await self._begin_tls(self._tls):
            raise trio.BrokenResourceError("the client has closed where the handshake was to be")

    @property
    def offers_tls(self) -> bool:
        """May `start_tls` be said?"""
        return self._offered is not None

    @property
    def alpn(self) -> str | None:
        """The protocol that ALPN has agreed to; None without."""
        return self._stream.selected_alpn_protocol() if self._stream else None

    async def send(self, data: bytes) -> None:
        """Send all of it; after `half_close`, none. Raises `OSError` as send(2) does."""
        await self._say(data)

    async def _say(self, data: bytes, *, whole: bool = False) -> None:
        """Send all of it. Where an answer is whole with that, it is counted."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.saying += 1
        try:
            await self._say_all(data, whole)
        finally:
            self.saying -= 1
            self.spoke.set()

    async def _say_all(self, data: bytes, whole: bool) -> None:
        while data:
            await trio.lowlevel.checkpoint()
            if not await self.may_speak():
                return
            if self.draining:
                await trio.sleep_forever()  # cancelled already
            fault, size = self.armed, len(data)
            rate, healed = self._rate, self._healed  # as they are now: slow() may come while this is sent
            if fault and fault.when.kind == "sent":
                size = min(size, int(fault.when.amount) - self.record.sent)
            if self._slice:
                size = min(size, self._slice)
            if rate:
                size = min(size, max(1, int(rate / 10)))
            size = await self._send(data[:size], whole=whole and size == len(data))
            data = data[size:]
            if fault and fault.when.kind == "sent" and self.record.sent >= fault.when.amount:
                await self._flushed()
                await self._fire()
            if rate:
                with trio.move_on_after(size / rate):  # what this is: bytes per second
                    await (trio.Event() if healed is None else healed).wait()

    def _peer_read(self) -> int:
        """How many bytes the client's program has read, of which this side has just heard something; -1 where nobody tells."""
        read = peer.has_read(self.sock)
        if read is None and self._heard_fin and not (clock := sockets.clock(self.sock)).unacknowledged | clock.unsent:
            return self.raw  # it has closed: over bytes that it had not read that would be a reset
        return -1 if read is None else read

    async def _decide(self, choose: Choose) -> None:
        """Wait for the first bytes, which stay where they are, and ask which fault it has."""
        first, whole = b"", False
        while True:
            more = await self._more(len(first))
            whole = len(more) <= len(first)
            first = more
            try:
                fault = choose(Opening(self.record.number, self.record.peer, first, whole))
            except More:
                continue
            break
        self._choose, self._fault = None, fault
        if fault:
            if not self.spared:
                self.record.fault = fault.title
            self._await(fault)
            self._owner.armed(self)

    # What the server does.

    @property
    def armed(self) -> Fault | None:
        """The fault that is still to set in."""
        record = self.record
        return None if self.spared or record.ended or record.waits_for_tls else self._next

    def is_read(self, fault: Fault, read: int) -> bool:
        """Are so many bytes, read of all that this socket has sent, what that fault waits for?"""
        if fault.when.amount:
            return read - self.raw_before >= fault.when.amount
        return read >= self.raw and self.record.sent > 0 and not self.saying

    def ask(self, choose: Choose) -> None:
        """Its fault is chosen when its first bytes are there."""
        self._choose = choose

    @property
    def leaving(self) -> bool:
        """Has it ended, or has either side said its last word? The peer's may be in the kernel yet."""
        if self.draining or self._said_fin or self.record.ended or self.sock.fileno() == -1:
            return True
        if not self.is_unix:
            return sockets.state(self.sock) != "ESTABLISHED"
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def be(self, record: Connection, fault: Fault | None, choose: Choose | None) -> None:
        """Count as just come, with that record and that fault."""
        before, self.record = self.record, record
        if before.ended:
            record.end(before.ended)
        before.end("forgotten")
        before.over = True
        before.changed()
        self.clock.cancel()
        self.spared, self._fault, self._choose = False, fault, choose
        self._await(fault)
        self.raw_before = self.raw
        self.spoke.set()

    def stretch(self, latency_seconds: float, rate: float) -> None:
        """What comes is heard so much later, and no more than so many bytes per second pass, either way; 0: as it is."""
        self._pace = self._rate = rate
        self._line = Line(self.sock, self._engine, self._broke, latency_seconds=latency_seconds, rate=rate)

    def _await(self, fault: Fault | None) -> None:
        self._next = fault
        self.record.pending = fault.title if fault else None

    def spare(self) -> None:
        """The server was healed: no fault sets in any more, and from the first on they may again at `arm`."""
        self.spared, self.record.waits_for_tls = True, False
        self._next = self._fault  # what is pending by the record stays unmet, or met

    def arm(self) -> None:
        """The server is not healed any more."""
        self.spared = False
        if self._fault:
            self.record.fault = self._fault.title

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
        """Let the fault set in, if it has one and has not yet, and of those after it what comes with it."""
        fault = self.armed
        if fault is None:
            return
        while fault:
            if fault.served.speaks == "tls" and not self.in_tls:
                self.record.waits_for_tls = True  # it sets in with the handshake
                break
            assert fault.served.act
            # Written down before, because a client may look as soon as it is told.
            self.record.meet(fault.name)
            self._await(fault.then)
            try:
                fault.served.act(self)
            except BaseException:
                self.record.met.pop()
                self._await(fault)
                raise
            fault = self.armed if self.armed and self.armed.reached(self.record) else None
        self.record.done()
        if self.armed:
            self._owner.armed(self)

    def _broke(self, error: BaseException) -> None:
        self._owner.broke(self, error)

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
        self._trio_task = trio.lowlevel.current_task()
        with trio.CancelScope() as self._task:
            if self.draining or self._stopped:
                self._task.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._line:
                await self._line.opened()
            if self._tls and not await self._begin_tls(self._tls):
                return
            doing = handler(self)
            if not inspect.isawaitable(doing):
                raise Misuse(f"answer={keywords.called(handler)} gave {doing!r}: a handler is async def handler(conn)")
            await doing
            if self.record.ended is None and self.sock.fileno() == -1:
                raise Misuse(
                    "the handler closed conn.sock by itself: conn.close(), conn.abort() and the like end a connection"
                )
            while self._audible is not None and not self.record.ended:
                await self._held(self._audible)  # a FIN would say something
            if not self.record.ended and self._stream and not self._said_fin:
                with trio.move_on_after(1):  # close_notify; arbitrary: nobody has to read it
                    await self._stream.aclose()
            if not self.record.ended:
                self._read_all()  # a close over what was not read would be a reset, and could take the answer with it
        if self.draining and not self._stopped and not self.record.ended:
            with trio.CancelScope() as self._task:
                await self._finish()

    @property
    def where(self) -> str:
        """The line of the test's own at which its task waits, "test_it.py:12"; "" where it has none."""
        return tracebacks.waits_at(self._trio_task) if self._trio_task else ""

    def unshield(self) -> None:
        """Its handler has had its time: it is cancelled where it has shielded itself too."""
        if self._trio_task and self._task:
            unshield(self._trio_task, self._task)

    def start_beside(self, task: Callable[[Live], Awaitable[None]]) -> None:
        """Start a task that is not its own, and ends with `clock`."""
        self._engine.start_soon(task, self)

    def start_soon(self, task: Callable[[Live], Awaitable[None]]) -> None:
        """Give it a task."""
        self._forget()
        self.has_task = True
        self._engine.start_soon(task, self)

    def park(self, look: Callable[[], None]) -> None:
        """Look when there is something to read: it has no task."""
        if self._watch is None:
            self._watch = self._engine.watch(self.sock.fileno(), look, self._broke)

    def shut(self, how: str) -> None:
        """Close the socket. It has ended so, unless it is written down already."""
        if self.record.ended is None:
            if self.sock.fileno() != -1 and not self.is_unix:  # a handler may have closed it by itself
                sockets.heal(self.sock)  # or its FIN would never be acknowledged, and be sent again for minutes
            self.record.end(how)
        self._let_go()
        self.sock.close()

    async def _finish(self) -> None:
        if self._notifies and self._stream:
            await self._stream.aclose()  # says close_notify; what is below stays open
        words, left = self._last_words
        at = 0
        while left:
            size = await self._send_raw(words[at : at + left])
            at, left = (at + size) % len(words), left - size
        if not self._notifies:
            self._say_fin()
        while data := await self.receive_below(CHUNK):
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
        self._stream = trio.SSLStream(Below(self), context, server_side=True)
        try:
            await self._stream.do_handshake()
        except trio.BrokenResourceError as error:
            if cut_off(error):
                self._heard_fin = True
                return False
            await self._alert()
            raise
        self.in_tls = True
        due, self.record.waits_for_tls = self.record.waits_for_tls, False
        fault = self.armed
        if due or (fault and fault.when.kind == "handshake"):
            await self._fire()
        return True

    async def _alert(self) -> None:
        """Say why there is no handshake, where OpenSSL has written that: trio keeps it (SSLStream._retry). What the client has
        sent meanwhile is read, or a reset would take the alert with it."""
        alert = getattr(self._stream, "_outgoing", ssl.MemoryBIO()).read()
        if alert:
            with contextlib.suppress(OSError), trio.move_on_after(1):  # arbitrary: nobody has to read it
                self.put(alert)
                self._say_fin()
                while await self.receive_below(CHUNK):
                    pass

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
        while sockets.clock(self.sock).unacknowledged:
            await trio.sleep(0.001)
            await self.still_there()
        sockets.black_hole(self.sock)
        sockets.hold_back(self.sock)
        return data[-TAIL:]

    async def _send_corked(self, data: bytes) -> bytes:
        """Give what the kernel is to keep until the FIN, and to send with it in one segment (TCP_CORK, tcp(7);
        tcp_send_fin()): a peer that has read the whole answer has the FIN, however quick it is. A short answer is kept whole, of
        one that may fill a segment, which leaves at once, all but the last byte is sent before."""
        short = len(data) + ROOM < self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        if not short:
            await self.send(data[:-1])
        await self._flushed()  # what is not sent yet would be in the same segment, and could fill it
        if self.armed:  # heal() may have come meanwhile
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        return data if short else data[-1:]

    async def _fire(self) -> None:
        self.fire()
        await trio.lowlevel.checkpoint()  # what ended the connection ends its task here
