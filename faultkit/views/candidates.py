"""The causes that fit a sighting."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from faultkit.clients.sighting import Candidate, tell

if TYPE_CHECKING:
    from rich.console import Console


def show(console: Console, found: Sequence[Candidate], ways: Mapping[str, str] | None = None) -> None:
    """Most likely first, each with what tells it from the others. `ways` says of each how it is known, by its name."""
    if not found:
        console.print("No cause of the catalogue fits that: leave a flag out, or say less.", highlight=False)
    for number, candidate in enumerate(found, 1):
        console.print(
            f"{number}. [cyan]{candidate.cause.name}[/]: {candidate.cause.summary}", highlight=False, soft_wrap=True
        )
        way = ways[candidate.cause.name] if ways else f"seen by the {' and the '.join(candidate.roles)}"
        parts = [f"{way}; shown by: {candidate.command}"]
        if len(found) > 1:
            parts.append(tell(candidate, found))
        for part in parts:
            lines = textwrap.wrap(
                part, console.width, initial_indent="   ", subsequent_indent="   ", break_on_hyphens=False
            )
            console.print("\n".join(lines), markup=False, soft_wrap=True)


def document(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    """For machines."""
    return [
        {
            "cause": candidate.cause.name,
            "summary": candidate.cause.summary,
            "seen_by": list(candidate.roles),
            "command": candidate.command,
            "tell": tell(candidate, found) if len(found) > 1 else None,
        }
        for candidate in found
    ]
