"""In which order the causes of a line stand, and which of them stand together: likely.toml."""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faultkit import causes
from faultkit.messages.fitting import Fit

KNOWN = Path(__file__).with_name("likely.toml")


@dataclass(frozen=True)
class Answer:
    """Causes that cannot be told apart from where the line was written."""

    name: str
    says: str
    fits: tuple[Fit, ...]  # the likeliest first
    likely: bool = True  # False: the row does not name it


@dataclass(frozen=True)
class Prior:
    """A row of the table."""

    answers: tuple[str, ...]
    because: str
    sources: tuple[str, ...]


@functools.cache
def document() -> dict[str, Any]:
    """The table as it is written."""
    return tomllib.loads(KNOWN.read_text("utf-8"))


def _fits(row: Mapping[str, Any], program: str, pool: str, writer: str, told: str, when: Sequence[str]) -> bool:
    return (
        ("program" not in row or any(program.startswith(one) for one in row["program"]))
        and ("pool" not in row or pool in row["pool"])
        and ("writer" not in row or writer in row["writer"])
        and ("told" not in row or any(fnmatch.fnmatchcase(told, one) for one in row["told"]))
        and ("when" not in row or not set(when).isdisjoint(row["when"]))
    )


def prior(program: str, pool: str, writer: str, told: str, when: Sequence[str]) -> Prior:
    """The first row that fits: the last one fits all."""
    row = next(row for row in document()["likely"] if _fits(row, program, pool, writer, told, when))
    return Prior(tuple(row["answers"]), row["because"], tuple(row["sources"]))


def answers(found: Sequence[Fit], row: Prior, peer: str) -> list[Answer]:
    """What fits, as answers: those of the row in its order, then the others; what only fits if more happened comes last, and
    so does what is hardly ever met."""
    rest = {fit.name: fit for fit in found}
    made: list[Answer] = []
    listed = document()["answers"]
    for name in [*row.answers, *(name for name in listed if name not in row.answers)]:
        likely = name in row.answers
        mine = [rest[cause] for cause in listed[name]["causes"] if cause in rest]
        if not likely:
            mine = [fit for fit in mine if fit.strong or fit.tester]
        if not mine:
            continue
        for fit in mine:
            del rest[fit.name]
        ordered = sorted(
            mine, key=lambda fit: (not fit.strong, fit.late, not fit.tester and causes.load(fit.name).seldom)
        )
        seldom = all(not fit.tester and causes.load(fit.name).seldom for fit in ordered)
        says = listed[name]["says"].format(peer=peer)
        made.append(Answer(name, says, tuple(ordered), likely and not (seldom and len(made) > 0)))
    return sorted(made, key=lambda answer: not answer.likely)


def hinted(every: float | None, since: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What it means that a failure comes every so many seconds, or since something: the answers that it speaks for, and in
    words why."""
    names: list[str] = []
    said: list[str] = []
    if every is not None:
        row = timer(every)
        names += row.get("answers", [])
        names += document()["hints"]["every"]
        if row:
            said.append(f"{every:g} s, which is most often {row['whose']}")
    for row in document()["since"] if since is not None else ():
        if any(word in str(since).casefold() for word in row["words"]):
            names += row["answers"]
            said.append(row["says"])
    return tuple(dict.fromkeys(names)), tuple(said)


def causes_of(names: Sequence[str]) -> frozenset[str]:
    """The causes of some answers."""
    return frozenset(cause for name in names for cause in document()["answers"][name]["causes"])


def timer(seconds: float) -> dict[str, Any]:
    """Whose timeout that usually is; nothing where nobody's is known."""
    for row in document()["timer"]:
        if any(abs(seconds - one) <= max(0.1, one * 0.02) for one in row["seconds"]):
            return dict(row)
    return {}


def timed(seconds: float | None) -> tuple[str, ...]:
    """The answers for which a timeout of so many seconds speaks by itself."""
    return tuple(timer(seconds).get("answers", ())) if seconds is not None else ()


def first(made: Sequence[Answer], names: Sequence[str]) -> list[Answer]:
    """The same, those that are named first, in that order. Where another answer holds all causes of a named one that is not
    there, it counts for it, and they come first in it."""
    there = {answer.name for answer in made}
    wanted = [name if name in there else set(document()["answers"][name]["causes"]) for name in names]

    def rank(answer: Answer) -> int:
        if not answer.likely:
            return len(names)
        mine = {fit.name for fit in answer.fits}
        return next(
            (
                number
                for number, one in enumerate(wanted)
                if (one == answer.name if isinstance(one, str) else one <= mine)
            ),
            len(names),
        )

    ranks = {answer.name: rank(answer) for answer in made}
    ordered = []
    for answer in sorted(made, key=lambda one: ranks[one.name]):
        speaks = wanted[ranks[answer.name]] if ranks[answer.name] < len(names) else answer.name
        fits = answer.fits
        if not isinstance(speaks, str):
            fits = tuple(sorted(fits, key=lambda fit: fit.name not in speaks))
        ordered.append(replace(answer, fits=fits))
    return ordered
