"""A chain of timeouts: which pairs nest, which race."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from faultkit.nesting.timeouts import NEVER, RULES, Pair
from faultkit.views.console import paragraph, whole

if TYPE_CHECKING:
    from rich.console import Console


_FURTHER = " " * 4, " " * 6


def verdict(pairs: Sequence[Pair]) -> str:
    """One line."""
    racing = sum(not pair.nests for pair in pairs)
    count, what = (racing, "race") if racing else (len(pairs), "nest")
    return f"{count} of {len(pairs)} {what}{'s' if count == 1 else ''}."


def show(console: Console, pairs: Sequence[Pair], unchecked: Sequence[str]) -> None:
    """By the rule that they obey, each pair with the one first that must be the shorter."""
    for kind, rule in RULES.items():
        own = [pair for pair in pairs if pair.kind == kind]
        if own:
            paragraph(console, f"{kind}: {rule}", style="bold")
        for pair in own:
            mark, sign, colour = ("✔", "<", "green") if pair.nests else ("✘", "≮", "red")
            paragraph(
                console, f"{mark} {pair.shorter} {sign} {pair.longer}: {pair.state}", "  ", "    ", drawn={mark: colour}
            )
            if not pair.nests:
                paragraph(console, pair.why, *_FURTHER)
                paragraph(console, f"To see it: {whole(f'faultkit {pair.cause}')}", *_FURTHER)
                paragraph(console, f"To end it: {pair.remedy}", *_FURTHER)
    for sentence in unchecked:
        paragraph(console, f"Not compared: {sentence}")
    paragraph(console, verdict(pairs), style="bold")


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
