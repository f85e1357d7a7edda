"""The stages of one direction of one connection, in the order of the proxy's toxics. It is there only while one of them is."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from faultkit.proxying.kinds import Bandwidth, Meter
from faultkit.proxying.later import Later
from faultkit.proxying.loop import Loop
from faultkit.proxying.stages import Attributes, Item, Sink, Stage, Urgent, Waits
from faultkit.proxying.toxics import TYPES, Toxic

if TYPE_CHECKING:
    from faultkit.proxying.side import Side


class Chain:
    """What is read from a side, on its way to the other. The last stage gives to that."""

    def __init__(self, source: Side) -> None:
        self._source = source
        self._stages: dict[str, Stage] = {}  # by the toxic's name, in order

    @property
    def loop(self) -> Loop:
        """Whose timers they have."""
        return self._source.pair.loop

    @property
    def began(self) -> float:
        """When the connection did."""
        return self._source.pair.began

    @property
    def quiet_seconds(self) -> float:
        """How long nothing has come or gone."""
        return self._source.pair.quiet_seconds

    def wait(self, later: Waits) -> None:
        """Tell it of requests, and when it is fired."""
        self._source.pair.wait(later)

    @property
    def names(self) -> list[str]:
        """The toxics that are on it."""
        return list(self._stages)

    @property
    def room(self) -> bool:
        """May more be read?"""
        return not any(stage.full for stage in self._stages.values())

    def put(self, item: Item) -> None:
        """Take what was read."""
        if isinstance(item, Urgent):
            self._source.other.put(item)
            return
        first: Sink = next(iter(self._stages.values()), self._source.other)
        first.put(item)

    def moved(self) -> None:
        """There may be room again."""
        self._source.watch_if_open()

    def close(self, why: str) -> None:
        """End the connection."""
        self._source.pair.close(why)

    def reset(self, why: str) -> None:
        """End the connection."""
        self._source.pair.reset(why)

    def add(self, toxic: Toxic, meter: Meter | None, draw: Callable[[], random.Random]) -> None:
        """Put its stage behind the others."""
        kind, _ = TYPES[toxic.type]
        if kind is None:
            return
        stage = kind(self, self._source.other, toxic.attributes, draw)
        if isinstance(stage, Bandwidth) and meter:
            stage.meter = meter
        self.append(toxic.name, Later(stage, self._source.other) if toxic.later else stage)

    def append(self, name: str, stage: Stage) -> None:
        """Put that one behind the others."""
        if self._stages:
            list(self._stages.values())[-1].after = stage
        self._stages[name] = stage
        stage.start()

    def update(self, name: str, attributes: Attributes) -> None:
        """Let its stage go on with these."""
        if stage := self._stages.get(name):
            stage.update(attributes)
            self._source.watch_if_open()

    def has(self, name: str) -> bool:
        """Is it on this direction?"""
        return name in self._stages

    def remove(self, name: str) -> None:
        """Take its stage away; what it held goes on at once."""
        stage = self._stages.get(name)
        if stage is None:
            return
        stage.flush()
        self._stages.pop(name, None)
        for earlier in self._stages.values():
            if earlier.after is stage:
                earlier.after = stage.after
        self._source.watch_if_open()

    @property
    def empty(self) -> bool:
        """Is nothing left on the direction?"""
        return not self._stages and not self._source.pair.counting

    def stop(self) -> None:
        """The connection is over."""
        for stage in self._stages.values():
            stage.stop()
        self._stages.clear()
