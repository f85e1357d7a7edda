"""One command of a person's: plays what was asked for, with progress, and shows it. Gives the exit status."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from faultkit.cause import Cause, Options
from faultkit.errors import Misuse, Unable
from faultkit.stage import Where, open_stage
from faultkit.witness import watching

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.acting.notes import Countdown
    from faultkit.acting.play import Play
    from faultkit.playing.run import Outcome, Watch


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    cause: Cause
    options: Options
    times: int = 1
    as_json: bool = False
    packets: bool = False
    pcap: str | None = None
    ipv6: bool = False
    on: Where | None = None
    quiet: bool = False


def console(stream: IO[str]) -> Console:
    """Colour on a terminal, plain in a pipe."""
    from rich.console import Console

    return Console(file=stream, highlight=False, emoji=False, markup=True)


def play(request: Request) -> int:
    """Play, show, and give the exit status."""
    cause = request.cause
    if request.pcap is not None:
        from faultkit.views import pcap

        try:
            pcap.check_writable(request.pcap)
        except OSError as error:
            raise _unwritable(request, error) from error
    outcomes: list[Outcome] = []
    stage = open_stage(request.on, ipv6=request.ipv6)
    with watching(stage) as seeing:
        if request.pcap is not None and "wire" in seeing.absent:
            raise Unable(f"{cause.name}: --pcap would stay empty: {seeing.absent['wire']}")
        from faultkit.playing.run import repeat  # trio takes a while, and the kernel needs as long for the trace

        with _progress(request) as (each, watch):

            def keep(outcome: Outcome) -> None:
                outcomes.append(outcome)
                each(outcome)

            with _interruptible():
                repeat(cause, request.options, stage, seeing, request.times, keep, watch)
        seeing.stop()
        if request.pcap is not None:
            try:
                pcap.write(request.pcap, [packet for outcome in outcomes for packet in outcome.transcript.captured])
            except OSError as error:
                raise _unwritable(request, error) from error
            for why in {
                outcome.transcript.absent["wire"]: None for outcome in outcomes if outcome.transcript.packets is None
            }:
                print(f"faultkit: {cause.name}: --pcap {request.pcap}: {why}", file=sys.stderr)
        _show(request, outcomes)
    return 0 if all(outcome.verdict.produced for outcome in outcomes) else 1


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt in here, though it simply ends the process elsewhere: a run is taken down in order."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _unwritable(request: Request, error: OSError) -> Misuse:
    reason = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    return Misuse(
        f"{request.cause.name}: --pcap {request.pcap} cannot be written ({reason}): name a file in a directory of yours"
    )


def _show(request: Request, outcomes: list[Outcome]) -> None:
    if request.as_json:
        import json

        from faultkit.views import document

        shown = document.single(outcomes[0]) if request.times == 1 else document.series(outcomes)
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    out = console(sys.stdout)
    from faultkit.playing.stack import Stack
    from faultkit.views import performance, report

    if isinstance(request.cause, Stack):
        performance.show(out, outcomes, packets=request.packets, quiet=request.quiet)
        return
    if request.times == 1 and not request.quiet:
        if request.packets:
            report.heading(out, outcomes[0])
            report.packets(out, outcomes[0])
            report.verdict(out, outcomes[0])
        else:
            report.show(out, outcomes[0])
        return
    if not request.quiet:
        report.heading(out, outcomes[0])
    report.series(out, outcomes, quiet=request.quiet)


@contextlib.contextmanager
def _progress(request: Request) -> Iterator[tuple[Callable[[Outcome], None], Watch | None]]:
    """A progress bar for a series, a countdown for a run that waits. On a terminal only, and never in what is piped."""
    if request.quiet or not sys.stderr.isatty():
        yield lambda outcome: None, None
        return
    err = console(sys.stderr)
    if request.times == 1:
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
        task = bar.add_task(request.cause.name, total=request.times, odd="")
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
        update(progress_line(play.notes.countdown, trio.current_time()))


def progress_line(countdown: Countdown, now: float) -> str:
    """What is awaited at that time of trio's clock."""
    passed = now - countdown.began
    sent = sum(tick <= passed for tick in countdown.ticks)
    parts = []
    if countdown.ticks:
        parts.append(f"{countdown.tick} {sent} of {len(countdown.ticks)}")
        if sent < len(countdown.ticks):
            parts.append(f"next in {countdown.ticks[sent] - passed:.0f} s")
    left = countdown.ends - passed
    parts.append(f"{countdown.end} in {left:.0f} s" if left > 0 else f"{countdown.end} is due")
    return ", ".join(parts)
