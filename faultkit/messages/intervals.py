"""What the times of many lines say, and no more than that: an interval, or a moment, that chance does not make."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field

from faultkit.messages.times import Moment

MOST = 1024  # spans, and different gaps, that are kept; arbitrary
LATE = 60.0  # seconds by which lines are out of order where several write at once; what is older begins anew; arbitrary
WAITING = 256  # lines that are kept until those before them must have come; arbitrary
CHANCE = 1e-5  # how seldom gaps that nothing governs may look governed; arbitrary
MAJORITY = 0.7  # of the gaps; arbitrary
# Who fails writes several lines at once: lines are one where less than that is between them. For each, the gaps are counted.
TOGETHER = (0.5, 2.0, 10.0, 60.0, 300.0)  # seconds


@dataclass
class Gaps:
    """How much is between things, in seconds: how often each, rounded."""

    counts: Counter[float] = field(default_factory=Counter)
    other: int = 0  # of which nobody knows how much, and the rarest
    coarse: bool = False  # some of the times were in whole seconds

    def add(self, gap: float, coarse: bool) -> None:
        """One more."""
        self.counts[rounded(gap)] += 1
        self.coarse |= coarse
        if len(self.counts) > MOST:
            kept = Counter(dict(self.counts.most_common(MOST // 2)))
            self.other += self.counts.total() - kept.total()
            self.counts = kept

    def usual(self, least: float = 0.0) -> float | None:
        """The gap that most of them are, within 3 %; None where there is none, or where it may be chance. None was less than
        `least`."""
        total = self.counts.total() + self.other
        resolution = 1.0 if self.coarse else 0.1
        for gap, _ in self.counts.most_common(3):
            if gap < max(1.0, 2 * resolution) or gap <= least:
                continue
            within = max(0.25, 0.03 * gap)
            near = sum(number for other, number in self.counts.items() if abs(other - gap) <= within)
            # Of what comes at random, whatever the rate, no more than this share is so near to any one gap.
            share = min(1.0, (2 * within + resolution) / ((gap - least) * math.e))
            if near >= MAJORITY * total and _by_chance(near, total, share) < CHANCE:
                return gap
        return None


def rounded(gap: float) -> float:
    """As gaps are counted."""
    return round(gap, 1) if gap < 10 else float(round(gap))


def _by_chance(near: int, total: int, share: float) -> float:
    """How probable it is at most that so many of so many are near one gap, whichever it is: Chernoff's bound for each."""
    part = near / total
    if part <= share:
        return 1.0
    divergence = part * math.log(part / share)
    if part < 1:
        divergence += (1 - part) * math.log((1 - part) / (1 - share))
    return total * math.exp(-total * divergence)


@dataclass
class Times:
    """When something came, in bounded memory: how many in each span, and the gaps between them."""

    bins: Counter[int] = field(default_factory=Counter)
    width: float = 1.0  # seconds of a span: doubled where there would be too many
    first: float | None = None
    last: float | None = None
    number: int = 0
    zoned: int = 0  # of them
    jumps: int = 0  # how often the next was far before the newest
    _waiting: list[float] = field(default_factory=list)
    _newest: float | None = None
    _before: float | None = None
    _begun: list[float | None] = field(default_factory=lambda: [None] * len(TOGETHER))
    _gaps: list[Gaps] = field(default_factory=lambda: [Gaps() for _ in TOGETHER])
    _coarse: bool = False

    def add(self, moment: Moment) -> None:
        """One more, at that time."""
        at = moment.at
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        self.number += 1
        self.zoned += moment.zoned
        self._coarse |= moment.coarse
        self._bin(at)
        if self._newest is not None and at < self._newest - LATE:
            self.jumps += 1
            self.cut()
        heapq.heappush(self._waiting, at)
        self._newest = at if self._newest is None else max(self._newest, at)
        while self._waiting and (self._waiting[0] < self._newest - LATE or len(self._waiting) > WAITING):
            self._in_order(heapq.heappop(self._waiting))

    def cut(self) -> None:
        """What comes next does not follow: it is of another file."""
        while self._waiting:
            self._in_order(heapq.heappop(self._waiting))
        self._newest = self._before = None
        self._begun = [None] * len(TOGETHER)

    def _in_order(self, at: float) -> None:
        before, self._before = self._before, at
        for place, together in enumerate(TOGETHER):
            begun = self._begun[place]
            if begun is not None and before is not None and at - before < together:
                continue
            if begun is not None:
                self._gaps[place].add(at - begun, self._coarse)
            self._begun[place] = at

    def _bin(self, at: float) -> None:
        self.bins[int(at // self.width)] += 1
        while len(self.bins) > MOST:
            self.width *= 2
            wider: Counter[int] = Counter()
            for place, number in self.bins.items():
                wider[place // 2] += number
            self.bins = wider

    @property
    def comparable(self) -> bool:
        """Are they of one clock, and in order? Those with a zone and those without are hours apart."""
        return self.zoned in (0, self.number) and self.jumps * 20 <= self.number

    def chart(self, begin: float, end: float, columns: int) -> list[int]:
        """How many in each of so many equal parts of that span of time."""
        counts = [0] * columns
        span = max(end - begin, 1e-9)
        for place, number in self.bins.items():
            middle = min(max((place + 0.5) * self.width, begin), end)
            counts[min(columns - 1, int((middle - begin) / span * columns))] += number
        return counts

    def interval(self) -> float | None:
        """The seconds from one to the next, where most are alike; None where they are not, or where it may be chance."""
        if not self.comparable:
            return None
        self.cut()
        for together, gaps in zip(TOGETHER, self._gaps, strict=True):
            gap = gaps.usual(together)
            if gap is not None and together <= 0.2 * gap:
                return gap
        return None

    def burst(self, seconds: float = 10.0) -> tuple[float, float, int] | None:
        """From when to when most of them came, and how many, where that is a moment."""
        if self.number < 5 or self.first is None or self.last is None or not self.comparable:
            return None
        if self.last - self.first <= seconds:
            return self.first, self.last, self.number
        if self.width > seconds:
            return None
        places = sorted(self.bins)
        window = max(1, int(seconds / self.width))
        best = max(places, key=lambda place: sum(self.bins[place + more] for more in range(window)))
        number = sum(self.bins[best + more] for more in range(window))
        if number < 0.8 * self.number:
            return None
        inside = [place for place in places if best <= place < best + window]
        return inside[0] * self.width, (inside[-1] + 1) * self.width, number
