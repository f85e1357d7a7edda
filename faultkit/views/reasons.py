"""The kernel's reset reasons, and which cause produces each."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from faultkit.evidence.reasons import REASONS

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.playing.producers import Listed, Proof


def _why_not(reason: str) -> str:
    return (REASONS[reason].unreached or "no cause promises it") if reason in REASONS else "unknown to this version"


def show(console: Console, listed: Listed, proofs: Mapping[str, Proof]) -> None:
    """Each reason with what produces it, or why nothing does; with `proofs`, what came of playing it."""
    console.print(f"Why a kernel sends a RST: {listed.source}.", style="bold", markup=False, soft_wrap=True)
    for reason, number in listed.numbers.items():
        proof, meaning = proofs.get(reason), REASONS[reason].meaning if reason in REASONS else ""
        blank = "  " if proofs else ""
        sign = blank if proof is None else "[bold green]✔ [/]" if proof.by else "[bold red]✘ [/]"
        console.print(f"\n{sign}{number:>2} [cyan]{reason}[/]")
        lines = [meaning] if meaning else []
        if reason not in listed.producers:
            lines.append(f"not produced: {_why_not(reason)}")
        elif proof is None:
            lines += [f"faultkit {producer.typed}" for producer in listed.producers[reason]]
        else:
            lines += [f"seen: faultkit {proof.by.typed}"] if proof.by else ["not seen"]
            lines += [f"tried: faultkit {failure}" for failure in proof.failed]
        for line in lines:
            wrapped = textwrap.wrap(line, console.width, initial_indent="    ", subsequent_indent="      ")
            console.print("\n".join(wrapped), markup=False, soft_wrap=True)
    if proofs:
        seen = sum(proof.by is not None for proof in proofs.values())
        console.print(
            f"\n{seen} of {len(proofs)} promised reasons seen; {len(listed.numbers) - len(proofs)} that no cause produces.",
            style="bold",
        )


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
