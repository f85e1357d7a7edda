"""One proxy: where it listens, the service behind it, what is on it, its connections. What is asked of it is done between two
turns of the loop, and never waits for data."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from faultkit.errors import Misuse, Unable
from faultkit.proxying import resolving, toxics
from faultkit.proxying.accepting import Accepting
from faultkit.proxying.accepting import Towards as Towards
from faultkit.proxying.down import Down, UpstreamDown
from faultkit.proxying.listening import Listening
from faultkit.proxying.loop import Loop
from faultkit.proxying.pair import Pair
from faultkit.proxying.resolving import Endpoint
from faultkit.proxying.seen import HEALTHY
from faultkit.proxying.seen import Bytes as Bytes
from faultkit.proxying.seen import Event as Event
from faultkit.proxying.toxics import Toxic
from faultkit.proxying.upon import NoToxic as NoToxic
from faultkit.proxying.upon import Taken as Taken
from faultkit.proxying.upon import Upon
from faultkit.serving.faults import Fault
from faultkit.serving.plan import Plan
from faultkit.serving.waiting import Waiting
from faultkit.serving.which import Which

T = TypeVar("T")
CLOSED = "the proxy is closed: this goes inside the `with`, and for the fixtures inside the test"
STREAMS: Mapping[str, str] = {"client": "downstream", "upstream": "upstream", "both": "both"}


class Proxy(Accepting):
    """Passes what comes on to a service. Its methods may be called from any thread; each is done whole or not at all."""

    def __init__(
        self,
        loop: Loop,
        listen: str | tuple[str, int] | Endpoint,
        upstream: str | tuple[str, int] | Endpoint,
        *,
        name: str = "proxy",
        seed: int | None = None,
        plan: Plan = HEALTHY,
        which: Which | None = None,
        towards: Towards = "client",
        upstream_down: UpstreamDown = "reset",
        beyond_loopback: bool = False,
        listen_beyond: bool = False,
        must_be_met: bool = False,
        keep: bool = True,
    ) -> None:
        """It is bound and listens at `start`, beyond loopback where either of the two allows it. Keep: connections that have
        ended stay in `connections`. The plan's faults are done to the socket towards the client, or the service, or both.

        Raises `Misuse` for what is no address.
        """
        if upstream_down not in get_args(UpstreamDown):
            raise Misuse(f"upstream_down={upstream_down!r}: it is one of {', '.join(get_args(UpstreamDown))}")
        if towards not in STREAMS:
            raise Misuse(f"towards={towards!r}: it is client, upstream or both")
        self.loop = loop
        self.pipes = loop.pipes
        self.name = name
        self.waiting = Waiting()
        self.tell: Callable[[Event], None] | None = None  # called in the loop for each event; it must not wait
        self.each: Callable[[Pair], None] | None = None  # the same for each connection that is over
        self.trouble: tuple[int, BaseException, Unable | None] | None = None
        self._plan = plan
        self._which = which  # of the connections is meant; None: each
        self._meant: list[Pair] = []
        self._towards = towards
        self._must_be_met = must_be_met
        self._healed = False
        self._closed = False
        self._down = Down(self, upstream_down)
        self._beyond = beyond_loopback
        self._keep = keep
        self._door = Listening(
            loop, resolving.endpoint(listen), beyond_loopback or listen_beyond, self._begin, self.lacking
        )
        self._door.turned_away = self._turned_away
        self._lead_to(resolving.endpoint(upstream))
        self._lookup = resolving.Lookup(loop)
        self._upon = Upon(random.SystemRandom().getrandbits(32) if seed is None else seed)
        self._live: dict[int, Pair] = {}
        self._connections: list[Pair] = []
        self._count = 0
        self._passed = [0, 0, 0, 0]  # by connections that have ended: both counters upstream, both downstream

    # Control.

    def start(self) -> None:
        """Listen. Raises `OSError` as bind(2) and getaddrinfo(3) do, `Misuse` beyond loopback where that was not asked for."""
        self._call(self._start)

    def stop(self) -> None:
        """Stop listening, and end every connection with FIN at both ends. The port stays its own for the next `start`."""
        self.loop.call(self._stop)

    def close(self, why: str = "the proxy was closed") -> None:
        """The end: as `stop`, and nothing can be asked of it any more. Connections and events say why."""
        if not self.loop.closed:
            self.loop.call(functools.partial(self._close, why))

    def change(
        self,
        *,
        listen: str | Endpoint | None = None,
        upstream: str | Endpoint | None = None,
        enabled: bool | None = None,
    ) -> None:
        """All of it or nothing. Another address ends the connections, and keeps the toxics."""
        self._call(functools.partial(self._change, listen, upstream, enabled))

    def add(self, toxic: Toxic | str, *, towards: Towards | None = None) -> Toxic:
        """Put it behind the others, on live connections too: a toxic, or a fault by its name as `faultkit serve` writes it.

        Towards the client where nothing else is said. Raises `Taken`, and `Misuse` for what is none.
        """
        if towards is not None and towards not in STREAMS:
            raise Misuse(f"towards={towards!r}: it is client, upstream or both")
        if isinstance(toxic, str):
            toxic = toxics.made(toxic, stream=STREAMS[towards or "client"])
        elif towards is not None:
            toxic = toxic.towards(STREAMS[towards])
        self._call(functools.partial(self._add, toxic))
        return toxic

    def update(self, name: str, attributes: Mapping[str, Any] | None = None, toxicity: object = None) -> Toxic:
        """Merge these in; what the toxic holds goes on under the new ones. Raises `Misuse`, `NoToxic`."""
        return self._call(functools.partial(self._update, name, attributes, toxicity))

    def remove(self, name: str) -> None:
        """Take it away; what it held goes on at once, however slow its reader. Raises `NoToxic`."""
        self._call(functools.partial(self._remove, name))

    def replace_toxics(self, wanted: list[Toxic]) -> None:
        """Have these and no others, at once."""
        self._call(functools.partial(self._replace, wanted))

    def toxic(self, name: str) -> Toxic:
        """The one of that name. Raises `NoToxic`."""
        return self._upon.named(name)

    def fire(self) -> None:
        """Let what waits for its moment set in now, on every live connection, and at the door. Raises `Misuse` where that cannot
        be."""
        self._call(self._fire)

    def heal(self) -> None:
        """From now on all is well: no toxics, no faults, open doors; live connections hear and speak again."""
        self._call(self._heal)

    def cut(self, number: int | None = None) -> None:
        """Reset every live connection at both ends, or that one."""
        self._call(functools.partial(self._cut, number))

    async def acheck(self) -> None:
        """`check`, in the loop in which the proxy runs."""
        self.check()

    async def aclose(self) -> None:
        """`close`, in the loop in which the proxy runs."""
        self.close()

    # In the loop.

    def _start(self) -> None:
        if self.enabled:
            return
        if self._plan.door and self._plan.door.when.kind == "listen" and not self._healed:
            self._door.shut = self._plan.door
        self._door.waiting = None if self._healed else self._plan.waiting
        self._door.open()
        self._down.begin()
        self.say("enabled", None, self.listen)

    def _stop(self, why: str = "disabled") -> None:
        if self.enabled:
            self._door.close()
            self._down.end()
            self._end_all(why)
            self.say("disabled", None, self.listen if why == "disabled" else f"{self.listen}: {why}")

    def _call(self, work: Callable[[], T]) -> T:
        def unless_closed() -> T:
            if self._closed:
                raise Misuse(CLOSED)
            return work()

        if self.loop.closed:
            raise Misuse(CLOSED)
        return self.loop.call(unless_closed)

    def _close(self, why: str) -> None:
        self._stop(why)
        self._closed = True

    def _end_all(self, why: str) -> None:
        for pair in self.live:
            pair.close(why)

    def _change(self, listen: str | Endpoint | None, upstream: str | Endpoint | None, enabled: bool | None) -> None:
        there = self._door.wanted if listen is None else resolving.endpoint(listen)
        service = self._upstream if upstream is None else resolving.endpoint(upstream)
        run = self.enabled if enabled is None else enabled
        moved = listen is not None and not self._door.is_at(there)
        door = self._door.bound(there) if moved and run else None
        if moved or not run:
            self._stop("listens elsewhere" if moved and run else "disabled")
        elif service != self._upstream:
            self._end_all("upstream changed")
        if moved:
            self._door.move(there)
        self._lead_to(service)
        if door:
            self._door.open(door)
            self.say("enabled", None, self.listen)
        elif run:
            self._start()

    def _lead_to(self, service: Endpoint) -> None:
        self._upstream, self._literal = service, resolving.literal(service)
        self._allowed = self._literal if self._literal and self._may(self._literal) else None

    def _add(self, toxic: Toxic) -> None:
        self._upon.add(toxic, self.live, self._count)
        if toxic.fault and toxic.fault.served.door and toxic.fault.when.kind != "fire":
            self._shut(toxic.fault)
        self.say("toxic added", None, f"{toxic.name}: {toxic.type}")

    def _update(self, name: str, attributes: Mapping[str, Any] | None, toxicity: object) -> Toxic:
        toxic = self._upon.update(name, attributes, toxicity, self.live)
        self.say("toxic changed", None, name)
        return toxic

    def _remove(self, name: str) -> None:
        fault = self.toxic(name).fault
        self._upon.remove(name, self.live)
        if fault and fault.served.door:
            self._door.waiting = None
            self._door.admit()
        self.say("toxic removed", None, name)

    def _replace(self, wanted: list[Toxic]) -> None:
        names = [toxic.name for toxic in wanted]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise Taken(f"two toxics are called {twice!r}")
        for toxic in self.toxics:
            self._remove(toxic.name)
        for toxic in wanted:
            self._add(toxic)

    def _shut(self, fault: Fault) -> None:
        if fault.when.kind == "accept":
            self._door.waiting = fault
        else:
            self._door.close_door(fault)

    def _fire(self) -> None:
        doors = [one for one in (self._plan.door, *(toxic.fault for toxic in self.toxics)) if one and one.served.door]
        if not (self._plan.armed or len(self._upon)):
            raise Misuse("fire(): this proxy has nothing to set in: name a fault, or add a toxic with at_fire=1")
        self._door.greet()
        self._healed = False
        for fault in doors:
            self._shut(fault)
        refused: Misuse | None = None
        for pair in self.live:
            planned = self._planned(pair.number)
            if planned and not pair.armed and not pair.met:
                self._arm(pair, planned)
            refused = pair.fire() or refused
        if refused:
            raise refused

    def _heal(self) -> None:
        self._door.greet()
        self._healed = True
        self._door.waiting = None
        self._door.admit()
        for toxic in self.toxics:
            self._remove(toxic.name)
        for pair in self.live:
            pair.disarm()
            for side in (pair.client, pair.upstream):
                pair.heal(side)

    def _cut(self, number: int | None) -> None:
        for pair in self.live:
            if number in (None, pair.number):
                pair.reset("cut")
