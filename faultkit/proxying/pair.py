"""One proxied connection: two sides, from the accept until both are closed. It is its own record."""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLOUT
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.errors import Misuse
from faultkit.evidence.transcript import Address
from faultkit.proxying.armed import Armed
from faultkit.proxying.chain import Chain
from faultkit.proxying.drain import Drain, unsent
from faultkit.proxying.resolving import Found
from faultkit.proxying.side import Side
from faultkit.proxying.stages import CHUNK, FIN, GONE, RST, Item, Mark, Waits
from faultkit.proxying.verbs import Upstream, Verbs, Words
from faultkit.serving.record import Connection, size
from faultkit.serving.which import More, Opening

if TYPE_CHECKING:
    from faultkit.proxying.loop import Loop
    from faultkit.proxying.pipes import Pipes
    from faultkit.proxying.proxy import Proxy
    from faultkit.serving.faults import Fault


class Pair(Connection):
    """What one connection through a proxy does: `received` from the client, `sent` to it, and the same of `upstream`."""

    __slots__ = (
        "_answered",
        "_later",
        "_record",
        "armed",
        "asking",
        "begun",
        "choose",
        "client",
        "found",
        "leaving",
        "loop",
        "orphaned",
        "pipes",
        "proxy",
        "upstream",
    )

    def __init__(self, proxy: Proxy, number: int, sock: socket.socket | None, peer: Address | None) -> None:
        self.proxy = proxy
        self.loop: Loop = proxy.loop
        self.pipes: Pipes = proxy.pipes
        self.client = Side(self, sock)
        self.upstream = Side(self, None)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.leaving: Drain | None = None  # the one that gets RST when all is sent
        self.found: Found = []  # addresses of the service that were not tried
        self.armed: list[Armed] = []  # faults that are to set in
        self.asking = False  # a request was begun and is not answered
        self.orphaned = False  # a fault has closed one side, and the other is to follow
        self._answered = True
        self._later: list[Waits] = []  # toxics that are to set in
        self._record: Upstream | None = None  # what a fault towards the service counts
        self.choose: Callable[[Opening], None] | None = None  # asked when its first bytes are there
        self.begun = False
        super().__init__(number, peer, "ok", proxy.waiting)

    # What the record says.

    @property
    def received(self) -> int:
        """Bytes read from the client."""
        return self.client.received

    @received.setter
    def received(self, count: int) -> None:
        self.client.received = count

    @property
    def sent(self) -> int:
        """Bytes sent to the client."""
        return self.client.sent

    @sent.setter
    def sent(self, count: int) -> None:
        self.client.sent = count

    @property
    def state(self) -> str:
        """ "connecting", "open", "client closed", "upstream closed", "closing", or "closed"."""
        if self.over or self.ended:
            return "closed"
        if not self.begun:
            return "connecting"
        if self.leaving:
            return "closing"
        if self.client.ended and self.upstream.ended:
            return "closing"
        if self.client.ended:
            return "client closed"
        return "upstream closed" if self.upstream.ended else "open"

    def document(self) -> dict[str, object]:
        return {
            **super().document(),
            "state": self.state,
            "received_from_upstream": self.upstream.received,
            "sent_to_upstream": self.upstream.sent,
            "toxics": [name for side in (self.client, self.upstream) if side.chain for name in side.chain.names],
        }

    def __repr__(self) -> str:
        fired = "".join(f", {met.fault} fired after {met.after_seconds:.4f} s" for met in self.met)
        return (
            f"<connection {self.number} from {self.peer}: {size(self.received)} in, {self.sent} out, upstream "
            f"{self.upstream.received} in, {self.upstream.sent} out{fired}, {self.ended or self.state}>"
        )

    # Its beginning.

    def connect(self, found: Found) -> None:
        """Connect to the service, at the first of these addresses that takes it."""
        family, address = found[0]
        self.found = found[1:]
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self.proxy.lacking(error)
            self.refused(error)
            return
        side = self.upstream
        side.sock, side.number = sock, sock.fileno()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = sock.connect_ex(address)
        if refusal == errno.EINPROGRESS:
            # Over loopback it is often there already.
            try:
                sock.getpeername()
            except OSError:
                self.loop.watch(side.number, _Connecting(self), EPOLLOUT)
                self.client.watch_end()
                return
        elif refusal:
            self.refused(OSError(refusal, "connect"))
            return
        self.connected()

    def connected(self) -> None:
        """The service has taken it: what there is goes to and fro from now on."""
        self.begun = True
        self.proxy.connected(self)
        self.upstream.watch()
        self.client.watch()
        for one in list(self.armed):
            one.begin()

    def refused(self, error: OSError) -> None:
        """The service has not taken it."""
        self.upstream.close()
        if self.found:
            self.connect(self.found)
        else:
            self.proxy.upstream_down(self, error)

    # What the sides tell.

    def half_closed(self) -> None:
        """FIN was said in one direction."""
        if self.client.said and self.upstream.said and self.leaving is None:
            self._over("closed")

    def lost(self, side: Side) -> None:
        """One side is gone: what it said goes on to the other, and then RST."""
        self.end(f"lost: {errno.errorcode.get(side.lost, 'ECONNRESET')} from the {self.which(side)}")

    def which(self, side: Side) -> str:
        """Its word."""
        return "client" if side is self.client else "upstream"

    def leave(self, side: Drain) -> None:
        """RST to that side, when the kernel has sent it what it was given."""
        self.leaving = side
        side.other.close(RST)
        if side.sock is None or not unsent(side):
            self.left()
        else:
            side.wait_for_sent()

    def left(self) -> None:
        """All is sent: RST."""
        if self.leaving:
            self.leaving.close(RST)
        self._over("reset")

    def side_gone(self) -> None:
        """One side is closed."""
        if self.client.sock is None and self.upstream.sock is None:
            self._over(self.ended or "closed")

    def unsaid(self, item: Item) -> None:
        """Something is to be said to a side that is not there: not yet, or no more."""
        if item is RST and not self.begun:
            self._over("reset")

    # What is counted, while something waits for that.

    @property
    def counting(self) -> bool:
        """Does something wait for what is counted?"""
        return bool(self.armed or self._later or self.choose)

    @property
    def quiet_seconds(self) -> float:
        """How long no byte has come or gone at the client's side."""
        sock = self.client.sock
        return min(sockets.quiet_seconds(sock), self.age_seconds) if sock is not None else 0.0

    def wait(self, later: Waits) -> None:
        """Tell it of requests, and when the proxy is fired."""
        self._later.append(later)
        self._count()

    def arm(self, side: Side, fault: Fault, toxic: str = "", after_seconds: float = 0.0) -> None:
        """Have the fault set in on that side: at its trigger, or so long after the connection began."""
        one = Armed(self, side, fault, toxic)
        if after_seconds:
            one.only_after(self.began + after_seconds)
        self.armed.append(one)
        side.armed.append(one)
        self._count()
        if self.begun or fault.when.kind == "accept":
            one.begin()

    def ask(self, choose: Callable[[Opening], None]) -> None:
        """Have that told of the first bytes, while they are still unread."""
        self.choose = choose
        self._count()

    def decide(self) -> bool:
        """Is it decided, by the first bytes that are there?"""
        sock, choose = self.client.sock, self.choose
        assert sock and choose
        first = sock.recv(CHUNK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        whole = len(first) < sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        try:
            choose(Opening(self.number, self.peer, first, whole))
        except More:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(first) + 1)
            return False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self.choose = None
        self._forget_done()
        return True

    def _count(self) -> None:
        self.chain(self.client)
        self.chain(self.upstream)
        if self.begun:
            self.client.watch()
            self.upstream.watch()

    def hear(self, side: Side) -> None:
        """Something was read from that side, and not passed on yet."""
        if side is self.client and not self.asking and self.counting:
            self.asking, self._answered = True, False
            self.requests += 1
            for later in list(self._later):
                later.counted(self.requests)

    def heard(self) -> None:
        """It is passed on."""
        for one in list(self.armed):
            one.counted()

    def spoke(self, side: Drain) -> None:
        """Something was sent to that side."""
        if side is self.client:
            self.asking = False
            if not self._answered and side.queue is None and not self.answers_more:
                self.answer()
        self.heard()

    @property
    def answers_more(self) -> bool:
        """Has the service said more than was read?"""
        service = self.upstream.sock
        return service is not None and sockets.unread(service) > 0

    def answer(self) -> None:
        """What the client asked is answered."""
        self._answered = True
        self.asking = False
        self.answers += 1

    def upstream_record(self, fault: str) -> Upstream:
        """What a fault towards the service counts."""
        if self._record is None:
            self._record = Upstream(self, fault)
        return self._record

    def comes_from_elsewhere(self, side: Side) -> bool:
        """May the peer of that side be in another network namespace? Over loopback it is in this one."""
        assert side.sock
        try:
            host = side.sock.getpeername()[0]
        except OSError:
            return False
        return not ipaddress.ip_address(host).is_loopback

    def apply(self, side: Side, verbs: Verbs) -> None:
        """What a fault has done to that side: to the bytes, and to the other side."""
        gone = side.sock is None or side.sock.fileno() == -1
        if gone:
            side.close()
        self._forget_done()
        if gone:
            self._orphan(side.other)
            return
        if verbs.draining:
            side.throw_away(Words(side, verbs))
            self._orphan(side.other)
            return
        if verbs.said_fin and not side.said:
            side.said = FIN
            self.half_closed()
        side.hold(verbs.deaf)
        side.hush(verbs.silent)
        chain = self.chain(side.other)
        for name in ("slow", "slices"):
            chain.remove(f"fault: {name}")
            if name in verbs.stages:
                kind, attributes = verbs.stages[name]
                chain.append(f"fault: {name}", kind(chain, side, attributes, random.Random))
        self.unchain(side.other)

    def _forget_done(self) -> None:
        """Those that have nothing more to do are forgotten."""
        for one in list(self.armed):
            if one.next is None:
                one.disarm()
                self.armed.remove(one)
                one.side.armed.remove(one)
        for side in (self.client, self.upstream):
            self.unchain(side)

    def disarm(self, toxic: str | None = None) -> None:
        """That toxic's faults set in no more, or none does; what they have done is undone."""
        for one in list(self.armed):
            if toxic in (None, one.toxic):
                one.disarm()
        self._forget_done()

    def heal(self, side: Side) -> None:
        """It hears and speaks again."""
        if side.verbs and side.sock is not None:
            side.verbs.heal()
            self.apply(side, side.verbs)

    def fire(self) -> Misuse | None:
        """Let what is to set in do so now. Gives why something cannot."""
        refused: Misuse | None = None
        for later in list(self._later):
            later.begin()
        self._later.clear()
        for one in list(self.armed):
            cannot = one.cannot_fire()
            if cannot is None:
                one.set_in()
            refused = refused or cannot
        self._forget_done()
        return refused

    def _orphan(self, other: Side) -> None:
        """What was read for it goes on, and then it is closed."""
        self.orphaned = True
        source = other.other
        if other.sock is None:
            self.side_gone()
        elif source.chain is not None:
            source.chain.put(GONE)
        else:
            other.put(GONE)

    # What toxics, faults and the proxy do.

    @property
    def began(self) -> float:
        """When it was accepted, in the time of the loop."""
        return self.opened_at

    def chain(self, side: Side) -> Chain:
        """The stages of what is read from that side, made where there are none."""
        if side.chain is None:
            side.unpipe()
            side.chain = Chain(side)
        return side.chain

    def unchain(self, side: Side) -> None:
        """Without stages it goes straight again."""
        if side.chain is not None and side.chain.empty:
            side.chain = None
            side.watch_if_open()

    def close(self, why: str) -> None:
        """FIN to both ends, now, after what the kernel has for them."""
        for side in (self.client, self.upstream):
            if side.queue:
                side.drain()
        self._over(why)

    def reset(self, why: str) -> None:
        """RST to both ends, now."""
        self._over(why, RST)

    def broke(self, error: Exception) -> None:
        """Something of ours is broken."""
        self._over(f"failed: {type(error).__name__}", RST)
        self.proxy.broke(self, error)

    def _over(self, how: str, mark: Mark = FIN) -> None:
        if self.over:
            return
        self.over = True  # nobody who is told on the way does it again
        self.end(how)
        for one in self.armed:
            one.disarm()
        self._later.clear()
        for side in (self.client, self.upstream):
            if side.chain:
                side.chain.stop()
            side.close(mark)
        self.proxy.over(self)


class _Connecting:
    """A connect(2) that is under way."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def ready(self, events: int, /) -> None:
        pair = self._pair
        sock = pair.upstream.sock
        assert sock
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error and not events & (EPOLLERR | EPOLLHUP):
            try:
                sock.getpeername()
            except OSError:
                return  # an event of another socket that had its number
        pair.loop.forget(sock.fileno())
        if error and error != errno.ECONNRESET:
            pair.refused(OSError(error, "connect"))
            return
        pair.upstream.lost = error  # it was taken and then reset: refused it would be ECONNREFUSED (tcp_reset())
        pair.connected()

    def failed(self, error: Exception, /) -> None:
        self._pair.broke(error)
