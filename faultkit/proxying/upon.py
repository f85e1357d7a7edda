"""The toxics of one proxy, and putting them on its connections: drawn once for each connection and toxic."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping
from typing import Any

from faultkit.errors import Misuse
from faultkit.proxying import toxics
from faultkit.proxying.kinds import Meter
from faultkit.proxying.pair import Pair
from faultkit.proxying.side import Side
from faultkit.proxying.toxics import Toxic


class Taken(Misuse):
    """There is a toxic of that name."""


class NoToxic(Misuse):
    """There is no toxic of that name."""


class Upon:
    """By name, in their order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._toxics: dict[str, Toxic] = {}
        self._since: dict[str, int] = {}  # connections there were when it was added
        self._meters: dict[tuple[str, str], Meter] = {}  # of lines that connections share
        self.met: set[str] = set()  # those that were on a connection

    def __len__(self) -> int:
        return len(self._toxics)

    def listed(self) -> list[Toxic]:
        """Those towards the service in their order, then those towards the client."""
        every = list(self._toxics.values())
        return sorted(every, key=lambda one: one.stream == "downstream")

    def named(self, name: str) -> Toxic:
        """The one of that name. Raises `NoToxic`."""
        try:
            return self._toxics[name]
        except KeyError:
            raise NoToxic(f"there is no toxic {name!r} here: add it first") from None

    def add(self, toxic: Toxic, live: Iterable[Pair], count: int) -> None:
        """Behind the others, and on those connections; so many there were. Raises `Taken`."""
        if toxic.name in self._toxics:
            raise Taken(f"there is a toxic {toxic.name!r} already: remove it first, or give this one another name")
        self._toxics[toxic.name] = toxic
        self._since[toxic.name] = count
        for pair in live:
            self.put_on(pair, toxic)

    def update(self, name: str, attributes: Mapping[str, Any] | None, toxicity: object, live: Iterable[Pair]) -> Toxic:
        """Merge these in. Raises `Misuse`, `NoToxic`, and nothing has changed then."""
        before = self.named(name)
        toxic = self._toxics[name] = before.changed(attributes, toxicity)
        for pair in live:
            if toxic.toxicity != before.toxicity or toxic.fault or toxic.later != before.later:
                self._take_off(pair, before)
                self.put_on(pair, toxic)
            else:
                for side in (pair.client, pair.upstream):
                    if side.chain:
                        side.chain.update(name, toxic.attributes)
        return toxic

    def remove(self, name: str, live: Iterable[Pair]) -> None:
        """Raises `NoToxic`."""
        toxic = self.named(name)
        del self._toxics[name]
        for pair in live:
            self._take_off(pair, toxic)

    def put_on_all(self, pair: Pair) -> None:
        """A connection begins."""
        for toxic in self._toxics.values():
            self.put_on(pair, toxic)

    def put_on(self, pair: Pair, toxic: Toxic) -> None:
        """Put it on that connection, where that is one of those it is for."""
        first = toxic.attributes.get("connections", 0)
        if pair.over or (first and not 0 < pair.number - self._since[toxic.name] <= first):
            return
        if toxic.toxicity < 1 and self._chance(pair, toxic, "lot").random() >= toxic.toxicity:
            return
        self.met.add(toxic.name)
        for direction in toxic.directions:
            if pair.over:
                return
            source = _source(pair, direction)
            if toxic.fault:
                if not toxic.fault.served.door:
                    pair.arm(source.other, toxic.fault, toxic.name, toxic.attributes.get("after_ms", 0) / 1000)
            elif toxics.TYPES[toxic.type][0]:
                meter = None
                if toxic.attributes.get("shared"):
                    meter = self._meters.setdefault((toxic.name, direction), Meter())
                pair.chain(source).add(toxic, meter, functools.partial(self._chance, pair, toxic, direction))
                source.watch_if_open()

    def _take_off(self, pair: Pair, toxic: Toxic) -> None:
        if pair.over:
            return
        if toxic.fault:
            pair.disarm(toxic.name)
        for direction in toxic.directions:
            side = _source(pair, direction)
            if toxic.fault:
                pair.heal(side.other)
            elif side.chain:
                side.chain.remove(toxic.name)
                pair.unchain(side)

    def _chance(self, pair: Pair, toxic: Toxic, what: str) -> random.Random:
        """A generator of its own for each, so that a run can be repeated whatever comes in between."""
        return random.Random(f"{self.seed}:{pair.number}:{toxic.name}:{what}")


def _source(pair: Pair, direction: str) -> Side:
    return pair.client if direction == "upstream" else pair.upstream
