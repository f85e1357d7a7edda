"""The kernel's reset reasons, and which cause produces each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from faultkit.evidence.reasons import REASONS
from faultkit.views.console import paragraph, whole

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.playing.producers import Listed, Proof


def _why_not(reason: str) -> str:
    return (REASONS[reason].unreached or "no cause promises it") if reason in REASONS else "unknown to this version"


def show(console: Console, listed: Listed, proofs: Mapping[str, Proof]) -> None:
    """Each reason with what produces it, or why nothing does; with `proofs`, what came of playing it."""
    paragraph(console, f"Why a kernel sends a RST: {listed.source}.", style="bold")
    for reason, number in listed.numbers.items():
        proof = proofs.get(reason)
        mark = ("  " if proofs else "") if proof is None else "✔ " if proof.by else "✘ "
        colours = {"✔": "bold green", "✘": "bold red", reason: "cyan"}
        console.print()
        paragraph(
            console, f"{mark}{number:>2} {reason}", drawn={sign: colours[sign] for sign in (*mark.split(), reason)}
        )
        for line in _told(reason, listed, proof):
            paragraph(console, line, "    ", "      ")
    if proofs:
        seen = sum(proof.by is not None for proof in proofs.values())
        console.print()
        paragraph(
            console,
            f"{seen} of {len(proofs)} promised reasons seen; {len(listed.numbers) - len(proofs)} that no cause produces.",
            style="bold",
        )


def _told(reason: str, listed: Listed, proof: Proof | None) -> list[str]:
    lines = [REASONS[reason].meaning] if reason in REASONS and REASONS[reason].meaning else []
    if reason not in listed.producers:
        return [*lines, f"not produced: {_why_not(reason)}"]
    if proof is None:
        return lines + [whole(f"faultkit {producer.typed}") for producer in listed.producers[reason]]
    lines.append(f"seen: {whole(f'faultkit {proof.by.typed}')}" if proof.by else "not seen")
    tried = (failure.partition(": ") for failure in proof.failed)
    return lines + [f"tried: {whole(f'faultkit {typed}')}: {instead}" for typed, _, instead in tried]


def document(listed: Listed, proofs: Mapping[str, Proof]) -> dict[str, Any]:
    """For machines."""
    rows = []
    for reason, number in listed.numbers.items():
        proof = proofs.get(reason)
        row: dict[str, Any] = {
            "number": number,
            "reason": reason,
            "meaning": REASONS[reason].meaning if reason in REASONS else None,
            "producers": [producer.typed for producer in listed.producers.get(reason, [])],
            "not_produced": None if reason in listed.producers else _why_not(reason),
        }
        if proof:
            row |= {"seen": proof.by is not None, "seen_by": proof.by and proof.by.typed, "failed": list(proof.failed)}
        rows.append(row)
    return {"source": listed.source, "reasons": rows}
