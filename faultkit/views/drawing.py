"""A ladder as a picture: to scale in time, idle times folded, each kind of segment told by its form and not only its colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

# What a segment looks like: how its line is drawn and what stands at its head. A legend shows them.
Kind = Literal["data", "ack", "syn", "fin", "rst", "again", "dropped", "icmp"]
KINDS: dict[Kind, str] = {
    "syn": "SYN: a ring at its tail",
    "data": "data: a full arrow",
    "ack": "acknowledgement: a thin line",
    "fin": "FIN: a bar at its head",
    "rst": "RST: a thick line and a cross at its head",
    "again": "sent again: a dashed line",
    "dropped": "dropped on the way: it ends in the middle",
    "icmp": "ICMP error: a dotted line",
}

_WIRE = 420  # pixels between the two lines of time
_CALLS, _BARE = 250, 110  # left and right of them, with calls to be told there and without
_STEP, _MOST = 26, 110  # the least and the greatest distance of two events, in pixels
TOP = 54


@dataclass(frozen=True, slots=True)
class Event:
    """Something to draw: a segment between the ends, a call at one of them, or a note across both."""

    time_ns: int | None
    what: Literal["segment", "call", "note", "gap"]
    text: str
    side: Literal[0, 1] = 0  # whose it is
    kind: Kind = "data"
    number: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """An event with its height in the picture; `pause` where an idle time was folded above it."""

    event: Event
    y: int
    at: str
    left: int
    right: int
    pause: str = ""

    @property
    def tail(self) -> int:
        return self.left if self.event.side == 0 else self.right

    @property
    def head(self) -> int:
        if self.event.kind == "dropped":
            return (self.left + self.right) // 2
        return self.right if self.event.side == 0 else self.left

    @property
    def towards(self) -> int:
        return 1 if self.event.side == 0 else -1


def duration(seconds: float) -> str:
    """ "12 ms", "1.50 s", "3 min 20 s"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


@dataclass(frozen=True, slots=True)
class Drawing:
    """The events with their places, and the measures of the picture."""

    rows: list[Placed]
    height: int
    width: int
    left: int
    right: int


def placed(events: Sequence[Event]) -> Drawing:
    """Where each event stands."""
    left = _CALLS if any(event.what == "call" for event in events) else _BARE
    right = left + _WIRE
    times = [event.time_ns for event in events if event.time_ns is not None]
    began = times[0] if times else 0
    gaps = sorted(max(b - a, 0) for a, b in pairwise(times))
    # A usual pause takes about a step more than none; what would take more than the greatest distance is folded.
    usual = gaps[len(gaps) * 2 // 3] if gaps else 1
    scale = _STEP / max(usual, 1000)
    found: list[Placed] = []
    y, last = TOP, None
    for event in events:
        pause = ""
        if event.time_ns is not None and last is not None:
            passed = max(event.time_ns - last, 0)
            distance = _STEP + passed * scale
            if distance > _MOST:
                pause, distance = duration(passed / 1e9), _STEP * 2.4
            y += round(distance)
        elif found:
            y += _STEP
        at = "" if event.time_ns is None else f"{(event.time_ns - began) / 1e6:.3f}"
        found.append(Placed(event, y, at, left, right, pause))
        last = event.time_ns if event.time_ns is not None else last
    return Drawing(found, y + 34, right + (_CALLS if left == _CALLS else _BARE // 2), left, right)
