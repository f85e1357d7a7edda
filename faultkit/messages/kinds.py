"""The kinds of failure that a log holds: each counted, with its times and whom it names, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from faultkit.messages import likely
from faultkit.messages.answering import Reading
from faultkit.messages.intervals import Gaps, Times

NAMES = 1000  # different peers that are counted of each kind; arbitrary
EXAMPLE = 400  # characters of an example; arbitrary


class Names:
    """Who is named how often: of more than `NAMES` the rarest are forgotten."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.more = False

    def add(self, name: str) -> None:
        """Once more."""
        self._counts[name] += 1
        if len(self._counts) > NAMES:
            self._counts, self.more = Counter(dict(self._counts.most_common(NAMES // 2))), True

    def top(self, number: int = 10) -> list[tuple[str, int]]:
        """The most frequent."""
        return self._counts.most_common(number)

    def __len__(self) -> int:
        return len(self._counts)


@dataclass
class Kind:
    """One kind of failure."""

    key: str
    reading: Reading  # of its first line
    example: str
    count: int = 0
    times: Times = field(default_factory=Times)
    servers: Names = field(default_factory=Names)
    clients: Names = field(default_factory=Names)
    after: Gaps = field(default_factory=Gaps)  # since the line before that names the same server

    @property
    def program(self) -> str:
        """Who wrote it; "" where nobody knows."""
        return self.reading.told.program if self.reading.told else _first(self.reading)

    @property
    def since(self) -> float | None:
        """How long after the last line about that server most of them come, in seconds."""
        return self.after.usual() if self.times.comparable else None

    def when(self, begin: float | None, end: float | None) -> list[str]:
        """What its times say, as sentences."""
        said = []
        every = self.times.interval()
        if (gap := self.since) is not None and gap != every:  # else the line before is the last failure
            said.append(f"{_seconds(gap)} after the line before about the same server{_whose(gap)}")
        if (gap := every) is not None:
            said.append(f"every {_seconds(gap)}: a job or a check that runs then, or a timeout{_whose(gap)}?")
        burst = self.times.burst()
        if burst is not None and begin is not None and end is not None and end - begin > 60:
            first, last, number = burst
            some = "all" if number == self.count else f"{number} of {self.count}"
            said.append(f"{some} within {_seconds(max(last - first, 1))} of {clock(first)}: a restart?")
        return said


def _first(reading: Reading) -> str:
    return reading.found[0].entry.program if reading.found else ""


def _seconds(number: float) -> str:
    return f"{number:.3g} s" if number < 1000 else f"{number:.0f} s"


def _whose(seconds: float) -> str:
    row = likely.timer(seconds)
    return f" ({row['whose']})" if row else ""


def clock(at: float) -> str:
    """The time of day, in UTC or whatever zone the log has."""
    import datetime

    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%H:%M:%S")
