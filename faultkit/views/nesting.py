"""A chain of timeouts: which pairs nest, which race."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from faultkit.nesting.timeouts import NEVER, RULES, Pair

if TYPE_CHECKING:
    from rich.console import Console


def verdict(pairs: Sequence[Pair]) -> str:
    """One line."""
    racing = sum(not pair.nests for pair in pairs)
    count, what = (racing, "race") if racing else (len(pairs), "nest")
    return f"{count} of {len(pairs)} {what}{'s' if count == 1 else ''}."


def show(console: Console, pairs: Sequence[Pair], unchecked: Sequence[str]) -> None:
    """By the rule that they obey, each pair with the one first that must be the shorter."""
    from rich.markup import escape

    for kind, rule in RULES.items():
        own = [pair for pair in pairs if pair.kind == kind]
        if own:
            console.print("\n".join(textwrap.wrap(f"{kind}: {rule}", console.width)), style="bold", highlight=False)
        for pair in own:
            mark, sign = ("[green]✔[/]", "<") if pair.nests else ("[red]✘[/]", "≮")
            console.print(
                f"  {mark} {escape(f'{pair.shorter} {sign} {pair.longer}: {pair.state}')}",
                highlight=False,
                soft_wrap=True,
            )
            if not pair.nests:
                _paragraph(console, pair.why)
                _paragraph(console, f"To see it: faultkit {pair.cause}")
                _paragraph(console, f"To end it: {pair.remedy}")
    for sentence in unchecked:
        console.print(f"Not compared: {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print(verdict(pairs), style="bold", highlight=False)


def _paragraph(console: Console, text: str) -> None:
    lines = textwrap.wrap(
        text, console.width, initial_indent=" " * 4, subsequent_indent=" " * 6, break_on_hyphens=False
    )
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _seconds(seconds: Decimal) -> float | None:
    """For machines, which have no infinity: None never ends."""
    return None if seconds == NEVER else float(seconds)


def document(pairs: Sequence[Pair], unchecked: Sequence[str], margin: Decimal) -> dict[str, Any]:
    """For machines."""
    return {
        "nests": all(pair.nests for pair in pairs),
        "margin_seconds": float(margin),
        "pairs": [
            {
                "kind": pair.kind,
                **{
                    place: {"hop": timer.hop, "seconds": _seconds(timer.seconds), "setting": timer.setting}
                    for place, timer in (("shorter", pair.shorter), ("longer", pair.longer))
                },
                "nests": pair.nests,
                "state": pair.state,
                "why": pair.why or None,
                "cause": None if pair.nests else pair.cause,
                "remedy": pair.remedy or None,
            }
            for pair in pairs
        ],
        "unchecked": list(unchecked),
    }
