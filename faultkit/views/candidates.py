"""The causes that fit a sighting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from faultkit.clients.sighting import Candidate, tell
from faultkit.views.console import paragraph, whole

if TYPE_CHECKING:
    from rich.console import Console


def show(console: Console, found: Sequence[Candidate], ways: Mapping[str, str] | None = None) -> None:
    """Most likely first, each with what tells it from the others. `ways` says of each how it is known, by its name."""
    if not found:
        paragraph(console, "No cause of the catalogue fits that: leave a flag out, or say less.")
    for number, candidate in enumerate(found, 1):
        name = candidate.cause.name
        paragraph(console, f"{number}. {name}: {candidate.cause.summary}", rest="   ", drawn={name: "cyan"})
        way = ways[name] if ways else f"seen by the {' and the '.join(candidate.roles)}"
        paragraph(console, f"{_copied(way)}; shown by: {whole(candidate.command)}", "   ", "   ")
        if len(found) > 1:
            paragraph(console, tell(candidate, found), "   ", "   ")


def _copied(way: str) -> str:
    """Each of the commands in it whole: "seen: faultkit serve linger, linger --at mid-body"."""
    head, colon, commands = way.partition(": ")
    return head + colon + ", ".join(map(whole, commands.split(", "))) if colon else way


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
