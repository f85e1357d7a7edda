"""The causes as a list, by family: for the terminal, for machines and for the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from faultkit.cause import FAMILIES
from faultkit.options import flag, spec, written

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.cause import Cause


def show(console: Console, causes: Sequence[Cause]) -> None:
    """Every cause by family, one line each."""
    width = max(len(cause.name) for cause in causes)
    for family, meaning in FAMILIES.items():
        own = [cause for cause in causes if cause.family == family]
        if own:
            console.print(f"{family}: {meaning}", style="bold", highlight=False)
        for cause in own:
            console.print(f"  [cyan]{cause.name:<{width}}[/]  {cause.summary}", highlight=False, soft_wrap=True)


def document(causes: Sequence[Cause]) -> list[dict[str, Any]]:
    """The catalogue for machines."""
    return [
        {
            "name": cause.name,
            "family": cause.family,
            "summary": cause.summary,
            "story": cause.story,
            "options": [
                {
                    "flag": flag(option),
                    "default": written(option, option.default),
                    "unit": spec(option).unit or None,
                    "help": spec(option).help,
                }
                for option in fields(cause.options)
            ],
            "lookalikes": dict(cause.lookalikes),
            "met": list(cause.met),
            "remedy": list(cause.remedy),
        }
        for cause in causes
    ]


def markdown(causes: Sequence[Cause]) -> str:
    """The table of the README."""
    rows = [f"| `{cause.name}` | {cause.family} | {cause.summary.replace('|', chr(92) + '|')} |" for cause in causes]
    return "\n".join(["| cause | family | what happens |", "|---|---|---|", *rows])
