"""What a chain of timeouts is made of, from the client to the server. Pure: durations are seconds, as `Decimal`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from faultkit.nesting.settings import Place

Kind: TypeAlias = Literal["keep-alive", "request", "silence"]
RULES: Final[dict[Kind, str]] = {
    "keep-alive": "who reuses a connection gives it up before the other end closes it",
    "request": "who works on it ends it before the one who waits gives up",
    "silence": "a connection speaks or ends before something in between forgets it",
}

NEVER: Final = Decimal("Infinity")
OFF: Final = Decimal(0)

# The causes that count silence, and whether TCP keepalive breaks it for them: a router or a firewall sees segments, a proxy
# sees bytes, and its own kernel answers the probes (load-balancer-idle --tcp-keepalive).
MIDDLEBOXES: Final[dict[str, bool]] = {"idle-firewall": True, "nat-expiry": True, "load-balancer-idle": False}


@dataclass(frozen=True, slots=True)
class Side:
    """What a hop does with its connections on one side. None: it is not said."""

    idle: Decimal | None = None
    tcp_keepalive: Decimal | None = None  # TCP_KEEPIDLE
    heartbeat: Decimal | None = None  # of the application: a ping, a comment line


@dataclass(frozen=True, slots=True)
class Hop:
    """A program. Its downstream side is the client's, its upstream side the server's."""

    name: str
    downstream: Side = Side()
    upstream: Side = Side()
    request: Decimal | None = None  # how long it waits for an answer; of the last one: works on it


@dataclass(frozen=True, slots=True)
class Middlebox:
    """Something between two hops that forgets a silent connection, by the name of its cause."""

    name: str
    cause: str
    forgets: Decimal


Chain: TypeAlias = Sequence[Hop | Middlebox]


@dataclass(frozen=True, slots=True)
class Timer:
    """One timeout: whose, how long, which, and what its program calls it."""

    hop: str
    seconds: Decimal
    place: Place | None
    setting: str

    def __str__(self) -> str:
        return f"{self.hop} {spelled(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two timeouts of which the first must be the shorter one. Where it is not: why that hurts, the cause, the remedy."""

    kind: Kind
    shorter: Timer
    longer: Timer
    nests: bool
    state: str  # "5 s apart", "equal"
    cause: str
    why: str = ""
    remedy: str = ""


def spelled(seconds: Decimal) -> str:
    """65 s, 0.5 s, never, off."""
    if seconds in (NEVER, OFF):
        return "never" if seconds else "off"
    return f"{seconds.normalize():f} s"
