"""What a person sees who waits, on standard error: a bar on a terminal, and a line now and then in a pipe.

A signal that ends the wait is taken here too: it never leaves half a bar, nor a terminal without its cursor.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from faultkit.playing.signals import interruptible
from faultkit.views import signs
from faultkit.views.console import console

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.acting.notes import Countdown
    from faultkit.acting.play import Play
    from faultkit.playing.run import Outcome, Watch

_OFTEN, _SELDOM = 10.0, 60.0  # seconds; arbitrary: what is soon over says nothing, 12 minutes say 17 lines


class Lines:
    """Lines in a pipe: one in 10 s, and after a minute one a minute. `asked` says which command."""

    def __init__(self, asked: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._told, self._clock = f"faultkit: {asked}: " if asked else "faultkit: ", clock
        self._began = clock()
        self._due = self._began + _OFTEN

    def say(self, text: str) -> None:
        """Write the line if one is due. A reader that is slow, or gone, misses it: nothing waits for it."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + (_OFTEN if now - self._began < _SELDOM else _SELDOM)
        stream = sys.stderr
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            number = stream.fileno()
            if select.select([], [number], [], 0)[1]:
                os.write(number, f"{self._told}{text}\n".encode(stream.encoding, signs.IN_WORDS))


@contextlib.contextmanager
def steps(total: int, quiet: bool, asked: str = "") -> Iterator[Callable[[str], None]]:
    """Call it with what is played next."""
    if quiet or not sys.stderr.isatty():
        lines, numbers = Lines(asked), itertools.count()

        def tell(name: str) -> None:
            lines.say(f"{next(numbers)} of {total}{f', now {name}' if name else ''}")

        with interruptible():
            yield (lambda name: None) if quiet else tell
        return
    from rich.progress import TextColumn, TimeElapsedColumn

    with _bar(total, (TimeElapsedColumn(), TextColumn("{task.description}"))) as update:
        completed = itertools.count()
        yield lambda name: update(completed=next(completed), description=name)


@contextlib.contextmanager
def runs(name: str, times: int, quiet: bool) -> Iterator[tuple[Callable[[Outcome], None], Watch | None]]:
    """For a series a bar, which each outcome is told to; for a run that waits a countdown, as what watches the play."""
    began, odd, done = time.monotonic(), 0, 0
    lines = Lines(name)

    def count(outcome: Outcome) -> None:
        nonlocal odd, done
        done, odd = done + 1, odd + (not outcome.verdict.produced)

    if quiet:
        with interruptible():
            yield lambda outcome: None, None
    elif not sys.stderr.isatty():

        def tell(outcome: Outcome) -> None:
            count(outcome)
            lines.say(f"{done} of {times}{f', {odd} odd' if odd else ''}")

        async def watch(play: Play) -> None:
            await _watched(play, began, lines.say)

        with interruptible():
            yield tell, watch if times == 1 else None
    elif times == 1:
        with _spinner() as show:

            async def follow(play: Play) -> None:
                await _watched(play, began, show)

            yield lambda outcome: None, follow
    else:
        from rich.progress import TextColumn, TimeRemainingColumn

        columns = (TimeRemainingColumn(), TextColumn("{task.fields[odd]}"))
        with _bar(times, columns, name=name, odd="") as update:

            def each(outcome: Outcome) -> None:
                count(outcome)
                update(completed=done, odd=f"[red]{odd} odd" if odd else "")

            yield each, None


@contextlib.contextmanager
def _bar(total: int, beside: tuple[Any, ...], *, name: str = "", **more: Any) -> Iterator[Callable[..., None]]:
    """A bar of rich's, and what updates it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    err = console(sys.stderr)
    first = (TextColumn(name),) if name else ()
    bar = Progress(
        *first, BarColumn(max(5, min(40, err.width - 60))), MofNCompleteColumn(), *beside, console=err, transient=True
    )
    with _restored(err, bar.stop):
        bar.start()
        task = bar.add_task("", total=total, **more)
        yield partial(bar.update, task)


@contextlib.contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    """Not there before there is something to wait for."""
    err = console(sys.stderr)
    status = err.status("", spinner="line" if err.options.ascii_only else "dots")
    started = False

    def show(text: str) -> None:
        nonlocal started
        if not started:
            status.start()
            started = True
        status.update(text)

    with _restored(err, status.stop):
        yield show


@contextlib.contextmanager
def _restored(err: Console, stop: Callable[[], None]) -> Iterator[None]:
    """The terminal is as it was, however it ends; where rich was not let finish, its cursor is shown all the same."""
    with interruptible():
        stopped = False
        try:
            yield
            stop()
            stopped = True
        finally:
            if not stopped:
                with contextlib.suppress(OSError):  # a terminal that has hung up
                    stop()
                    err.show_cursor(True)


async def _watched(play: Play, began: float, say: Callable[[str], None]) -> None:
    """Say, twice a second, what the run waits for: "keepalive probe 3 of 9, next in 12 s". What that is not known of says
    how long it has lasted, once it has lasted."""
    import trio

    while True:
        await trio.sleep(0.5)
        passed = time.monotonic() - began
        if play.notes.countdown is not None:
            say(countdown(play.notes.countdown, trio.current_time()))
        elif passed > _OFTEN / 2:
            say(f"playing for {passed:.0f} s")


def countdown(waiting: Countdown, now: float) -> str:
    """What is awaited at that time of trio's clock."""
    passed = now - waiting.began
    sent = sum(tick <= passed for tick in waiting.ticks)
    parts = []
    if waiting.ticks:
        parts.append(f"{waiting.tick} {sent} of {len(waiting.ticks)}")
        if sent < len(waiting.ticks):
            parts.append(f"next in {waiting.ticks[sent] - passed:.0f} s")
    left = waiting.ends - passed
    parts.append(f"{waiting.end} in {left:.0f} s" if left > 0 else f"{waiting.end} is due")
    return ", ".join(parts)
