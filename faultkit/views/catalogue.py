"""The causes as a list, by family: for the terminal, for machines and for the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from faultkit.cause import FAMILIES, checked, typed
from faultkit.options import flag, spec, written
from faultkit.views import table
from faultkit.views.console import paragraph
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.cause import Cause, Options


def show(console: Console, causes: Sequence[Cause]) -> None:
    """Every cause by family, one line each."""
    own = {family: [cause for cause in causes if cause.family == family] for family in FAMILIES}
    parts = [
        (
            partial(paragraph, console, f"{family}: {FAMILIES[family]}", style="bold"),
            [(cause.name, cause.summary) for cause in members],
        )
        for family, members in own.items()
        if members
    ]
    table.groups(console, (Column(style="cyan"), Column(prose=True)), parts, indent=2)


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
                    "choices": list(spec(option).choices) or None,
                    "least": spec(option).least,
                    "most": spec(option).most,
                    "multiple": spec(option).multiple,
                    "only_with": list(spec(option).only_with) or None,
                    "help": spec(option).help,
                }
                for option in fields(cause.options)
            ],
            "variants": [_variant(cause, checked(cause, dict(variant))) for variant in cause.variants],
            "served": {
                f"{cause.name}:{name}" if name else cause.name: str(one.when) for name, one in cause.served.items()
            },
            "lookalikes": dict(cause.lookalikes),
            "met": list(cause.met),
            "remedy": list(cause.remedy),
        }
        for cause in causes
    ]


def _variant(cause: Cause, options: Options) -> dict[str, Any]:
    """What a run with these options promises, over IPv4 and as if iptables were there; null promises nothing of that kind."""
    from faultkit.acting.play import rehearsal  # trio takes a while

    promise = cause.promise(options, rehearsal(cause.name, options))
    return {
        "typed": f"faultkit {typed(cause, options)}",
        "promise": {
            "calls": {role: list(calls) for role, calls in promise.calls.items()},
            "packets": None if promise.packets is None else list(promise.packets),
            "resets": None
            if promise.resets is None
            else [{"by": one.by, "reason": one.reason or None, "times": one.times.strip()} for one in promise.resets],
            "counters": None
            if promise.counters is None
            else {name: moves if isinstance(moves, int) else str(moves) for name, moves in promise.counters.items()},
            "measurements": list(promise.measurements),
            "seconds": promise.seconds,
        },
    }


def markdown(causes: Sequence[Cause]) -> str:
    """The table of the README."""
    rows = [f"| `{cause.name}` | {cause.family} | {cause.summary.replace('|', chr(92) + '|')} |" for cause in causes]
    return "\n".join(["| cause | family | what happens |", "|---|---|---|", *rows])
