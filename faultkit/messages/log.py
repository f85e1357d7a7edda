"""A log of any size: what failed in it, how often and when. It is read once, in blocks, and what is kept is bounded."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from faultkit.errors import Misuse
from faultkit.explaining import files
from faultkit.explaining.files import Source
from faultkit.messages import answering, errnos, peers, reading, unwrapping
from faultkit.messages.kinds import EXAMPLE, Kind
from faultkit.messages.prefilter import prefilter
from faultkit.messages.records import LINE, LINES, blocks, named_before, record, upwards
from faultkit.messages.table import entries
from faultkit.messages.times import Clock, Moment, written_at

KEPT = 20_000  # different lines whose reading is remembered
KINDS = 500  # kinds that are told apart; more than there are programs in one log
AFTER = 5_000  # failures of each kind of which the line before is looked for

# A number, and whether it is a part of a time, an address or the like.
_DIGITS = re.compile(rb"(?P<part>(?<=[0-9][.:/])[0-9]+|[0-9]+(?=[.:/][0-9]))|0x[0-9a-f]+|[0-9a-f]{8,}|[0-9]+")

_BYTES = re.compile(rb'"MESSAGE" ?: ?\[')  # of which unwrapping makes text: there every number tells


@dataclass
class Log:
    """What was read."""

    step: Callable[[int], None] = lambda read: None
    kinds: dict[str, Kind] = field(default_factory=dict)
    lines: int = 0
    size: int = 0  # bytes, unpacked
    now: float = field(default_factory=time.time)  # the log was written before
    begin: float | None = None  # of the whole log
    end: float | None = None
    dated: bool = True  # its times have a year
    zoned: int = 0  # times that have a zone, and those that have none
    local: int = 0
    damaged: list[str] = field(default_factory=list)
    overflow: int = 0  # failures of kinds that are too many

    def __post_init__(self) -> None:
        self._filter = prefilter()
        self._read: dict[bytes, tuple[str, answering.Reading] | None] = {}
        self._clock = Clock(self.now)
        self._done = 0

    @property
    def failures(self) -> int:
        """How many there are."""
        return sum(kind.count for kind in self.kinds.values()) + self.overflow

    def read(self, stream: IO[bytes], name: str = "") -> None:
        """Read it to its end."""
        self._clock = Clock(self.now)
        for kind in self.kinds.values():
            kind.times.cut()
        source = Source(stream)
        _check_text(source.peek(16), name)
        ended = True
        for block in blocks(source):
            self._block(block)
            ended = block.endswith(b"\n")
            self.step(self._done + source.at)
        self.lines += not ended
        self._done += source.at
        if source.broken:
            self.damaged.append(f"{name}: {source.broken}")

    def _block(self, block: bytes) -> None:
        self.size += len(block)
        self.lines += block.count(b"\n")
        self._span(block[: LINE // 8].split(b"\n", 3)[:3])
        done = 0
        for place in self._filter.places(block):
            if place < done:
                continue
            before = done
            start, done = record(block, place, before)
            self._failed(block, before, start, done)
        self._span(block[-LINE // 8 :].split(b"\n")[-3:])

    def _span(self, lines: Sequence[bytes]) -> None:
        """The log goes over their times."""
        for line in lines:
            self._moment(line.decode("utf-8", "replace"))

    def _moment(self, text: str) -> Moment | None:
        moment = self._clock.read(text)
        if moment is not None:
            self.begin = moment.at if self.begin is None else min(self.begin, moment.at)
            self.end = moment.at if self.end is None else max(self.end, moment.at)
            self.dated &= moment.dated
            self.zoned += moment.zoned
            self.local += not moment.zoned
        return moment

    def _failed(self, block: bytes, before: int, start: int, end: int) -> None:
        """The lines of one failure; `before` is the end of the last one."""
        data = block[start:end]
        known = self._reading(data)
        if known is None:
            return
        key, read = known
        text = data.decode("utf-8", "replace")
        kind = self.kinds.get(key)
        if kind is None:
            if len(self.kinds) >= KINDS:
                self.overflow += 1
                return
            kind = self.kinds[key] = Kind(key, read, _short(text))
        kind.count += 1
        at = self._moment(text) or self._above(block, before, start)
        if at is not None:
            kind.times.add(at)
        named = peers.named(text)
        if named.client:
            kind.clients.add(named.client)
        if named.server:
            kind.servers.add(named.server)
            if at is not None and kind.count <= AFTER:
                self._after(block, start, named.server, at, kind)

    def _above(self, block: bytes, least: int, start: int) -> Moment | None:
        """The time of the nearest line above that has one, and is no failure of its own."""
        return next((moment for line in upwards(block, least, start - 1) if (moment := self._moment(line))), None)

    def _after(self, block: bytes, start: int, server: str, at: Moment, kind: Kind) -> None:
        """How long after the line before that names the same server."""
        place = named_before(block, server.encode(), start)
        found = (written_at(line, self.now, at.at) for line in upwards(block, 0, place))
        before = next((moment for moment in found if moment is not None), None)
        if before is None or before.zoned != at.zoned or not 0 <= at.at - before.at < 1e5:
            kind.after.other += 1
        else:
            kind.after.add(at.at - before.at, at.coarse or before.coarse)

    def _reading(self, data: bytes) -> tuple[str, answering.Reading] | None:
        """What the lines mean, None where they hold no failure. Lines that differ in numbers alone are read once."""
        like = data if _BYTES.search(data) else _DIGITS.sub(_without, data)
        if like in self._read:
            return self._read[like]
        if len(self._read) >= KEPT:
            self._read.clear()
        self._read[like] = found = _meaning(data)
        return found


@functools.cache
def _telling() -> frozenset[bytes]:
    """The numbers that decide what a line means: errnos, and those that the table's lines hold."""
    texts = (text for entry in entries() for text in entry.texts)
    numbers = {number for text in texts for number in re.findall(r"\d+", re.sub(r"\{\??\w+\}", "", text))}
    return frozenset(number.encode() for number in (*numbers, *map(str, errnos.numbers())))


def _without(found: re.Match[bytes]) -> bytes:
    """A number that tells nothing is as any other; whether an idle time is long, its length says."""
    if found["part"] is not None:
        return b"#"
    return found[0] if found[0] in _telling() else b"##" if len(found[0]) > 3 else b"#"


def begins(stream: IO[bytes]) -> float | None:
    """When the first of its lines that says so was written; the stream is where it was then. None where nobody knows."""
    if not stream.seekable():
        return None
    source, clock = Source(stream), Clock(time.time())
    data = source.peek(LINE)
    stream.seek(0)
    lines = data.decode(unwrapping.encoding(data), "replace").split("\n", LINES)[:LINES]
    return next((moment.at for line in lines if (moment := clock.read(line))), None)


def _check_text(beginning: bytes, name: str) -> None:
    """Raise `Misuse` for what is no log."""
    if beginning[:4] in files.PCAP or beginning.startswith(files.PCAPNG):
        raise Misuse(f"which: {name} is a capture of packets: faultkit explain {name}")
    if found := files.other(beginning):
        what, tool = found
        cure = f"{tool} {name} | faultkit which --log -" if tool.endswith("-dc") else "name a text"
        raise Misuse(f"which: {name} is {what}, no log: {cure}")


def _meaning(data: bytes) -> tuple[str, answering.Reading] | None:
    text = unwrapping.decoded(data)
    read = reading.read(text)
    first = read.found[0].entry if read.found else None
    if first is not None and first.fine:
        return None
    program = read.told.program if read.told else first.program if first else ""
    if read.told is not None:
        told = read.told
        return "|".join((program, told.told, told.writer, *told.when, *(["unix"] if told.unix else []))), read
    if read.not_tcp:
        return f"{program}|{read.not_tcp[0]}", read
    return ("?", read) if LOOKS.search(unwrapping.unasked(text)) else None


# What looks like a failure of a connection, whoever wrote it.
_WHAT = "connection|socket|stream|channel|peer|upstream|backend|tcp|tls|ssl|handshake|server|client|host|network"
_HAPPENED = (
    "reset|refused|closed|lost|timed out|timeout|time-out|aborted|failed|failure|terminated|dropped|broken|disconnected"
    "|unreachable|error|gone|interrupted|prematurely"
)
LOOKS = re.compile(
    rf"\b(?:{_WHAT})\b[^\n]{{0,80}}?\b(?:{_HAPPENED})\b"
    r"|\b(?:not responding|unresponsive|no response from|hung up)\b"
    r"|\b(?:lost|failed|unable|cannot|could not|error|timeout|timed out)\b[^\n]{0,60}?\b(?:connect\w*|socket|peer|upstream)\b",
    re.IGNORECASE,
)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXAMPLE else line[: EXAMPLE - 3] + "..."
