"""When a log line was written, as far as it says so: with a zone or without, with a year or without."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_MONTH = "|".join(_MONTHS)
# Hours from UTC. Those that several parts of the world use (CST, IST, BST) are no zones here.
_ABBREVIATED = {
    "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9, "AEST": 10,
    "AEDT": 11, "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
_CLOCK = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?"
_HALF = r"(?: (?P<half>[AP]M)\b)?"
_ZONE = rf"(?: ?(?P<zone>[+-]\d{{2}}(?::?\d{{2}})?(?!\d)|(?:{'|'.join(_ABBREVIATED)})\b))?"
_WRITTEN = [
    # 2026-11-30T07:08:09.123Z, 2026/11/30 07:08:09: ISO 8601, nginx, Python, Go
    re.compile(
        rf"(?<!\d)(?P<year>\d{{4}})[-/.](?P<month>\d{{2}})[-/.](?P<day>\d{{2}})[T ]{{1,2}}{_CLOCK}{_HALF}{_ZONE}"
    ),
    # 30/Nov/2026:07:08:09 +0000, 30 Nov 2026 07:08:09.123, 30-Nov-2026::07:08:09: access logs, HAProxy, Redis, Erlang
    re.compile(
        rf"(?<!\d)(?P<day>\d{{1,2}})[/ -](?P<name>{_MONTH})[/ -](?P<year>\d{{4}})(?: |::?){_CLOCK}{_HALF}{_ZONE}"
    ),
    # Mon Nov 30 07:08:09.123 2026: Apache httpd's error log
    re.compile(rf"\b(?P<name>{_MONTH}) {{1,2}}(?P<day>\d{{1,2}}) {_CLOCK} (?P<year>\d{{4}})\b"),
    # Nov 30 07:08:09: syslog
    re.compile(rf"\b(?P<name>{_MONTH}) {{1,2}}(?P<day>\d{{1,2}}) {_CLOCK}(?! \d{{4}}\b)"),
    # E1130 07:08:09.123456: klog
    re.compile(rf"\b[IWEF](?P<month>\d{{2}})(?P<day>\d{{2}}) {_CLOCK}"),
]
# Seconds since 1970, also of milliseconds, or of microseconds, as journald writes them; at the beginning of a line, Squid's,
# Mosquitto's and librdkafka's.
_EPOCH = re.compile(
    r"(?:\"?\b(?:ts|time|timestamp|__REALTIME_TIMESTAMP)\"?[:=] ?\"?|^(?=\d{10}\.\d{3} |\d{10}: )|^%[0-7]\|(?=\d{10}\.\d{3}\|))"
    r"(?P<epoch>\d{10}(?:\.\d{1,9})?|\d{13}|\d{16})(?![\d.])"
)
# Of a JSON document the time is under one of these, whatever other times are in it.
_KEYED = re.compile(r"\"(?:@?timestamp|time|ts|datetime|haproxy_timestamp|__REALTIME_TIMESTAMP)\" ?: ?")
HEAD = 600  # characters of a line in which its time is looked for
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Moment:
    """When a line was written."""

    at: float  # seconds since 1970; without a zone as if in UTC
    zoned: bool  # it says its zone
    dated: bool = True  # it says its year
    coarse: bool = False  # in whole seconds


class Clock:
    """Reads the times of the lines of one log in their order. Where they have no year, it is the one that puts a line nearest to
    the line before; that of the first is the last one that is not in the future."""

    def __init__(self, now: float) -> None:
        """`now` in seconds since 1970: the log was written before."""
        self._now = now
        self._last: float | None = None

    def read(self, line: str) -> Moment | None:
        """When it was written; None where it does not say so."""
        moment = written_at(line, self._now, self._last)
        if moment is not None:
            self._last = moment.at
        return moment


def written_at(line: str, now: float, near: float | None = None) -> Moment | None:
    """When a line was written; None where it has no time. Without a year: in the one that is nearest to `near`, or, where that is
    not known, in the last one that is not after `now`."""
    head = line[:HEAD]
    if head.lstrip()[:1] == "{" and (keyed := _KEYED.search(head)):
        head = head[keyed.start() :]
    for found in sorted(_all(head), key=lambda match: match.start()):
        part = found.groupdict()
        if part.get("epoch"):
            return _epoch(part["epoch"])
        if part.get("year"):
            return _moment(part, int(part["year"]))
        known = next((one for one in map(_dated, _all(head)) if one), None)
        return _nearest(part, now, near if known is None else known.at)
    return None


def _all(head: str) -> Iterator[re.Match[str]]:
    for pattern in (*_WRITTEN, _EPOCH):
        if found := pattern.search(head):
            yield found


def _dated(found: re.Match[str]) -> Moment | None:
    part = found.groupdict()
    return _moment(part, int(part["year"])) if part.get("year") else None


def _moment(part: dict[str, str | None], year: int, dated: bool = True) -> Moment | None:
    hour = int(part["hour"] or 0)
    if part.get("half"):
        hour = hour % 12 + 12 * (part["half"] == "PM")
    try:
        whole = datetime.datetime(
            year,
            _MONTHS[part["name"]] if part.get("name") else int(part["month"] or 0),  # type: ignore[index]
            int(part["day"] or 0),
            hour,
            int(part["minute"] or 0),
            min(59, int(part["second"] or 0)),
            tzinfo=datetime.UTC,
        ).timestamp()
    except ValueError:
        return None
    fraction, zone = part.get("fraction"), part.get("zone")
    return Moment(whole + float(f"0.{fraction or 0}") - _offset(zone), bool(zone), dated, not fraction)


def _offset(zone: str | None) -> int:
    """Seconds east of Greenwich."""
    if not zone:
        return 0
    if zone in _ABBREVIATED:
        return _ABBREVIATED[zone] * 3600
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)


def _nearest(part: dict[str, str | None], now: float, near: float | None) -> Moment | None:
    """In the year that fits; 29 February only in one that has it."""
    about = datetime.datetime.fromtimestamp(now if near is None else near, datetime.UTC).year
    made = [moment for year in range(about + 1, about - 9, -1) if (moment := _moment(part, year, dated=False))]
    if near is None:
        return next((moment for moment in made if moment.at <= now + DAY), None)
    return min(made, key=lambda moment: abs(moment.at - near), default=None)


def _epoch(digits: str) -> Moment:
    return Moment(
        float(digits) / {13: 1e3, 16: 1e6}.get(len(digits), 1), True, coarse=digits.isdigit() and len(digits) == 10
    )
