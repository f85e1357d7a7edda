"""Plays a cause under its witnesses and holds what they saw against the promise.

`stage opens -> witnesses start -> fault and script play -> transcript -> verdict`. Nothing here prints.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import trio

from faultkit.cause import Cause, Options
from faultkit.errors import Misuse, Unable
from faultkit.play import Play
from faultkit.stage import Stage
from faultkit.stage.tracing import Instance, open_instance
from faultkit.transcript import Packet, Reset, Transcript
from faultkit.verdict import Promise, Verdict, judge
from faultkit.witness import kernel
from faultkit.witness.wire import Capture, decode

Watch = Callable[[Play], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run, whole."""

    cause: Cause
    options: Options
    stage: Stage
    promise: Promise
    transcript: Transcript
    verdict: Verdict


@dataclass(slots=True)
class Witnesses:
    """Those of the three that this machine allows, for any number of runs. `absent` says why one is not there."""

    capture: Capture | None
    reasons: kernel.Reasons | None
    absent: dict[str, str]


@contextlib.contextmanager
def witnesses(stage: Stage, *, wire: bool = True) -> Iterator[Witnesses]:
    """Start the witnesses on a stage. Call it before any thread or event loop runs."""
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        instance: Instance | None = None
        try:
            instance = stack.enter_context(contextlib.closing(open_instance(stage.namespace)))
        except Unable as error:
            absent["reasons"] = str(error)
        capture: Capture | None = None
        if not wire:
            absent["wire"] = "left out on request"
        else:
            try:
                capture = stack.enter_context(contextlib.closing(Capture("lo")))
            except PermissionError:
                absent["wire"] = "packet capture on the host needs CAP_NET_RAW: leave --on host out, or run as root"
        yield Witnesses(capture, kernel.Reasons(instance) if instance else None, absent)


async def once(cause: Cause, options: Options, stage: Stage, seeing: Witnesses, watch: Watch | None = None) -> Outcome:
    """Play the cause once. Raises `Misuse` and `Unable` as its halves do; everything else that happens is in the transcript."""
    if seeing.capture:
        seeing.capture.cut()
    if seeing.reasons:
        seeing.reasons.cut()
    before = kernel.counters()
    transcript = Transcript(began_ns=time.time_ns(), alone=stage.namespace is not None, absent=dict(seeing.absent))
    play = Play(cause, options, stage, transcript)
    try:
        if cause.prepare:
            await cause.prepare(play)
        promise = cause.promise(options, play)
        try:
            await _perform(play, promise, watch)
        finally:
            transcript.ended_ns = time.time_ns()
            after = kernel.counters()
            _collect(transcript, seeing)
    finally:
        with trio.CancelScope(shield=True):
            await play.strike()
    transcript.counters = kernel.moved(before, after)
    return Outcome(cause, options, stage, promise, transcript, judge(promise, transcript))


async def _perform(play: Play, promise: Promise, watch: Watch | None) -> None:
    # Generous: what is late is judged by its own measurement; this bound only ends what would wait for ever.
    with trio.move_on_after(promise.seconds * 1.5 + 10) as limit:
        try:
            async with trio.open_nursery() as outer:
                if watch:
                    outer.start_soon(watch, play)
                async with trio.open_nursery() as halves:
                    halves.start_soon(play.cause.server, play)
                    halves.start_soon(play.cause.script, play)
                outer.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            _raise_first(group)
    play.transcript.overdue = limit.cancelled_caught


def _raise_first(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """An error raised in one half comes out of the nurseries wrapped; a refusal is raised bare, as the one sentence it is."""
    for kind in (KeyboardInterrupt, Misuse, Unable):
        found: BaseException | None = group.subgroup(kind)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is not None:
            raise found
    raise group


def _collect(transcript: Transcript, seeing: Witnesses) -> None:
    """What the wire and the kernel saw of this run, and of nothing else on the machine."""
    if seeing.capture:
        frames, dropped = seeing.capture.cut()
        packets = (decode(time_ns, frame) for time_ns, frame in frames)
        transcript.packets = [packet for packet in packets if packet and _ours(packet, transcript)]
        if dropped:
            transcript.absent["wire"] = f"the capture lost {dropped} packets, so what it saw is not whole"
    if seeing.reasons:
        resets, lost = seeing.reasons.cut()
        transcript.resets = [reset for reset in resets if _ours(reset, transcript)]
        if lost:
            transcript.absent["reasons"] = f"the trace lost {lost} events, so what it saw is not whole"


def _ours(event: Packet | Reset, transcript: Transcript) -> bool:
    """Between two ends of this run. A reset for a listening socket names no peer: its destination is port 0."""
    return event.source in transcript.roles and (event.destination in transcript.roles or event.destination.port == 0)


async def _series(
    cause: Cause,
    options: Options,
    stage: Stage,
    seeing: Witnesses,
    times: int,
    each: Callable[[Outcome], None],
    watch: Watch | None,
) -> None:
    for _ in range(times):
        each(await once(cause, options, stage, seeing, watch))


def repeat(
    cause: Cause,
    options: Options,
    stage: Stage,
    seeing: Witnesses,
    times: int,
    each: Callable[[Outcome], None],
    watch: Watch | None = None,
) -> None:
    """Play it `times` times on one stage in one event loop, handing each outcome over as it comes."""
    try:
        trio.run(_series, cause, options, stage, seeing, times, each, watch)
    except BaseExceptionGroup as group:
        _raise_first(group)
