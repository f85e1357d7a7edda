"""The kernel's reset reasons, and which cause produces each: read off the causes' promises, and proven live on request."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faultkit import causes
from faultkit.acting.play import rehearsal
from faultkit.cause import Cause, Options, checked, typed
from faultkit.errors import Unable
from faultkit.evidence.reasons import REASONS, listed
from faultkit.evidence.transcript import Transcript
from faultkit.stage import Stage, open_stage, tracing
from faultkit.witness import Witnesses, watching

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Producer:
    """A cause with options that promises a reason."""

    cause: Cause
    options: Options
    cost: tuple[float, int, int]  # seconds of the kernel's clocks, resets, options: the plainest is the smallest

    @property
    def typed(self) -> str:
        """What a person types after `faultkit`."""
        return typed(self.cause, self.options)


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of playing the producers of one reason."""

    by: Producer | None  # who produced it
    failed: tuple[str, ...]  # what else was tried, and what was seen instead


def producers() -> dict[str, list[Producer]]:
    """Who promises which reason, the quickest and plainest first. Nothing is played."""
    found: dict[str, list[Producer]] = {}
    for cause in causes.by_family():
        for variant in cause.variants:
            options = checked(cause, dict(variant))
            promise = cause.promise(options, rehearsal(cause.name, options))
            resets = promise.resets or ()
            producer = Producer(cause, options, (promise.seconds, len(resets), len(variant)))
            for reason in dict.fromkeys(rst.reason for rst in resets if rst.reason):
                found.setdefault(reason, []).append(producer)
    for several in found.values():
        several.sort(key=lambda producer: producer.cost)
    return found


def numbered(stage: Stage) -> tuple[dict[str, int], str]:
    """Every reason with its number, and where that list is from: the running kernel if it may be read, else our own."""
    try:
        kernel = listed(tracing.ready(stage.namespace))
    except Unable as error:
        plain = [name for name in REASONS if name not in ("NOT_SPECIFIED", "ERROR")]
        shipped = {"NOT_SPECIFIED": 0, **{name: number for number, name in enumerate(plain, 1)}}
        return shipped | {"ERROR": len(shipped)}, f"the list of Linux 6.18, shipped with faultkit ({error})"
    return kernel, f"the running kernel's own list, Linux {platform.release()} (tcp:tcp_send_reset)"


def prove(stage: Stage, seeing: Witnesses, wanted: Iterable[tuple[str, list[Producer]]]) -> Iterator[tuple[str, Proof]]:
    """Play each reason's producers in order, until the kernel has said that reason in a run as promised."""
    from faultkit.playing.run import Outcome, repeat

    played: dict[
        str, tuple[set[str], str]
    ] = {}  # by what is typed: the reasons that it was seen to produce, or why not
    for reason, candidates in wanted:
        failed: list[str] = []
        for producer in candidates:
            if producer.typed not in played:
                outcomes: list[Outcome] = []
                try:
                    repeat(producer.cause, producer.options, stage, seeing, 1, outcomes.append)
                except Unable as error:
                    played[producer.typed] = (set(), str(error))
                else:
                    played[producer.typed] = _seen(outcomes[0].transcript, outcomes[0].verdict.produced)
            seen, instead = played[producer.typed]
            if reason in seen:
                yield reason, Proof(producer, tuple(failed))
                break
            failed.append(f"{producer.typed}: {instead}")
        else:
            yield reason, Proof(None, tuple(failed))


def _seen(transcript: Transcript, produced: bool) -> tuple[set[str], str]:
    if (resets := transcript.resets) is None:
        return set(), transcript.absent["reasons"]
    reasons = {reset.reason for reset in resets if reset.direction == "sent"}
    return (reasons, f"saw {', '.join(sorted(reasons)) or 'no reset'}") if produced else (set(), "not as promised")


def show(*, check: bool, as_json: bool) -> int:
    """Print the list, proven or only promised. Gives the exit status: 1 where a promised reason was not seen."""
    stage = open_stage(None, ipv6=False)
    numbers, source = numbered(stage)
    promised = producers()
    proofs: dict[str, Proof] = {}
    if check:
        with watching(stage) as seeing:
            if "reasons" in seeing.absent:
                raise Unable(f"reasons: nothing can be proven here: {seeing.absent['reasons']}")
            wanted = [(reason, promised[reason]) for reason in numbers if reason in promised]
            proofs = dict(_with_progress(prove(stage, seeing, wanted), len(wanted)))
    if as_json:
        import json

        print(json.dumps(_document(numbers, source, promised, proofs), indent=2, ensure_ascii=False))
    else:
        from faultkit.commands.session import console

        _show(console(sys.stdout), numbers, source, promised, proofs)
    return int(any(proof.by is None for proof in proofs.values()))


def _with_progress(proofs: Iterator[tuple[str, Proof]], total: int) -> Iterator[tuple[str, Proof]]:
    if not sys.stderr.isatty():
        yield from proofs
        return
    from rich.progress import track

    from faultkit.commands.session import console

    yield from track(proofs, "reasons", total, console=console(sys.stderr), transient=True)


def _why_not(reason: str) -> str:
    return (REASONS[reason].unreached or "no cause promises it") if reason in REASONS else "unknown to this version"


def _show(
    console: Console,
    numbers: dict[str, int],
    source: str,
    promised: dict[str, list[Producer]],
    proofs: dict[str, Proof],
) -> None:
    import textwrap

    console.print(f"Why a kernel sends a RST: {source}.", style="bold", markup=False, soft_wrap=True)
    for reason, number in numbers.items():
        proof, meaning = proofs.get(reason), REASONS[reason].meaning if reason in REASONS else ""
        blank = "  " if proofs else ""
        sign = blank if proof is None else "[bold green]✔ [/]" if proof.by else "[bold red]✘ [/]"
        console.print(f"\n{sign}{number:>2} [cyan]{reason}[/]")
        lines = [meaning] if meaning else []
        if reason not in promised:
            lines.append(f"not produced: {_why_not(reason)}")
        elif proof is None:
            lines += [f"faultkit {producer.typed}" for producer in promised[reason]]
        else:
            lines += [f"seen: faultkit {proof.by.typed}"] if proof.by else ["not seen"]
            lines += [f"tried: faultkit {failure}" for failure in proof.failed]
        for line in lines:
            wrapped = textwrap.wrap(line, console.width, initial_indent="    ", subsequent_indent="      ")
            console.print("\n".join(wrapped), markup=False, soft_wrap=True)
    if proofs:
        seen = sum(proof.by is not None for proof in proofs.values())
        console.print(
            f"\n{seen} of {len(proofs)} promised reasons seen; {len(numbers) - len(proofs)} that no cause produces.",
            style="bold",
        )


def _document(
    numbers: dict[str, int], source: str, promised: dict[str, list[Producer]], proofs: dict[str, Proof]
) -> dict[str, Any]:
    rows = []
    for reason, number in numbers.items():
        proof = proofs.get(reason)
        row: dict[str, Any] = {
            "number": number,
            "reason": reason,
            "meaning": REASONS[reason].meaning if reason in REASONS else None,
            "producers": [producer.typed for producer in promised.get(reason, [])],
            "not_produced": None if reason in promised else _why_not(reason),
        }
        if proof:
            row |= {"seen": proof.by is not None, "seen_by": proof.by and proof.by.typed, "failed": list(proof.failed)}
        rows.append(row)
    return {"source": source, "reasons": rows}
