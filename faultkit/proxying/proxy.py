"""One proxy: where it listens, the service behind it, the toxics on it, its connections. What is asked of it is done between two
turns of the loop, and never waits for data."""

from __future__ import annotations

import errno
import functools
import ipaddress
import random
import socket
import time
from collections.abc import Callable, Mapping
from select import EPOLLIN
from typing import Any, Literal, NamedTuple, get_args

from faultkit.errors import Misuse, Unable, exhausted
from faultkit.evidence.transcript import Address
from faultkit.proxying import resolving, toxics
from faultkit.proxying.down import Down
from faultkit.proxying.loop import Loop
from faultkit.proxying.pair import Pair
from faultkit.proxying.pipes import Pipes
from faultkit.proxying.resolving import Endpoint, Found
from faultkit.proxying.side import Side
from faultkit.proxying.stages import Meter
from faultkit.proxying.toxics import Toxic
from faultkit.serving.door import Door
from faultkit.serving.waiting import Waiting

BATCH = 32  # connections accepted in one turn; arbitrary
RETRY = 0.1  # seconds until accept() is tried again where there were no descriptors; arbitrary

UpstreamDown = Literal["reset", "close", "refuse", "hang"]


class Taken(Misuse):
    """There is a toxic of that name."""


class NoToxic(Misuse):
    """There is no toxic of that name."""


class Bytes(NamedTuple):
    """What went in one direction."""

    received: int  # read from where it comes from
    sent: int  # written to where it goes


class Event(NamedTuple):
    """Something that happened."""

    at: float  # time.time()
    proxy: str
    kind: str  # accepted, connected, upstream down, ended, toxic added, changed or removed, enabled, disabled, trouble
    connection: int | None
    text: str


class Proxy:
    """Passes what comes on to a service. Its methods may be called from any thread; each is done whole or not at all."""

    def __init__(
        self,
        loop: Loop,
        listen: str | tuple[str, int],
        upstream: str | tuple[str, int],
        *,
        name: str = "proxy",
        seed: int | None = None,
        upstream_down: UpstreamDown = "reset",
        beyond_loopback: bool = False,
        keep: bool = True,
    ) -> None:
        """It is bound and listens at `start`. Keep: connections that have ended stay in `connections`.

        Raises `Misuse` for what is no address.
        """
        if upstream_down not in get_args(UpstreamDown):
            raise Misuse(f"upstream_down={upstream_down!r} is none: it is one of {', '.join(get_args(UpstreamDown))}")
        self.loop = loop
        self.pipes: Pipes = loop.pipes
        self.name = name
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self.waiting = Waiting()
        self.tell: Callable[[Event], None] | None = None  # called in the loop for each event; it must not wait
        self.each: Callable[[Pair], None] | None = None  # the same for each connection that is over
        self.trouble: tuple[int, BaseException, Unable | None] | None = None
        self._down = upstream_down
        self._beyond = beyond_loopback
        self._keep = keep
        self._listen = resolving.endpoint(listen)
        self._upstream = resolving.endpoint(upstream)
        self._literal = resolving.literal(self._upstream)
        self._lookup = resolving.Lookup(loop)
        self._door: Door | None = None
        self._watched = False
        self._address: tuple[str, int] | None = None
        self._toxics: dict[str, Toxic] = {}
        self._since: dict[str, int] = {}  # connections there were when a toxic was added
        self._meters: dict[tuple[str, str], Meter] = {}  # of shared lines
        self._live: dict[int, Pair] = {}
        self._connections: list[Pair] = []
        self._count = 0
        self._passed = [0, 0, 0, 0]  # by connections that have ended: both counters upstream, both downstream

    # What it is.

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, or did, or is to: the port as it was given out once it was started."""
        return self._address or (self._listen.host, self._listen.port)

    @property
    def listen(self) -> str:
        """The same as text: "127.0.0.1:6380", "[::]:6380"."""
        return str(Endpoint(*self.address))

    @property
    def upstream(self) -> str:
        """The service: "localhost:6379"."""
        return str(self._upstream)

    @property
    def enabled(self) -> bool:
        """Does it listen?"""
        return self._door is not None

    @property
    def toxics(self) -> list[Toxic]:
        """Those towards the service in their order, then those towards the client."""
        every = list(self._toxics.values())
        return [one for one in every if one.stream != "downstream"] + [
            one for one in every if one.stream == "downstream"
        ]

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

    # Control.

    def start(self) -> None:
        """Listen. Raises `OSError` as bind(2) and getaddrinfo(3) do, `Misuse` beyond loopback where that was not asked for."""
        self.loop.call(self._start)

    def stop(self) -> None:
        """Stop listening, and end every connection with FIN at both ends. The port stays its own for the next `start`."""
        self.loop.call(self._stop)

    def change(self, *, listen: str | None = None, upstream: str | None = None, enabled: bool | None = None) -> None:
        """All of it or nothing. Another address ends the connections, and keeps the toxics."""
        self.loop.call(functools.partial(self._change, listen, upstream, enabled))

    def add(self, toxic: Toxic) -> Toxic:
        """Put it behind the others, on live connections too. Raises `Taken`."""
        self.loop.call(functools.partial(self._add, toxic))
        return toxic

    def update(self, name: str, attributes: Mapping[str, Any] | None = None, toxicity: object = None) -> Toxic:
        """Merge these in; what the toxic holds goes on under the new ones. Raises `Misuse`, `NoToxic`."""
        return self.loop.call(functools.partial(self._update, name, attributes, toxicity))

    def remove(self, name: str) -> None:
        """Take it away; what it held goes on at once, however slow its reader. Raises `NoToxic`."""
        self.loop.call(functools.partial(self._remove, name))

    def replace_toxics(self, wanted: list[Toxic]) -> None:
        """Have these and no others, at once."""
        self.loop.call(functools.partial(self._replace, wanted))

    def toxic(self, name: str) -> Toxic:
        """The one of that name. Raises `NoToxic`."""
        try:
            return self._toxics[name]
        except KeyError:
            raise NoToxic(f"there is no toxic {name!r} on {self.name}") from None

    def cut(self, number: int | None = None) -> None:
        """Reset every live connection at both ends, or that one."""
        self.loop.call(functools.partial(self._cut, number))

    # In the loop.

    def _start(self) -> None:
        if self._door is not None:
            return
        self._door = door = self._bound(self._listen, self._address)
        self._open(door)

    def _bound(self, listen: Endpoint, before: tuple[str, int] | None = None) -> Door:
        host = listen.host or "::"
        if before:
            host, port = before
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
        else:
            family, (host, port) = (resolving.literal(Endpoint(host, listen.port)) or _named(listen))[0]  # type: ignore[assignment]
        if not self._beyond and not ipaddress.ip_address(host).is_loopback:
            raise Misuse(
                f"proxy {self.name}: {listen} is not loopback, and others could reach what is broken on purpose: "
                "say beyond_loopback if that is meant"
            )
        door = Door(socket.AddressFamily(family), host, port)
        door.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts inherits that
        return door

    def _open(self, door: Door) -> None:
        door.open()
        self._address = (door.address.host, door.address.port)
        self._watch_door()
        self.say("enabled", None, self.listen)

    def _watch_door(self) -> None:
        if self._door and not self._watched:
            self._watched = True
            self.loop.watch(self._door.sock.fileno(), self, EPOLLIN)

    def _forget_door(self) -> None:
        if self._door and self._watched:
            self._watched = False
            self.loop.forget(self._door.sock.fileno())

    def _stop(self) -> None:
        if self._door is None:
            return
        self._forget_door()
        self._door.close()
        self._door = None
        self._end_all("disabled")
        self.say("disabled", None, self.listen)

    def _end_all(self, why: str) -> None:
        for pair in list(self._live.values()):
            pair.close(why)

    def _change(self, listen: str | None, upstream: str | None, enabled: bool | None) -> None:
        there = self._listen if listen is None else resolving.endpoint(listen)
        service = self._upstream if upstream is None else resolving.endpoint(upstream)
        run = self.enabled if enabled is None else enabled
        moved = listen is not None and not self._is_at(there)
        door = self._bound(there) if moved and run else None
        if not run or moved or service != self._upstream:
            if moved or not run:
                self._stop()
            else:
                self._end_all("upstream changed")
        if moved:
            self._listen, self._address = there, None
        self._upstream, self._literal = service, resolving.literal(service)
        if door:
            self._door = door
            self._open(door)
        elif run:
            self._start()

    def _is_at(self, listen: Endpoint) -> bool:
        """Is that where it listens already, by whatever name?"""
        if listen.port == 0 or listen.port != self.address[1]:
            return listen == self._listen and listen.port != 0
        found = resolving.literal(Endpoint(listen.host or "::", listen.port)) or _named(listen)
        return self.address in [address for _, address in found]

    # Toxics.

    def _add(self, toxic: Toxic) -> None:
        if toxic.name in self._toxics:
            raise Taken(f"there is a toxic {toxic.name!r} on {self.name} already")
        self._toxics[toxic.name] = toxic
        self._since[toxic.name] = self._count
        for pair in list(self._live.values()):
            self._put_on(pair, toxic)
        self.say("toxic added", None, f"{toxic.name}: {toxic.type}")

    def _update(self, name: str, attributes: Mapping[str, Any] | None, toxicity: object) -> Toxic:
        before = self.toxic(name)
        toxic = before.changed(attributes, toxicity)
        self._toxics[name] = toxic
        for pair in list(self._live.values()):
            if toxic.toxicity != before.toxicity:
                self._take_off(pair, before)
                self._put_on(pair, toxic)
            else:
                for side in (pair.client, pair.upstream):
                    if side.chain:
                        side.chain.update(name, toxic.attributes)
        self.say("toxic changed", None, name)
        return toxic

    def _remove(self, name: str) -> None:
        toxic = self.toxic(name)
        del self._toxics[name]
        for pair in list(self._live.values()):
            self._take_off(pair, toxic)
        self.say("toxic removed", None, name)

    def _replace(self, wanted: list[Toxic]) -> None:
        names = [toxic.name for toxic in wanted]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise Taken(f"two toxics are called {twice!r}")
        for name in list(self._toxics):
            self._remove(name)
        for toxic in wanted:
            self._add(toxic)

    def _put_on(self, pair: Pair, toxic: Toxic) -> None:
        first = toxic.attributes.get("connections", 0)
        if first and not 0 < pair.number - self._since[toxic.name] <= first:
            return
        if toxic.toxicity < 1 and self._chance(pair, toxic, "lot").random() >= toxic.toxicity:
            return
        for direction in toxic.directions if toxics.has_stage(toxic) else ():
            meter = None
            if toxic.attributes.get("shared"):
                meter = self._meters.setdefault((toxic.name, direction), Meter())
            draw = functools.partial(self._chance, pair, toxic, direction)
            pair.chain(_source(pair, direction)).add(toxic, meter, draw)

    def _take_off(self, pair: Pair, toxic: Toxic) -> None:
        for direction in toxic.directions:
            side = _source(pair, direction)
            if side.chain and not pair.over:
                side.chain.remove(toxic.name)
                pair.unchain(side)

    def _chance(self, pair: Pair, toxic: Toxic, what: str) -> random.Random:
        """A generator of its own for each, so that a run can be repeated whatever comes in between."""
        return random.Random(f"{self.seed}:{pair.number}:{toxic.name}:{what}")

    # Connections.

    def ready(self, _events: int, /) -> None:
        """Somebody waits to be accepted."""
        door = self._door
        assert door
        for _ in range(BATCH):
            try:
                sock, peer = door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if exhausted(error):
                    self.lacking(error)
                    self._forget_door()  # it would be readable all the time
                    self.loop.at(self.loop.now() + RETRY, self._watch_door)
                    return
                continue  # what waited is gone (accept(2))
            self._begin(sock, peer)
            if self._door is None:
                return

    def _begin(self, sock: socket.socket, peer: Address) -> None:
        self._count += 1
        pair = Pair(self, self._count, sock, peer)
        self._live[pair.number] = pair
        if self._keep:
            self._connections.append(pair)
        for toxic in self._toxics.values():
            self._put_on(pair, toxic)
        self.waiting.changed()
        if self.tell:
            self.say("accepted", pair, f"from {peer}")
        if pair.over:
            return
        if self._literal:
            pair.connect(self._literal)
        else:
            pair.client.watch_end()
            self._lookup.ask(self._upstream, functools.partial(self._found, pair))

    def _found(self, pair: Pair, found: Found | OSError) -> None:
        if pair.over:
            return
        if isinstance(found, OSError):
            self.upstream_down(pair, found)
            return
        if not self._beyond and not all(_is_near(address) for _, (address, _) in found):
            self.upstream_down(pair, OSError(errno.EACCES, f"{self.upstream} is outside the own network"))
            return
        pair.connect(found)

    def failed(self, error: Exception, /) -> None:
        """Nobody is accepted any more."""
        self._watched = False
        self._trouble(self._count + 1, error)

    def connected(self, pair: Pair) -> None:
        """The service has taken a connection."""
        if self.tell:
            self.say("connected", pair, f"to {self.upstream}")

    def upstream_down(self, pair: Pair, error: OSError) -> None:
        """The service has not."""
        word = errno.errorcode.get(error.errno or 0, str(error))
        if self.tell:
            self.say("upstream down", pair, word)
        Down(pair, f"upstream: {word}").as_told(self._down)

    def over(self, pair: Pair) -> None:
        """A connection is."""
        self._live.pop(pair.number, None)
        _add(self._passed, pair)
        self._watch_door()
        pair.changed()
        if self.each:
            self.each(pair)
        if self.tell:
            self.say("ended", pair, pair.ended or "")

    def _cut(self, number: int | None) -> None:
        for pair in list(self._live.values()):
            if number in (None, pair.number):
                pair.reset("cut")

    def broke(self, pair: Pair, error: BaseException) -> None:
        """Something of ours is broken."""
        self._trouble(pair.number, error)

    def lacking(self, error: OSError) -> None:
        """No descriptors, no memory."""
        self._trouble(self._count + 1, error)

    def _trouble(self, number: int, error: BaseException) -> None:
        lacking = exhausted(error)
        if self.trouble is None:
            self.trouble = (number, error, lacking)
            self.say("trouble", None, str(lacking or f"{type(error).__name__}: {error}"))

    def say(self, kind: str, pair: Pair | None, text: str) -> None:
        """Tell who listens."""
        if self.tell:
            self.tell(Event(time.time(), self.name, kind, pair.number if pair else None, text))


def _source(pair: Pair, direction: str) -> Side:
    return pair.client if direction == "upstream" else pair.upstream


def _add(total: list[int], pair: Pair) -> None:
    total[0] += pair.client.received
    total[1] += pair.upstream.sent
    total[2] += pair.upstream.received
    total[3] += pair.client.sent


def _named(listen: Endpoint) -> Found:
    told = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
    return sorted(
        ((family, (str(address[0]), int(address[1]))) for family, _, _, _, address in told),
        key=lambda found: found[0] != socket.AF_INET,
    )


def _is_near(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.is_loopback or address.is_private or address.is_link_local
