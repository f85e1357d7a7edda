"""The table of what programs write: the files of `lines/`, read and checked."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faultkit.clients.known import known
from faultkit.clients.message import another
from faultkit.errors import Misuse
from faultkit.messages import template
from faultkit.messages.errnos import mentions
from faultkit.messages.vocabulary import POOLS, VAGUE, WHEN, WRITERS, tells, unknown

if TYPE_CHECKING:
    from ahocorasick_rs import AhoCorasick

LINES = Path(__file__).with_name("lines")
_HEAD = frozenset({"program", "pool", "writer", "versions", "source", "setting", "around", "line"})
_OWN = frozenset({"text", "told", "when", "example", "case", "has", "not_tcp", "part", "beside", "fine"}) | (
    _HEAD - {"line", "around"}
)


@dataclass(frozen=True, eq=False)
class Entry:
    """One kind of line of one program."""

    file: str
    program: str
    texts: tuple[str, ...]
    told: str  # "" where no TCP connection failed
    writer: str
    pool: str
    when: tuple[str, ...]
    versions: str
    source: str
    examples: tuple[str, ...]
    setting: str
    case: bool
    has: tuple[tuple[str, ...], ...]  # for each text: without one of these, it is not there
    not_tcp: str
    part: bool
    beside: bool  # a frame or a class: says who it was, and alone nothing
    fine: bool  # nothing failed

    def find(self, text: str, plain: str, low: str) -> Found | None:
        """The entry in a text, if it is there. `plain` is the text with single spaces, `low` that in small letters."""
        for one, has in zip(self.texts, self.has, strict=True):
            if not any(word in (plain if self.case else low) for word in has):
                continue
            match = template.pattern(one, self.case).search(text)
            if match is None:
                continue
            groups = {name: value for name, value in match.groupdict().items() if value}
            errno, end, gap = "", match.end(), 0
            if "{errno}" in one:
                named = mentions(groups.get("errno", ""))
                if not named:
                    continue
                gap, _, errno = named[0]
                if match.end("errno") == end:
                    end = match.start("errno") + named[0][1]
            return Found(self, match.start(), end, errno, groups, gap, line_at(text, match.start(), end))
        return None


def line_at(text: str, start: int, end: int) -> str:
    """The whole of the line, or lines, from there to there."""
    behind = text.find("\n", end)
    return text[text.rfind("\n", 0, start) + 1 : behind if behind >= 0 else len(text)]


@dataclass(frozen=True)
class Found:
    """An entry that is in a text, and where."""

    entry: Entry
    start: int
    end: int
    errno: str
    groups: dict[str, str]
    gap: int = 0  # characters before the errno's own words, which the entry knows nothing of
    line: str = ""  # or lines, in which it is

    @property
    def told(self) -> str:
        return self.entry.told.replace("{errno}", self.errno)

    @property
    def length(self) -> int:
        return self.end - self.start - self.gap


def _several(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _folded(words: Sequence[str], case: bool) -> tuple[str, ...]:
    """As they are looked for: with single spaces, in small letters where capitals do not count."""
    return tuple(" ".join((word if case else word.casefold()).split()) for word in words)


def parse(file: str, document: dict[str, Any]) -> Iterator[Entry]:
    """The entries of one file. Raises `Misuse` for what the vocabulary does not have."""
    if odd := set(document) - _HEAD:
        raise Misuse(f"{file}: {', '.join(sorted(odd))} at its head is unknown: it takes {', '.join(sorted(_HEAD))}")
    for row in document["line"]:
        where = f"{file}: {row.get('text', row)!r}"
        if odd := set(row) - _OWN:
            raise Misuse(f"{where}: {', '.join(sorted(odd))} is unknown: it takes {', '.join(sorted(_OWN))}")
        said = {key: document[key] for key in _HEAD - {"line", "around"} if key in document} | row
        for key in ("program", "writer", "pool", "source", "text", "example", "versions"):
            if not said.get(key) and not (key in ("pool", "writer") and key in said):
                raise Misuse(f"{where} has no {key}: add it")
        told, texts, when = said.get("told", ""), _several(said["text"]), _several(said.get("when"))
        if "around" in document:
            texts = tuple(around.replace("{line}", text) for text in texts for around in document["around"])
        if bool(told) == bool(said.get("not_tcp")):
            raise Misuse(f"{where}: say either `told` or `not_tcp`")
        if told and unknown(told):
            raise Misuse(f"{where}: told = {told!r} is not in the vocabulary")
        if said["writer"] not in WRITERS or said["pool"] not in POOLS or not set(when) <= set(WHEN):
            raise Misuse(f"{where}: writer, pool or when is not in the vocabulary")
        if "{errno}" in told and not all("{errno}" in text for text in texts):
            raise Misuse(f"{where}: told has {{errno}} and the text has none")
        source = said["source"]
        if "source" in row and "source" in document and not re.match(r"https?:|\S+/\S+ ", row["source"]):
            source = f"{document['source']}, {row['source']}"
        yield Entry(
            file=file,
            program=said["program"],
            texts=texts,
            told=told,
            writer=said["writer"],
            pool=said["pool"],
            when=when,
            versions=said["versions"],
            source=source,
            examples=_several(said["example"]),
            setting=said.get("setting", ""),
            case=bool(said.get("case")),
            has=tuple(_folded(_several(said.get("has")) or template.anchors(text), said.get("case")) for text in texts),
            not_tcp=said.get("not_tcp", ""),
            part=bool(said.get("part") or said.get("beside")),
            beside=bool(said.get("beside")),
            fine=bool(said.get("fine")),
        )


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All of them, file by file."""
    return tuple(
        entry
        for file in sorted(LINES.glob("*.toml"))
        for entry in parse(file.name, tomllib.loads(file.read_text("utf-8")))
    )


@functools.cache
def _index() -> tuple[AhoCorasick, tuple[tuple[Entry, ...], ...]]:
    """What is looked for first, all at once, and for each of it the entries that begin with it."""
    from ahocorasick_rs import AhoCorasick

    words: dict[str, dict[Entry, None]] = {}
    for entry in entries():
        for word in (word for has in entry.has for word in has):
            words.setdefault(word.casefold(), {})[entry] = None
    return AhoCorasick(list(words)), tuple(map(tuple, words.values()))


def _likely(low: str) -> list[Entry]:
    """The entries that may be in a text in small letters, in the order of the table."""
    matcher, owners = _index()
    found = {
        entry for number, _, _ in matcher.find_matches_as_indexes(low, overlapping=True) for entry in owners[number]
    }
    return sorted(found, key=_places().__getitem__)


@functools.cache
def _places() -> dict[Entry, int]:
    return {entry: number for number, entry in enumerate(entries())}


def seen(entry: Entry) -> list[str]:
    """The clients, with their versions, that were seen to say so on real sockets."""
    said = []
    for one in known():
        text = another(one.text)
        plain = " ".join(text.split())
        if entry.find(text, plain, plain.casefold()):
            said.append(f"{one.program} {one.version}")
    return list(dict.fromkeys(said))


def found_in(text: str, among: Sequence[Entry] | None = None) -> tuple[list[Found], set[Entry]]:
    """Every entry that is in a text; of those that overlap the longest, unless they are equally long. And those that were so
    outdone."""
    plain = " ".join(text.split())
    low = plain.casefold()
    found = [one for entry in (_likely(low) if among is None else among) if (one := entry.find(text, plain, low))]
    outdone = [one for one in found if any(_outdoes(other, one) for other in found)]
    return [one for one in found if one not in outdone], {one.entry for one in outdone}


def _outdoes(one: Found, other: Found) -> bool:
    """Is the other a part of that one, and says no more?"""
    if not (one.start <= other.start and other.end <= one.end and one.length > other.length):
        return False
    if other.entry.part or not other.told or not one.told:
        return True
    return not one.entry.part and (tells(one.told) <= tells(other.told) or tells(one.told) < VAGUE)
