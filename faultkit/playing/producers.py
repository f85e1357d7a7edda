"""The kernel's reset reasons, and which cause produces each: read off the causes' promises, and proven live on request."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from faultkit import causes
from faultkit.acting.play import rehearsal
from faultkit.cause import Cause, Options, checked, typed
from faultkit.errors import Misuse, Unable
from faultkit.evidence import reasons
from faultkit.evidence.transcript import Transcript
from faultkit.playing.run import Outcome, repeat
from faultkit.stage import Stage, tracing
from faultkit.witness import Witnesses


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


@dataclass(frozen=True, slots=True)
class Listed:
    """Every reason of a kernel, and who promises which."""

    numbers: dict[str, int]
    source: str  # where that list is from
    producers: dict[str, list[Producer]]

    def wanted(self) -> dict[str, list[Producer]]:
        """What can be proven."""
        return {reason: self.producers[reason] for reason in self.numbers if reason in self.producers}


def listed(stage: Stage) -> Listed:
    """The running kernel's own list where it may be read, else the one that is shipped."""
    try:
        numbers = reasons.listed(tracing.ready(stage.namespace))
    except Unable as error:
        plain = [name for name in reasons.REASONS if name not in ("NOT_SPECIFIED", "ERROR")]
        shipped = {"NOT_SPECIFIED": 0, **{name: number for number, name in enumerate(plain, 1)}}
        source = f"the list of Linux 6.18, shipped with faultkit ({error})"
        return Listed(shipped | {"ERROR": len(shipped)}, source, producers())
    source = f"the running kernel's own list, Linux {platform.release()} (tcp:tcp_send_reset)"
    return Listed(numbers, source, producers())


def prove(
    stage: Stage, seeing: Witnesses, wanted: dict[str, list[Producer]], step: Callable[[str], None]
) -> dict[str, Proof]:
    """Play each reason's producers in order, until the kernel has said that reason in a run as promised.

    `step` is told which reason is next. Raises `Unable` where the kernel's reasons may not be read.
    """
    if "reasons" in seeing.absent:
        raise Unable(f"reasons: nothing can be proven here: {seeing.absent['reasons']}")
    trials = _Trials(stage, seeing)
    proofs = {}
    for reason, candidates in wanted.items():
        step(reason)
        proofs[reason] = trials.prove(reason, candidates)
    step("")
    return proofs


class _Trials:
    """What was played already is not played again for another reason."""

    def __init__(self, stage: Stage, seeing: Witnesses) -> None:
        self._stage = stage
        self._seeing = seeing
        self._played: dict[str, tuple[set[str], str]] = {}  # by what is typed: the reasons that were seen, or why none

    def prove(self, reason: str, candidates: Sequence[Producer]) -> Proof:
        failed: list[str] = []
        for producer in candidates:
            if producer.typed not in self._played:
                self._played[producer.typed] = self._play(producer)
            seen, instead = self._played[producer.typed]
            if reason in seen:
                return Proof(producer, tuple(failed))
            failed.append(f"{producer.typed}: {instead}")
        return Proof(None, tuple(failed))

    def _play(self, producer: Producer) -> tuple[set[str], str]:
        outcomes: list[Outcome] = []
        try:
            repeat(producer.cause, producer.options, self._stage, self._seeing, 1, outcomes.append)
        except (Misuse, Unable) as error:
            return set(), str(error)
        return _seen(outcomes[0].transcript, outcomes[0].verdict.produced)


def _seen(transcript: Transcript, produced: bool) -> tuple[set[str], str]:
    if (resets := transcript.resets) is None:
        return set(), transcript.absent["reasons"]
    found = {reset.reason for reset in resets if reset.direction == "sent"}
    return (found, f"saw {', '.join(sorted(found)) or 'no reset'}") if produced else (set(), "not as promised")
