"""Which places of a block of bytes may hold a line of the table: all that is done for the lines that hold nothing."""

from __future__ import annotations

import functools
import re
import tomllib
from typing import TYPE_CHECKING

from faultkit.messages import errnos, template
from faultkit.messages.table import entries
from faultkit.messages.vocabulary import ERRNOS

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

SHORT = 5  # bytes; arbitrary: shorter literals count with their capitals alone
SOLID = 12  # letters of a part that is looked for alone; arbitrary
AROUND = 64  # bytes before and behind such a literal in which the whole is looked for; arbitrary
# What network failures are called, by whoever: the lines that hold it and are not known are counted.
LOOKS = (
    "connection reset",
    "connection refused",
    "connection closed",
    "connection lost",
    "connection timeout",
    "connection aborted",
    "connection error",
    "connection fail",
    "connection terminated",
    "connection dropped",
    "connection was",
    "lost connection",
    "closed connection",
    "closed the connection",
    "failed to connect",
    "could not connect",
    "cannot connect",
    "unable to connect",
    "connect timeout",
    "connect failed",
    "read timeout",
    "write timeout",
    "socket closed",
    "socket error",
    "socket hang up",
    "socket timeout",
    "socket is closed",
    "stream closed",
    "stream reset",
    "channel closed",
    "unexpected eof",
    "end of file",
    "end of stream",
    "premature",
    "broken pipe",
    "disconnected",
    "handshake fail",
    "handshake timeout",
    "tls handshake",
    "closed by peer",
    "closed by remote",
    "reset by",
    "forcibly closed",
    "i/o timeout",
    "timed out",
    "unreachable",
    "unexpectedly",
    "hung up",
    "not responding",
    "unresponsive",
    "no response from",
    "gateway time",
    "bad gateway",
    "keepalive",
)


class Prefilter:
    """Literals of which at least one is in every line of the table, and in every line that looks like a network failure."""

    def __init__(self) -> None:
        from ahocorasick_rs import BytesAhoCorasick, Implementation

        small: set[str] = {
            *LOOKS,
            *_errno_words(),
            '"message":[',
            '"message": [',
            '"message" : [',
        }  # of which unwrapping makes text
        capital: dict[bytes, list[tuple[str, bool]]] = {}
        for entry in (entry for entry in entries() if not (entry.fine or entry.beside)):
            for text in entry.texts:
                words = template.anchors(text)
                if min(map(len, words)) >= SHORT:
                    small.update(words if len(words) == 1 else map(_solid, words))
                    continue
                # Too short for its own sake: the whole must be there.
                for word in (
                    words if entry.case else {form for one in words for form in (one, one.lower(), one.upper())}
                ):
                    capital.setdefault(word.encode(), []).append((text, entry.case))
        low = {word.encode().lower() for word in small if word}
        self._small: BytesAhoCorasick = BytesAhoCorasick(sorted(low), implementation=Implementation.DFA)
        self._exact = sorted(capital)
        self._whole = [capital[word] for word in self._exact]
        self._capital: BytesAhoCorasick = BytesAhoCorasick(self._exact or [b"\0"], implementation=Implementation.DFA)

    def places(self, block: bytes) -> list[int]:
        """Where they are, in order."""
        found = [start for _, start, _ in self._small.find_matches_as_indexes(block.lower())]
        more = [
            start
            for number, start, _ in self._capital.find_matches_as_indexes(block, overlapping=True)
            if any(_whole(*one).search(block, max(0, start - AROUND), start + AROUND) for one in self._whole[number])
        ]
        return sorted({*found, *more}) if more else found


@functools.cache
def prefilter() -> Prefilter:
    """The one of the table: it is the same for every log, and takes a moment to make."""
    return Prefilter()


def _solid(word: str) -> str:
    """Its longest part without white space, of which there is more in columns, and behind a colon; all of it where that is
    short."""
    for parts in (word.split(), re.split(r"(?<=:)\s+", word)):
        longest = max(parts, key=len, default="")
        if len(longest) >= SOLID:
            return longest
    return word


@functools.cache
def _whole(text: str, case: bool) -> re.Pattern[bytes]:
    return re.compile(template.pattern(text, case).pattern.encode(), re.IGNORECASE * (not case))


@functools.cache
def _errno_words() -> frozenset[str]:
    table = tomllib.loads(errnos.KNOWN.read_text("utf-8"))
    words = {
        word
        for name in ERRNOS
        for word in (*table.get(name, {}).get("words", ()), *table.get(name, {}).get("names", ()))
    }
    return frozenset(word for word in words if len(word) >= SHORT) | {
        "ECONN",
        "ETIMEDOUT",
        "EPIPE",
        "os error",
        "errno",
    }
