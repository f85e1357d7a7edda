"""What a person sees who waits: on a terminal's standard error only, and never in what is piped."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from faultkit.views.console import console

if TYPE_CHECKING:
    from faultkit.acting.notes import Countdown
    from faultkit.acting.play import Play
    from faultkit.playing.run import Outcome, Watch


@contextlib.contextmanager
def amount(what: str, total: int | None) -> Iterator[Callable[[int], None] | None]:
    """A bar for what is read, in bytes, on a terminal and where it takes more than a second."""
    if total is None or not sys.stderr.isatty():
        yield None
        return
    began, bars = time.monotonic(), contextlib.ExitStack()
    update: Callable[[int], None] | None = None

    def step(read: int) -> None:
        nonlocal update
        if update is None and time.monotonic() - began > 1:
            update = _bar(bars, what, total)
        if update is not None:
            update(read)

    with bars:
        yield step


def _bar(bars: contextlib.ExitStack, what: str, total: int) -> Callable[[int], None]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = bars.enter_context(Progress(*columns, console=console(sys.stderr), transient=True))
    task = bar.add_task(what, total=total)
    return lambda read: bar.update(task, completed=read)


@contextlib.contextmanager
def steps(total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A bar: call it with what is played next."""
    if quiet or not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=total, completed=-1)

        def step(name: str) -> None:
            bar.update(task, advance=1, description=name)

        yield step


@contextlib.contextmanager
def runs(name: str, times: int, quiet: bool) -> Iterator[tuple[Callable[[Outcome], None], Watch | None]]:
    """A bar for a series, which each outcome is told to; a countdown for a run that waits, as what watches the play."""
    if quiet or not sys.stderr.isatty():
        yield lambda outcome: None, None
        return
    err = console(sys.stderr)
    if times == 1:
        status = err.status("")  # shown when there is something to wait for

        async def watch(play: Play) -> None:
            await _count_down(play, status.start, status.update)

        try:
            yield lambda outcome: None, watch
        finally:
            status.stop()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[odd]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(name, total=times, odd="")
        odd = 0

        def each(outcome: Outcome) -> None:
            nonlocal odd
            odd += not outcome.verdict.produced
            bar.update(task, advance=1, odd=f"[red]{odd} odd" if odd else "")

        yield each, None


async def _count_down(play: Play, start: Callable[[], None], update: Callable[[str], None]) -> None:
    """Say, twice a second, what the run waits for: "keepalive probe 3 of 9, next in 12 s"."""
    import trio

    started = False
    while True:
        await trio.sleep(0.5)
        if play.notes.countdown is None:
            continue
        if not started:
            started = True
            start()
        update(countdown(play.notes.countdown, trio.current_time()))


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
