"""What lines of a log belong together: a failure with its stack trace, and the lines around it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from faultkit.explaining.files import Source
from faultkit.messages import unwrapping

BLOCK = 1 << 21  # bytes that are looked through at once
LINE = 1 << 16  # bytes of a line; what is longer is cut there
RECORD = 1 << 13  # bytes of one failure with what belongs to it, as stack traces do
LINES = 120  # of them
ABOVE = 8  # lines above a failure that has no time, of which one may have it: loggers write an exception below theirs; arbitrary
BEHIND = 1 << 17  # bytes before a failure in which the line before it is looked for that names the same server

# What belongs to the line before: stack traces, wrapped lines, the parts of a chain.
_GOES_ON = re.compile(
    rb"[ \t]|$|Caused by: |Suppressed: |\.\.\. \d+ more|at |Traceback \(most recent call last\)|During handling of the above"
    rb"|The above exception was|[\])}]+[,;]?\r?$|--- End of|goroutine \d"
)
_EXCEPTION = re.compile(rb"[\w.$:]{1,100}(?:Error|Exception|Timeout|Reset|Closed|Disconnected)\b")


def blocks(source: Source) -> Iterator[bytes]:
    """Whole lines, as many as make a block, and not in the middle of a failure."""
    carry = b""
    decoder: codecs.IncrementalDecoder | None = None
    name = unwrapping.encoding(source.peek(unwrapping.SAMPLE))
    if name != "utf-8":
        decoder = codecs.getincrementaldecoder(name)("replace")
    parts, size = [carry], 0
    while more := source.some():
        if decoder is not None:
            more = decoder.decode(more).encode()
        parts.append(more)
        size += len(more)
        if size < BLOCK:
            continue
        whole = _lines(b"".join(parts))
        cut = _cut(whole)
        yield whole[:cut]
        carry = whole[cut:]
        parts, size = [carry], len(carry)
    if rest := _lines(b"".join(parts)):
        yield rest


def _lines(block: bytes) -> bytes:
    """With line feeds, where it has carriage returns alone."""
    return block.replace(b"\r", b"\n") if b"\r" in block and b"\n" not in block else block


def _cut(block: bytes) -> int:
    """Where the last line begins that may still go on; the end where there is none within reason."""
    start = block.rfind(b"\n") + 1
    if not start or len(block) - start > LINE:
        return len(block)
    for _ in range(LINES):
        before = block.rfind(b"\n", 0, start - 1) + 1
        if not before or len(block) - before > LINE:
            return start
        if not _goes_on(block, before, 0):
            return before
        start = before
    return start


def record(block: bytes, place: int, least: int) -> tuple[int, int]:
    """From where to where the lines of one failure go, one of which is at that place."""
    start = block.rfind(b"\n", least, place) + 1 or least
    for _ in range(LINES):
        if start <= least or place - start > RECORD or not _goes_on(block, start, least):
            break
        start = block.rfind(b"\n", least, start - 1) + 1 or least
    end = block.find(b"\n", place)
    for _ in range(LINES):
        if end < 0 or end - start > RECORD or end + 1 >= len(block) or not _goes_on(block, end + 1, least):
            break
        end = block.find(b"\n", end + 1)
    end = len(block) if end < 0 else end + 1
    return max(start, place - RECORD), min(end, max(place, start) + RECORD) if end - start > 2 * RECORD else end


def _goes_on(block: bytes, start: int, least: int) -> bool:
    """Does the line that starts there belong to the one before?"""
    line = block[start : start + 200].split(b"\n", 1)[0]
    if _GOES_ON.match(line):
        return True
    if not _EXCEPTION.match(line) or start <= least:
        return False
    before = block[block.rfind(b"\n", least, start - 1) + 1 : start]
    return bool(before[:1] in (b" ", b"\t"))


def upwards(block: bytes, least: int, place: int) -> Iterator[str]:
    """The line at that place, and some above it, the nearest first."""
    for _ in range(ABOVE):
        if place < least:
            break
        start = block.rfind(b"\n", least, place) + 1 or least
        yield block[start : start + LINE // 8].partition(b"\n")[0].decode("utf-8", "replace")
        place = start - 1


def named_before(block: bytes, name: bytes, end: int) -> int:
    """Where the name stands last before that place, as a whole word; -1 where it does not."""
    least = max(0, end - BEHIND)
    for _ in range(LINES):
        end = block.rfind(name, least, end)
        if end < 0:
            return -1
        behind = block[end + len(name) : end + len(name) + 2]
        if not re.match(rb"[\w.-]", block[max(0, end - 1) : end]) and not re.match(rb"[\w-]|\.\w", behind):
            return end
    return -1
