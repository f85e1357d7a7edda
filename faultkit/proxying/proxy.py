"""One proxy: where it listens, the service behind it, what is on it, its connections. What is asked of it is done between two
turns of the loop, and never waits for data."""

from __future__ import annotations

import errno
import functools
import ipaddress
import random
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from faultkit.errors import Misuse, Unable, exhausted
from faultkit.evidence.transcript import Address
from faultkit.proxying import resolving, toxics
from faultkit.proxying.down import Down, UpstreamDown
from faultkit.proxying.listening import Listening
from faultkit.proxying.loop import Loop
from faultkit.proxying.pair import Pair
from faultkit.proxying.resolving import Endpoint, Found
from faultkit.proxying.toxics import Toxic
from faultkit.proxying.upon import NoToxic as NoToxic
from faultkit.proxying.upon import Taken as Taken
from faultkit.proxying.upon import Upon
from faultkit.serving import unmet
from faultkit.serving.faults import Fault
from faultkit.serving.plan import Plan
from faultkit.serving.server import FaultNotMet
from faultkit.serving.waiting import Waiting
from faultkit.serving.which import Opening, Which

T = TypeVar("T")
CLOSED = "the proxy is closed: this goes inside the `with`, and for the fixtures inside the test"
Towards = Literal["client", "upstream", "both"]
STREAMS: Mapping[str, str] = {"client": "downstream", "upstream": "upstream", "both": "both"}
HEALTHY = Plan(lambda number: None)
TURNS = 1000  # of the loop, for what is under way; arbitrary


class Bytes(NamedTuple):
    """What went in one direction."""

    received: int  # read from where it comes from
    sent: int  # written to where it goes


class Event(NamedTuple):
    """Something that happened."""

    at: float  # time.time()
    proxy: str
    kind: str  # accepted, connected, upstream down, fault, ended, toxic added, changed or removed, enabled, disabled, trouble
    connection: int | None
    text: str


class Proxy:
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
        must_be_met: bool = False,
        keep: bool = True,
    ) -> None:
        """It is bound and listens at `start`. Keep: connections that have ended stay in `connections`. The plan's faults are done
        to the socket towards the client, or the service, or both.

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
        self._door = Listening(loop, resolving.endpoint(listen), beyond_loopback, self._begin, self.lacking)
        self._door.turned_away = self._turned_away
        self._upstream = resolving.endpoint(upstream)
        self._literal = resolving.literal(self._upstream)
        self._lookup = resolving.Lookup(loop)
        self._upon = Upon(random.SystemRandom().getrandbits(32) if seed is None else seed)
        self._live: dict[int, Pair] = {}
        self._connections: list[Pair] = []
        self._count = 0
        self._passed = [0, 0, 0, 0]  # by connections that have ended: both counters upstream, both downstream

    # What it is.

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<proxy at {self.listen} for {self.upstream}: {self._plan}; {unmet.came(self._count)}{closed}>"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, or did, or is to: the port as it was given out once it was started."""
        return self._door.address

    @property
    def host(self) -> str:
        """127.0.0.1, or where it was told to listen."""
        return self.address[0]

    @property
    def port(self) -> int:
        """Its own, also while it is disabled."""
        return self.address[1]

    @property
    def url(self) -> str:
        """`http://127.0.0.1:41234/`"""
        return f"http://{self.listen}/"

    @property
    def listen(self) -> str:
        """Its address as text: "127.0.0.1:6380", "[::]:6380"."""
        return str(Endpoint(*self.address))

    @property
    def upstream(self) -> str:
        """The service: "localhost:6379"."""
        return str(self._upstream)

    @property
    def seed(self) -> int:
        """What to give as `seed` to have the same lots, jitter and slices again."""
        return self._upon.seed if self._plan.seed is None else self._plan.seed

    @property
    def enabled(self) -> bool:
        """Does it have its port?"""
        return self._door.door is not None

    @property
    def toxics(self) -> list[Toxic]:
        """Those towards the service in their order, then those towards the client."""
        return self._upon.listed()

    @property
    def connections(self) -> list[Pair]:
        """Each connection in the order in which they were accepted; those that have ended only where they are kept."""
        return list(self._connections) if self._keep else list(self._live.values())

    @property
    def live(self) -> list[Pair]:
        """Those that go on."""
        return list(self._live.values())

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return self._count

    @property
    def passed(self) -> Mapping[str, Bytes]:
        """What went "upstream" and "downstream" so far, live connections too."""
        return self.loop.call(self._passed_now)

    def _passed_now(self) -> Mapping[str, Bytes]:
        total = list(self._passed)
        for pair in self._live.values():
            _add(total, pair)
        return {"upstream": Bytes(total[0], total[1]), "downstream": Bytes(total[2], total[3])}

    def wait_for_connection(self, number: int = 1, *, timeout_seconds: float = 5.0) -> Pair:
        """Wait until so many connections have been accepted, and give that one. Raises `TimeoutError`; not in an event loop."""
        self.loop.must_be_here()
        self.waiting.wait(
            lambda: self._count >= number, lambda: f"{unmet.came(self._count)}, not {number},", timeout_seconds
        )
        return self._connections[number - 1]

    async def await_connection(self, number: int = 1) -> Pair:
        """The same in asyncio or Trio; the caller's own timeout ends the wait."""
        await self.waiting.come(lambda: self._count >= number)
        return self._connections[number - 1]

    async def await_ended(self, number: int) -> None:
        """Wait until so many connections have ended."""
        await self.waiting.come(lambda: self._count - len(self._live) >= number)

    @property
    def upstream_port(self) -> int:
        """Of the service."""
        return self._upstream.port

    # Control.

    def start(self) -> None:
        """Listen. Raises `OSError` as bind(2) and getaddrinfo(3) do, `Misuse` beyond loopback where that was not asked for."""
        self._call(self._start)

    def stop(self) -> None:
        """Stop listening, and end every connection with FIN at both ends. The port stays its own for the next `start`."""
        self.loop.call(self._stop)

    def close(self) -> None:
        """The end: as `stop`, and nothing can be asked of it any more."""
        if not self.loop.closed:
            self.loop.call(self._close)

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

    def check(self) -> None:
        """Raise `Unable` where the machine had no more descriptors, and `FaultNotMet` where a fault or a toxic was never met.

        The end of the `with`, and of a test, does it too.
        """
        if self._complaint() and not self.loop.closed:
            self.loop.call(self._settle)
        self.check_crash()
        if sentence := self._complaint():
            raise FaultNotMet(sentence)

    def check_crash(self) -> None:
        """Raise what went wrong with the proxy itself."""
        if self.trouble is not None:
            number, error, lacking = self.trouble
            if lacking:
                raise Unable(f"port {self.port}, connection {number}: {lacking}") from error
            raise error

    async def acheck(self) -> None:
        """`check`, in the loop in which the proxy runs."""
        self.check()

    async def aclose(self) -> None:
        """`close`, in the loop in which the proxy runs."""
        self.close()

    @property
    def turned_away(self) -> bool:
        """Has a client met a closed door? Where a refusal is counted for the whole network namespace, another port's passes
        for it."""
        return self._door.has_turned_away

    @property
    def keeps_out(self) -> bool:
        """Does its fault let no connection in?"""
        return self._plan.door is not None

    @property
    def came(self) -> bool:
        """Has a client come, or been turned away at the door?"""
        return self._count > 0 or self.turned_away

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

    def _stop(self) -> None:
        if self.enabled:
            self._door.close()
            self._down.end()
            self._end_all("disabled")
            self.say("disabled", None, self.listen)

    def _call(self, work: Callable[[], T]) -> T:
        def unless_closed() -> T:
            if self._closed:
                raise Misuse(CLOSED)
            return work()

        if self.loop.closed:
            raise Misuse(CLOSED)
        return self.loop.call(unless_closed)

    def _close(self) -> None:
        self._stop()
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
            self._stop()
        elif service != self._upstream:
            self._end_all("upstream changed")
        if moved:
            self._door.move(there)
        self._upstream, self._literal = service, resolving.literal(service)
        if door:
            self._door.open(door)
            self.say("enabled", None, self.listen)
        elif run:
            self._start()

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

    # Connections.

    def _begin(self, sock: socket.socket, peer: Address) -> None:
        pair = self._record(sock, peer)
        self._live[pair.number] = pair
        if self.tell:
            self.say("accepted", pair, f"from {peer}")
        if self._which and not self._healed:
            pair.ask(functools.partial(self._choose, pair))
        elif self._plan is not HEALTHY and not self._healed and (fault := self._planned(pair.number)):
            self._arm(pair, fault)
        if len(self._upon):
            self._upon.put_on_all(pair)
        if pair.over or pair.orphaned:
            return
        if self._literal:
            self._found(pair, self._literal)
        else:
            pair.client.watch_end()
            self._lookup.ask(self._upstream, functools.partial(self._found, pair))

    def _record(self, sock: socket.socket | None, peer: Address | None) -> Pair:
        pair = Pair(self, self._count + 1, sock, peer)
        if self._keep:
            self._connections.append(pair)
        self._count += 1  # only now: another thread looks at it, and then for the record
        self.waiting.changed()
        return pair

    def _choose(self, pair: Pair, opening: Opening) -> None:
        """Is that connection meant? Then it gets the next fault."""
        assert self._which
        if self._which(opening):
            self._meant.append(pair)
            if fault := self._planned(len(self._meant)):
                self._arm(pair, fault)

    def _planned(self, number: int) -> Fault | None:
        fault = self._plan.of(number)
        return None if fault and fault.served.door else fault

    def _arm(self, pair: Pair, fault: Fault) -> None:
        for side in (pair.client, pair.upstream):
            if self._towards in ("both", pair.which(side)) and not pair.over:
                pair.arm(side, fault)

    def _turned_away(self, count: int, fault: Fault) -> None:
        for _ in range(count):
            pair = self._record(None, None)
            pair.fault = fault.title
            pair.meet(fault.name)
            pair.end("never accepted")
            pair.over = True
            pair.done()

    def _found(self, pair: Pair, found: Found | OSError) -> None:
        if pair.over:
            return
        if isinstance(found, list) and not self._beyond and not all(_is_near(host) for _, (host, _) in found):
            found = OSError(errno.EACCES, f"{self.upstream} is outside the own network")
        if isinstance(found, OSError):
            self.upstream_down(pair, found)
        else:
            pair.connect(found)

    def connected(self, pair: Pair) -> None:
        """The service has taken a connection."""
        if self.tell:
            self.say("connected", pair, f"to {self.upstream}")

    def upstream_down(self, pair: Pair, error: OSError) -> None:
        """The service has not."""
        word = errno.errorcode.get(error.errno or 0) or str(error)
        if self.tell:
            self.say("upstream down", pair, word)
        self._down.told(pair, f"upstream: {word}")

    def found_service(self, tell: Callable[[Found | OSError], None]) -> None:
        """Look the service up."""
        if self._literal:
            tell(self._literal)
        else:
            self._lookup.ask(self._upstream, tell)

    @property
    def door(self) -> Listening:
        """Where it listens."""
        return self._door

    def over(self, pair: Pair) -> None:
        """A connection is."""
        self._live.pop(pair.number, None)
        _add(self._passed, pair)
        self._door.watch_again()
        pair.changed()
        if self.each:
            self.each(pair)
        if self.tell:
            self.say("ended", pair, pair.ended or "")

    def met(self, pair: Pair, fault: str) -> None:
        """A fault has set in."""
        if self.tell:
            self.say("fault", pair, fault)

    def broke(self, pair: Pair, error: BaseException) -> None:
        """Something of ours is broken."""
        self._trouble(pair.number, error)

    def lacking(self, error: Exception) -> None:
        """No descriptors, no memory."""
        self._trouble(self._count + 1, error)

    def _trouble(self, number: int, error: BaseException) -> None:
        lacking = error if isinstance(error, Unable) else exhausted(error)
        if self.trouble is None:
            self.trouble = (number, error, lacking)
            self.say("trouble", None, str(lacking or f"{type(error).__name__}: {error}"))

    def say(self, kind: str, pair: Pair | None, text: str) -> None:
        """Tell who listens."""
        if self.tell:
            self.tell(Event(time.time(), self.name, kind, pair.number if pair else None, text))

    def _settle(self) -> None:
        """What clients have done already is in the kernel's queues, and may not have been looked at."""
        for _ in range(TURNS):
            if not self.loop.turn(0):
                return

    def _complaint(self) -> str | None:
        """Which fault or toxic was never met, in a sentence."""
        if not self._must_be_met:
            return None
        if self._which and self._plan.armed and self._connections and not self._meant:
            return unmet.nobody_meant(self._plan, self.port, self._count)
        if self._plan is not HEALTHY and (
            sentence := unmet.sentence(
                self._plan,
                self.port,
                self._meant if self._which else self.connections,
                shut=self._door.was_shut,
                turned_away=self.turned_away,
                own=False,
            )
        ):
            return sentence
        for toxic in self.toxics:
            if toxic.name not in self._upon.met and not (toxic.fault and toxic.fault.served.door):
                return f"{toxic.name} on port {self.port} was never met: {unmet.came(self._count)} while it was there"
        return None


def _add(total: list[int], pair: Pair) -> None:
    total[0] += pair.client.received
    total[1] += pair.upstream.sent
    total[2] += pair.upstream.received
    total[3] += pair.client.sent


def _is_near(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.is_loopback or address.is_private or address.is_link_local
