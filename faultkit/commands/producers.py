"""The kernel's reset reasons, and which cause produces each: read off the causes' promises, and proven live on request."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from faultkit import causes
from faultkit.cause import Cause, Options, checked, typed
from faultkit.errors import Unable
from faultkit.evidence.reasons import REASONS, listed
from faultkit.evidence.transcript import Transcript
from faultkit.playing.play import rehearsal
from faultkit.playing.run import Outcome, repeat
from faultkit.stage import Stage, open_stage, tracing
from faultkit.witness import Witnesses, watching


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
            promise = cause.promise(options, rehearsal(cause, options))
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
    reasons = {reset.reason for reset in transcript.resets if reset.direction == "sent"}
    if "reasons" in transcript.absent:
        return set(), transcript.absent["reasons"]
    return (reasons, f"saw {', '.join(sorted(reasons)) or 'no reset'}") if produced else (set(), "not as promised")


def show(*, check: bool, as_json: bool, quiet: bool) -> int:
    """Print the list, proven or only promised. Gives the exit status: 1 where a promised reason was not seen."""
    from faultkit.views import progress
    from faultkit.views import reasons as views
    from faultkit.views.console import console, emit

    stage = open_stage(None, ipv6=False)
    numbers, source = numbered(stage)
    promised = producers()
    proofs: dict[str, Proof] = {}
    if check:
        with watching(stage) as seeing:
            if "reasons" in seeing.absent:
                raise Unable(f"reasons: nothing can be proven here: {seeing.absent['reasons']}")
            wanted = [(reason, promised[reason]) for reason in numbers if reason in promised]
            with progress.steps(len(wanted), quiet, "reasons") as step:
                proofs = dict(prove(stage, seeing, _announced(wanted, step)))
    if as_json:
        emit(views.document(numbers, source, promised, proofs))
    else:
        views.show(console(), numbers, source, promised, proofs)
    return int(any(proof.by is None for proof in proofs.values()))


def _announced(
    wanted: Iterable[tuple[str, list[Producer]]], step: Callable[[str], None]
) -> Iterator[tuple[str, list[Producer]]]:
    for reason, candidates in wanted:
        step(reason)
        yield reason, candidates
    step("")
