"""What is counted of a proxied connection while a fault or a toxic waits for that, and what is done when it has come."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.errors import Misuse
from faultkit.proxying.armed import Armed
from faultkit.proxying.chain import Chain
from faultkit.proxying.drain import Drain
from faultkit.proxying.side import Side
from faultkit.proxying.stages import CHUNK, FIN, GONE, Waits
from faultkit.proxying.verbs import Upstream, Verbs, Words
from faultkit.serving.record import Connection
from faultkit.serving.which import More, Opening

if TYPE_CHECKING:
    from faultkit.proxying.accepting import Accepting
    from faultkit.proxying.loop import Loop
    from faultkit.serving.faults import Fault


class Counted(Connection):
    """A connection of two sides, with what is to set in on them."""

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

    client: Side
    upstream: Side
    proxy: Accepting
    loop: Loop
    armed: tuple[Armed, ...]  # faults that are to set in
    asking: bool  # a request was begun and is not answered
    begun: bool  # the service has taken it
    choose: Callable[[Opening], None] | None  # asked when its first bytes are there
    orphaned: bool  # a fault has closed one side, and the other is to follow
    _answered: bool
    _later: tuple[Waits, ...]  # toxics that are to set in
    _record: Upstream | None  # what a fault towards the service counts

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
        self._later += (later,)
        self._count()

    def arm(self, side: Side, fault: Fault, toxic: str = "", after_seconds: float = 0.0) -> None:
        """Have the fault set in on that side: at its trigger, or so long after the connection began."""
        one = Armed(self, side, fault, toxic)
        if after_seconds:
            one.only_after(self.began + after_seconds)
        self.armed += (one,)
        side.armed += (one,)
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
            for later in self._later:
                later.counted(self.requests)

    def heard(self) -> None:
        """It is passed on."""
        for one in self.armed:
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
            if side.words is None:  # else it says them already
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
        for one in self.armed:
            if one.next is None:
                one.disarm()
                self.armed = _without(one, self.armed)
                one.side.armed = _without(one, one.side.armed)
        for side in (self.client, self.upstream):
            self.unchain(side)

    def disarm(self, toxic: str | None = None) -> None:
        """That toxic's faults set in no more, or none does; what they have done is undone."""
        for one in self.armed:
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
        for later in self._later:
            later.begin()
        self._later = ()
        for one in self.armed:
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

    # What a pair does.

    @property
    def began(self) -> float:
        """When it was accepted, in the time of the loop."""
        return self.opened_at

    def half_closed(self) -> None:
        """FIN was said in one direction."""
        raise NotImplementedError

    def side_gone(self) -> None:
        """One side is closed."""
        raise NotImplementedError

    def chain(self, side: Side) -> Chain:
        """The stages of what is read from that side."""
        raise NotImplementedError

    def unchain(self, side: Side) -> None:
        """Without stages it goes straight again."""
        raise NotImplementedError


def _without(one: Armed, armed: tuple[Armed, ...]) -> tuple[Armed, ...]:
    return tuple(other for other in armed if other is not one)
