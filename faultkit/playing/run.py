"""Plays a cause under its witnesses and holds what they saw against the promise.

`stage opens -> witnesses start -> fault and script play -> transcript -> verdict`. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import trio

from faultkit.acting.play import Play
from faultkit.cause import Cause, Options
from faultkit.errors import Exhausted, Misuse, Unable
from faultkit.evidence.transcript import Transcript
from faultkit.evidence.verdict import Promise, Verdict, judge
from faultkit.stage import Stage
from faultkit.witness import Witnesses

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


async def once(cause: Cause, options: Options, stage: Stage, seeing: Witnesses, watch: Watch | None = None) -> Outcome:
    """Play the cause once. Raises `Misuse` and `Unable` as its halves do; everything else that happens is in the transcript."""
    transcript = seeing.begin()
    play = Play(cause.name, options, stage, transcript)
    play.calls.look = seeing.look
    trio.lowlevel.add_instrument(play.notes.processor)
    try:
        await cause.make_ready(play)
        try:
            await _perform(cause, play, cause.promise(options, play).seconds, seeing, watch)
        finally:
            seeing.end(transcript, play.scenery.neighbours, play.scenery.captures)
        # Asked anew, because what can be promised of a later call may depend on what the kernel made of an earlier one.
        promise = cause.promise(options, play)
    finally:
        trio.lowlevel.remove_instrument(play.notes.processor)
        with trio.CancelScope(shield=True):
            await play.strike()
    return Outcome(cause, options, stage, promise, transcript, judge(promise, transcript))


async def _perform(cause: Cause, play: Play, seconds: float, seeing: Witnesses, watch: Watch | None) -> None:
    # Generous: what is late is judged by its own measurement; this bound only ends what would wait for ever.
    with trio.move_on_after(seconds * 1.5 + 30) as play.limit:
        try:
            async with trio.open_nursery() as outer:
                play.beside = outer
                outer.start_soon(seeing.watch)
                if watch:
                    outer.start_soon(watch, play)
                async with trio.open_nursery() as halves:
                    if cause.server is not None:
                        halves.start_soon(cause.server, play)
                    else:
                        halves.start_soon(_serve_one, cause, play)
                    halves.start_soon(cause.script, play)
                outer.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise_first(group)
    play.transcript.overdue = play.limit.cancelled_caught


async def _serve_one(cause: Cause, play: Play) -> None:
    """Listen, on the port that is asked for, if one is, accept one connection, and let the fault have it."""
    assert cause.fault is not None, f"{cause.name}: a cause without a fault has a server of its own"
    await cause.fault(await play.accept(play.listen(getattr(play.options, "port", 0))), play)


def raise_first(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """An error raised in one half comes out of the nurseries wrapped; a refusal is raised bare, as the one sentence it is."""
    for kind in (KeyboardInterrupt, Misuse, Unable):
        found: BaseException | None = group.subgroup(kind)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is not None:
            raise found
    raise group


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
    # Ctrl-C comes where something waits, never between a firewall rule and the note that it is in.
    run = partial(_series, cause, options, stage, seeing, times, each, watch)
    try:
        try:
            trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
        except BaseExceptionGroup as group:
            raise_first(group)
    except Exhausted:
        raise
    except Unable as refusal:
        raise Unable(stage.advice(str(refusal))) from refusal
