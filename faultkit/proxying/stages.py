"""What stands between two sides while something is on a direction: plain stages, each with what it holds and when that is due.

A stage is given pieces by `put`, and gives them on to `after.put`. It never refuses one; where it
is `full`, its source is not read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Protocol

from faultkit.proxying.loop import Loop, Timer

CHUNK = 65536  # bytes of one read


Attributes = Mapping[str, int | float]


class Mark:
    """What ends a direction, in its place behind the last byte."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word

    def __repr__(self) -> str:
        return self.word


# GONE: the other side is closed by a fault, so this one is too.
FIN, RST, CLOSE, GONE = Mark("FIN"), Mark("RST"), Mark("close"), Mark("gone")


class Urgent(bytes):
    """A byte with the URG pointer, which overtakes what stages hold (tcp(7), MSG_OOB)."""


class Slice(bytes):
    """Bytes that the kernel shall not put together with what follows (MSG_EOR)."""


Item = bytes | Mark


class Sink(Protocol):
    """Who is given the pieces."""

    def put(self, item: Item, /) -> None: ...


class Waits(Protocol):
    """What sets in later."""

    def begin(self) -> None:
        """Now."""

    def counted(self, requests: int, /) -> None:
        """So many requests there are, with this one."""


class Direction(Protocol):
    """The direction that a stage is on."""

    @property
    def loop(self) -> Loop: ...

    @property
    def began(self) -> float:
        """When its connection did, in the time of the loop."""

    @property
    def quiet_seconds(self) -> float:
        """How long its connection has been without a byte."""

    def wait(self, later: Waits, /) -> None:
        """Tell it of requests, and when it is fired."""

    def moved(self) -> None:
        """Something was given on: there may be room again."""

    def close(self, why: str) -> None:
        """End the connection: FIN to both ends, now."""

    def reset(self, why: str) -> None:
        """End the connection: RST to both ends, now."""


class Stage:
    """Passes everything on."""

    def __init__(self, on: Direction, after: Sink, attributes: Attributes, draw: Callable[[], random.Random]):
        self.on = on
        self.after = after
        self.attributes = attributes
        self.draw = draw
        self._chance: random.Random | None = None
        self._timer: Timer | None = None

    @property
    def full(self) -> bool:
        """Is nothing more to be read for it?"""
        return False

    @property
    def chance(self) -> random.Random:
        """Its own generator: the same for the same seed, connection and toxic."""
        if self._chance is None:
            self._chance = self.draw()
        return self._chance

    def start(self) -> None:
        """It is in its place."""

    def put(self, item: Item) -> None:
        """Take a piece."""
        self.after.put(item)

    def update(self, attributes: Attributes) -> None:
        """Go on with these."""
        self.attributes = attributes

    def flush(self) -> None:
        """Give on all that is held: it is about to be taken away."""
        self.stop()

    def stop(self) -> None:
        """Nothing more comes of it."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _after(self, due: float, call: Callable[[], None]) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.on.loop.at(due, call)
