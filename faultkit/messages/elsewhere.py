"""What failed and is no TCP, in TCP's words: pipes, Unix sockets, UDP, the kernel's drivers, services and files."""

from __future__ import annotations

import fnmatch
import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faultkit.messages.likely import Answer, Prior

KNOWN = Path(__file__).with_name("elsewhere.toml")
NEVER = r"(?!)"
PERHAPS = (
    "if print() or another write to standard output was told it, it was a pipe whose reader had gone, and no connection"
)
# What a proxy's line says of its two sides: ", client: 10.0.0.1, server: _, upstream: ..."
_SIDES = re.compile(r", (?=(?:client|server|request|subrequest|upstream|host|referrer): )")


@dataclass(frozen=True)
class Row:
    """One of the table."""

    says: str
    line: re.Pattern[str]
    told: tuple[str, ...] = ()
    text: re.Pattern[str] = re.compile(NEVER)
    unless: re.Pattern[str] = re.compile(NEVER)
    alone: re.Pattern[str] = re.compile(NEVER)
    always: bool = False
    causes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Over:
    """What else connections go over."""

    row: Row
    failed: tuple[Row, ...]
    answers: dict[str, str]
    prior: Prior


def _any(patterns: Sequence[str] | str) -> re.Pattern[str]:
    several = [patterns] if isinstance(patterns, str) else patterns
    return re.compile("|".join(f"(?:{one})" for one in several) or NEVER, re.IGNORECASE)


def _row(row: dict[str, Any]) -> Row:
    return Row(
        says=row["says"],
        line=_any(row["line"]),
        told=tuple(row.get("told", ())),
        text=_any(row.get("text", ())),
        unless=_any(row.get("unless", ())),
        alone=_any(row.get("alone", ())),
        always=bool(row.get("always")),
        causes=tuple(row.get("causes", ())),
    )


@functools.cache
def _table() -> tuple[tuple[Row, ...], Over]:
    document = tomllib.loads(KNOWN.read_text("utf-8"))
    unix = document["over"]["unix"]
    return tuple(map(_row, document["row"])), Over(
        _row(unix),
        tuple(map(_row, unix["failed"])),
        unix["answers"],
        Prior((), unix["because"], tuple(unix["sources"])),
    )


def said(line: str, text: str, told: str, known: bool) -> str:
    """What failed by that, in the line and all that is around it; "" where it may well be a connection. `known`: a program that
    keeps connections is known by its words."""
    for row in _table()[0]:
        if (row.always or not known) and any(fnmatch.fnmatchcase(told, one) for one in row.told):
            if row.unless.search(line):
                continue
            if row.line.search(line) or row.text.search(text):
                return row.says
    return ""


def alone(text: str) -> str:
    """What failed, where nothing else is known of the text; "" where that is nothing."""
    for row in _table()[0]:
        if row.line.search(text) and row.alone.search(text) and not row.unless.search(text):
            return row.says
    return ""


def over_unix(line: str, text: str, writer: str) -> bool:
    """Was it a connection over a Unix socket?"""
    row = _table()[1].row
    parts = _SIDES.split(line)
    if len(parts) > 1 and writer in ("upstream", "downstream"):
        side = "upstream: " if writer == "upstream" else "client: "
        return bool(row.line.search(" ".join([parts[0], *(part for part in parts[1:] if part.startswith(side))])))
    about = line if row.unless.search(text) else text
    return bool(row.line.search(about)) and not row.unless.search(about)


def unix_failed(text: str) -> Row | None:
    """What failed over it by an errno that no connection ends by."""
    return next((row for row in _table()[1].failed if row.line.search(text)), None)


def unix() -> Row:
    """What is true of all of them."""
    return _table()[1].row


def unix_answers(made: Sequence[Answer], told: str, peer: str) -> tuple[list[Answer], Prior]:
    """Of the answers those that a Unix socket has, in its words, and why."""
    from faultkit.serving.unix import FAULTS

    served = {name.partition(":")[0] for name in FAULTS}
    if told.startswith(("recv ", "send ", "EOF")):
        served.discard("backlog-full")  # whom it accepts later it resets only over TCP (tcp_abort_on_overflow)
    found = []
    for answer in made:
        fits = tuple(fit for fit in answer.fits if fit.name in served)
        says = _table()[1].answers.get(answer.name, "")
        if fits and says:
            found.append(Answer(answer.name, says.format(peer=peer), fits))
    return found, _table()[1].prior
