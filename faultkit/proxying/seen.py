"""What a proxy is and has seen: its address, its toxics, its connections, what it complains of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from faultkit.errors import Unable
from faultkit.proxying.listening import Listening
from faultkit.proxying.loop import Loop
from faultkit.proxying.pair import Pair
from faultkit.proxying.resolving import Endpoint
from faultkit.proxying.toxics import Toxic
from faultkit.proxying.upon import NoToxic as NoToxic
from faultkit.proxying.upon import Taken as Taken
from faultkit.proxying.upon import Upon
from faultkit.serving import unmet
from faultkit.serving.plan import Plan
from faultkit.serving.server import FaultNotMet
from faultkit.serving.waiting import Waiting
from faultkit.serving.which import Which

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


class Seen:
    """As much of a proxy as can be looked at."""

    loop: Loop
    name: str
    waiting: Waiting
    trouble: tuple[int, BaseException, Unable | None] | None
    _door: Listening
    _upstream: Endpoint
    _plan: Plan
    _which: Which | None
    _meant: list[Pair]
    _must_be_met: bool
    _upon: Upon
    _live: dict[int, Pair]
    _connections: list[Pair]
    _count: int
    _passed: list[int]
    _keep: bool
    _closed: bool

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
            add(total, pair)
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


def add(total: list[int], pair: Pair) -> None:
    total[0] += pair.client.received
    total[1] += pair.upstream.sent
    total[2] += pair.upstream.received
    total[3] += pair.client.sent
