"""In which order the causes of a line stand, and which of them stand together: likely.toml."""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    made = []
    listed = document()["answers"]
    for number, name in enumerate([*row.answers, *(name for name in listed if name not in row.answers)]):
        mine = [rest[cause] for cause in listed[name]["causes"] if cause in rest]
        if number >= len(row.answers):
            mine = [fit for fit in mine if fit.strong or fit.tester]
        if mine:
            for fit in mine:
                del rest[fit.name]
            ordered = sorted(mine, key=lambda fit: not fit.tester and causes.load(fit.name).seldom)
            made.append(Answer(name, listed[name]["says"].format(peer=peer), tuple(ordered)))
    return made
