"""Every message that is known: seen on real sockets (messages.json) or read in a program's source (sources.toml)."""

from __future__ import annotations

import difflib
import errno
import functools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faultkit.clients.message import Line

SEEN = Path(__file__).with_name("messages.json")
READ = Path(__file__).with_name("sources.toml")
AT_LEAST = 8  # characters of a part of a message; arbitrary
ERRNOS = ("ECONNRESET", "ECONNREFUSED", "ETIMEDOUT", "EPIPE", "EHOSTUNREACH", "ENETUNREACH", "ECONNABORTED")


@dataclass(frozen=True)
class Known:
    """One message of one program, and what makes it say that."""

    program: str
    version: str
    lines: tuple[str, ...]
    faults: tuple[str, ...]  # in the order of the catalogue
    always: frozenset[str]  # those of them that made it say nothing else
    place: str = ""  # where it was read; "" where it was seen

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def found_in(self, pasted: str) -> int:
        """How many characters of that it accounts for."""
        spans = [Line(line).span(pasted) for line in self.lines]
        return len({at for span in spans if span for at in range(*span)})

    def whole_in(self, pasted: str) -> bool:
        """Is every line of it there?"""
        return all(Line(line).span(pasted) for line in self.lines)


@dataclass(frozen=True)
class Match:
    """What a pasted message is."""

    known: tuple[Known, ...]  # the messages that it is, or is a part of
    whole: bool  # False: it is a part of them
    nearest: str = ""  # where it is none: the message most like it
    words: str = ""  # where all that is known of it is an errno: its words


def seen_document() -> dict[str, Any]:
    """What is kept of `faultkit clients`."""
    document: dict[str, Any] = json.loads(SEEN.read_text())
    return document


@functools.cache
def known() -> tuple[Known, ...]:
    """All of them, seen before read."""
    document = seen_document()
    seen = list(_seen(document["seen"], document["versions"]))
    like = {f"{one.program}: {one.text}": one for one in seen}
    read = []
    for entry in tomllib.loads(READ.read_text())["message"]:
        lines = tuple(entry["text"].splitlines())
        model = like[entry["like"]] if "like" in entry else None
        faults = model.faults if model else tuple(entry["faults"])
        always = model.always if model else frozenset()
        read.append(Known(entry["program"], entry["version"], lines, faults, always, entry["place"]))
    return (*seen, *read)


def _seen(rows: Sequence[Mapping[str, Any]], versions: Mapping[str, str]) -> Iterable[Known]:
    told: dict[tuple[str, str], dict[str, None]] = {}
    every: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        every.setdefault((row["client"], row["fault"]), set()).add(row["message"])
        if row["message"]:
            told.setdefault((row["client"], row["message"]), {})[row["fault"]] = None
    for (client, message), faults in told.items():
        always = frozenset(fault for fault in faults if len(every[client, fault]) == 1)
        yield Known(client, versions[client], tuple(message.splitlines()), tuple(faults), always)


# musl's strerror(3), where it differs from glibc's (src/errno/__strerror.h).
_MUSL = {
    "ETIMEDOUT": "Operation timed out",
    "EHOSTUNREACH": "Host is unreachable",
    "ENETUNREACH": "Network unreachable",
}


def words(name: str) -> str:
    """What strerror(3) says to an errno."""
    return os.strerror(getattr(errno, name))


def errnos(text: str) -> list[str]:
    """Those that a text names, by name or in the C library's words, glibc's or musl's."""
    found = []
    for name in ERRNOS:
        said = [re.escape(words(name)), *([re.escape(_MUSL[name])] if name in _MUSL else [])]
        if re.search(rf"\b{name}\b|{'|'.join(said)}", text, re.IGNORECASE):
            found.append(name)
    return found


def match(pasted: str, among: Sequence[Known]) -> Match:
    """The messages that are in it, those of which most is there; else those that it is a part of."""
    scores = [(one.found_in(pasted), one) for one in among]
    best = max((score for score, _ in scores), default=0)
    if best:
        # Of several lines, one that many messages have in common may be all that was pasted; a message that is there whole
        # is one of them too.
        whole = max((score for score, one in scores if one.whole_in(pasted)), default=0)
        found = {one: None for score, one in scores if score == best}
        if 2 * whole >= best:
            found |= {one: None for score, one in scores if score == whole and one.whole_in(pasted)}
        return Match(tuple(found), whole=True)
    part = " ".join(pasted.split()).casefold()
    holding = tuple(one for one in among if any(part in line.casefold() for line in one.lines))
    if holding and len(part) >= AT_LEAST:
        return Match(holding, whole=False)
    if named := errnos(pasted):
        return Match((), whole=False, words=words(named[0]))
    texts = {line.casefold(): line for one in among for line in one.lines}
    near = difflib.get_close_matches(part, texts, n=1, cutoff=0.4)
    return Match((), whole=False, nearest=texts[near[0]] if near else "")
