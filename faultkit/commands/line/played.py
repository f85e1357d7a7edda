"""A cause, or a stack, as a command: played, with progress, and shown."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from faultkit.cause import Cause, Options
from faultkit.commands.line.options import common, given, own, where
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.errors import Misuse, Unable, exhausted
from faultkit.stage import Where, open_stage
from faultkit.views import progress
from faultkit.views.console import console, emit, remark
from faultkit.witness import watching

if TYPE_CHECKING:
    from faultkit.evidence.transcript import Frame, Packet
    from faultkit.playing.run import Outcome


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    cause: Cause
    options: Options
    times: int = 1
    as_json: bool = False
    packets: bool = False
    pcap: str | None = None
    html: str | None = None
    svg: str | None = None
    ipv6: bool = False
    on: Where | None = None
    quiet: bool = False


def of_cause(cause: Cause) -> click.Command:
    """The command that plays the cause."""
    return _command(cause, [*common(), *where()])


def of_stack(stack: Cause) -> click.Command:
    """The command that plays the stack."""
    return _command(stack, common())


def _command(cause: Cause, beside: list[click.Parameter]) -> click.Command:
    def command(
        times: int,
        as_json: bool,
        packets: bool,
        pcap: str | None,
        html: str | None,
        svg: str | None,
        quiet: bool,
        ipv6: bool = False,
        on: Any = None,
        **told: Any,
    ) -> int:
        if times < 1:
            raise Misuse(f"{cause.name}: --repeat {times} plays nothing: take 1 or more")
        return _play(Request(cause, given(cause, told), times, as_json, packets, pcap, html, svg, ipv6, on, quiet))

    return click.Command(
        cause.name,
        params=[*own(cause), *beside],
        callback=command,
        help=f"{cause.summary}\n\n{cause.story}",
        short_help=cause.summary,
    )


def _play(request: Request) -> int:
    """Play, show, and give the exit status."""
    cause = request.cause
    from faultkit.views import pcap

    for option, path in (("--pcap", request.pcap), ("--html", request.html), ("--svg", request.svg)):
        if path is not None:
            try:
                pcap.check_writable(path)
            except OSError as error:
                raise _unwritable(request, option, path, error) from error
    outcomes: list[Outcome] = []
    stage = open_stage(request.on, ipv6=request.ipv6)
    with watching(stage) as seeing:
        if request.pcap is not None and "wire" in seeing.absent:
            raise Unable(f"{cause.name}: --pcap would stay empty: {seeing.absent['wire']}")
        from faultkit.playing.run import repeat  # trio takes a while, and the kernel needs as long for the trace

        with progress.runs(cause.name, request.times, request.quiet) as (each, watch):

            def keep(outcome: Outcome) -> None:
                outcomes.append(outcome)
                each(outcome)

            repeat(cause, request.options, stage, seeing, request.times, keep, watch)
        seeing.stop()
        if request.pcap is not None:
            try:
                frames: list[Packet | Frame] = []
                for outcome in outcomes:
                    frames += [*outcome.transcript.captured, *outcome.transcript.complaints]
                pcap.write(request.pcap, sorted(frames, key=lambda frame: frame.time_ns))
            except OSError as error:
                raise _unwritable(request, "--pcap", request.pcap, error) from error
            for why in {
                outcome.transcript.absent["wire"]: None for outcome in outcomes if outcome.transcript.packets is None
            }:
                remark(f"faultkit: {cause.name}: --pcap {request.pcap}: {why}")
        _draw(request, outcomes)
        _show(request, outcomes)
    return PRODUCED if all(outcome.verdict.produced for outcome in outcomes) else OTHERWISE


def _draw(request: Request, outcomes: list[Outcome]) -> None:
    if request.html is None and request.svg is None:
        return
    from faultkit.views import page, run_page

    if request.html is not None:
        page.write(request.html, run_page.run(outcomes))
    if request.svg is not None:
        page.write(request.svg, run_page.drawing(outcomes[0]))


def _unwritable(request: Request, option: str, path: str, error: OSError) -> Misuse | Unable:
    reason = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    return exhausted(error) or Misuse(
        f"{request.cause.name}: {option} {path} cannot be written ({reason}): name a file in a directory of yours"
    )


def _show(request: Request, outcomes: list[Outcome]) -> None:
    if request.as_json:
        from faultkit.views import document

        shown = document.single(outcomes[0]) if request.times == 1 else document.series(outcomes)
        emit(shown)
        return
    out = console()
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
