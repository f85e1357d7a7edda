"""When a log line was written, and what the times of many say."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from dataclasses import dataclass, field

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_MONTH = "|".join(_MONTHS)
_CLOCK = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?"
_ZONE = r"(?: ?(?P<zone>Z|[+-]\d{2}:?\d{2}))?"
_WRITTEN = [
    # 2026-11-30T07:08:09.123Z, 2026/11/30 07:08:09: ISO 8601, nginx, Python, Go
    re.compile(rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{2}})[-/.](?P<day>\d{{2}})[T ]{{1,2}}{_CLOCK}{_ZONE}"),
    # 30/Nov/2026:07:08:09 +0000, 30 Nov 2026 07:08:09.123: access logs, HAProxy, Redis
    re.compile(rf"(?P<day>\d{{1,2}})[/ -](?P<name>{_MONTH})[/ -](?P<year>\d{{4}})[: ]{_CLOCK}{_ZONE}"),
    # Mon Nov 30 07:08:09.123 2026: Apache httpd's error log
    re.compile(rf"(?P<name>{_MONTH}) {{1,2}}(?P<day>\d{{1,2}}) {_CLOCK} (?P<year>\d{{4}})"),
    # Nov 30 07:08:09: syslog
    re.compile(rf"(?P<name>{_MONTH}) {{1,2}}(?P<day>\d{{1,2}}) {_CLOCK}"),
    # E1130 07:08:09.123456: klog
    re.compile(rf"\b[IWEF](?P<month>\d{{2}})(?P<day>\d{{2}}) {_CLOCK}"),
]
# Seconds since 1970, or of journald microseconds.
_EPOCH = re.compile(
    r"\"?(?:ts|time|timestamp|__REALTIME_TIMESTAMP)\"?[:=] ?\"?(?P<epoch>\d{10}(?:\.\d{1,9})?|\d{13}|\d{16})\b"
)
HEAD = 600  # characters of a line in which its time is looked for


def written_at(text: str, year: int) -> float | None:
    """Seconds since 1970; without a zone as if in UTC, without a year in that one. None where it has no time."""
    head = text[:HEAD]
    best: re.Match[str] | None = None
    for pattern in _WRITTEN:
        found = pattern.search(head)
        if found and (best is None or found.start() < best.start()):
            best = found
    if best is None:
        return _epoch(text)
    part = best.groupdict()
    name = part.get("name")
    try:
        moment = datetime.datetime(
            int(part.get("year") or year),
            _MONTHS[name] if name else int(part["month"]),
            int(part["day"]),
            int(part["hour"]),
            int(part["minute"]),
            min(59, int(part["second"])),
            tzinfo=datetime.UTC,
        )
    except ValueError:
        return _epoch(text)
    seconds = moment.timestamp() + float(f"0.{part['fraction']}" if part.get("fraction") else 0)
    zone = part.get("zone")
    if zone and zone != "Z":
        digits = zone.replace(":", "")
        seconds -= (1 if digits[0] == "+" else -1) * (int(digits[1:3]) * 3600 + int(digits[3:5]) * 60)
    return seconds


def _epoch(text: str) -> float | None:
    found = _EPOCH.search(text)
    if not found:
        return None
    digits = found["epoch"]
    return float(digits) / {13: 1e3, 16: 1e6}.get(len(digits), 1)


@dataclass
class Times:
    """When something came, in bounded memory: how many in each span, and the gaps between them."""

    bins: Counter[int] = field(default_factory=Counter)
    width: float = 1.0  # seconds of a span: doubled where there would be too many
    first: float | None = None
    last: float | None = None
    number: int = 0
    gaps: Counter[float] = field(default_factory=Counter)

    def add(self, at: float) -> None:
        """One more, at that time."""
        if self.last is not None and at - self.last >= 0.5:
            self.gaps[_rounded(at - self.last)] += 1
            if len(self.gaps) > MOST:
                self.gaps = Counter(dict(self.gaps.most_common(MOST // 2)))
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        self.number += 1
        self.bins[int(at // self.width)] += 1
        while len(self.bins) > MOST:
            self.width *= 2
            wider: Counter[int] = Counter()
            for place, number in self.bins.items():
                wider[place // 2] += number
            self.bins = wider

    def chart(self, begin: float, end: float, columns: int) -> list[int]:
        """How many in each of so many equal parts of that span of time."""
        counts = [0] * columns
        span = max(end - begin, 1e-9)
        for place, number in self.bins.items():
            middle = min(max((place + 0.5) * self.width, begin), end)
            counts[min(columns - 1, int((middle - begin) / span * columns))] += number
        return counts

    def interval(self) -> float | None:
        """The seconds between them, where most gaps are alike; None where they are not."""
        return usual(self.gaps)

    def burst(self, seconds: float = 10.0) -> tuple[float, float, int] | None:
        """From when to when most of them came, and how many, where that is a moment."""
        if self.number < 5 or self.first is None or self.last is None:
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


MOST = 1024  # spans, and different gaps, that are kept; arbitrary


def _rounded(gap: float) -> float:
    return round(gap, 1) if gap < 10 else float(round(gap))


def usual(gaps: Counter[float]) -> float | None:
    """The gap that most of them are, within 3 %; None where there is none, or too few to say."""
    total = gaps.total()
    if total < 4:
        return None
    for gap, _ in gaps.most_common(3):
        near = sum(number for other, number in gaps.items() if abs(other - gap) <= max(0.25, 0.03 * gap))
        if near >= 0.6 * total and gap >= 1:
            return gap
    return None
