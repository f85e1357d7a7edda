"""What a stack's run prints: requests and answers, the programs' own words, one failure's packets, its cause, the fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from faultkit import causes
from faultkit.playing.stack import Stack
from faultkit.views import ladder, report, table
from faultkit.views.console import paragraph
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from faultkit.evidence.transcript import Connection, Exchange, Transcript
    from faultkit.playing.run import Outcome


def show(console: Console, outcomes: Sequence[Outcome], *, packets: bool, quiet: bool) -> None:
    """One run whole; of a series how many were as promised, and every odd run."""
    if not quiet:
        heading(console, outcomes[0])
    if len(outcomes) == 1 and not quiet:
        whole(console, outcomes[0], packets=packets)
        return
    odd = [(number, outcome) for number, outcome in enumerate(outcomes, 1) if not outcome.verdict.produced]
    if not quiet:
        produced = f"{len(outcomes) - len(odd)} of {len(outcomes)} as promised"
        console.print(f"\n{produced}", style="bold red" if odd else "bold green")
    for number, outcome in odd:
        console.print(f"\nRun {number} of {len(outcomes)}", style="bold")
        seen(console, outcome.transcript)
        report.verdict(console, outcome)


def heading(console: Console, outcome: Outcome) -> None:
    """What is done, where, and by which programs."""
    report.heading(console, outcome)
    assert isinstance(outcome.cause, Stack)
    programs = outcome.cause.versions(outcome.options).items()
    paragraph(console, ", ".join(f"{name} {version}".rstrip() for name, version in programs) + ".", style="dim")


def whole(console: Console, outcome: Outcome, *, packets: bool) -> None:
    """Everything about one run."""
    assert isinstance(outcome.cause, Stack)
    transcript = outcome.transcript
    seen(console, transcript)
    failure = failed(transcript)
    if packets:
        report.packets(console, outcome)
    elif failure:
        ends = sorted(failure, key=lambda end: transcript.role(end) not in ladder.sides(transcript.only(failure))[0])
        console.print(f"\nOne failure, {' to '.join(f'{transcript.role(end)} {end}' for end in ends)}", style="bold")
        ladder.show(console, transcript.only(failure))
    report.verdict(console, outcome)
    report.evidence(console, transcript)
    report.resets(console, transcript)
    # Where not all was seen, what was not seen may have been there.
    came = failure is not None or transcript.packets is None or not all(map(ok, transcript.exchanges))
    for number, (name, commands) in enumerate(shown(outcome.cause.shows(outcome.options)).items()):
        title = f"{'Another' if number else 'The'} cause{'' if came else ', which did not set in'}"
        report.section(console, title, [f"{name}: {causes.load(name).summary}. Alone:"])
        console.print("\n".join(f"    {command}" for command in commands), markup=False, soft_wrap=True)
    report.section(console, "In this stack", [outcome.cause.story])
    report.section(console, "The fix", outcome.cause.remedy, bullets=True)
    console.print()
    for changed in outcome.cause.fix().splitlines():
        style = {"+": "green", "-": "red", "@": "cyan"}.get(changed[:1])
        console.print(f"  {changed}", style=style, markup=False, soft_wrap=True)


def shown(commands: Sequence[str]) -> dict[str, list[str]]:
    """The causes by their names in the catalogue, with what to type to see each alone."""
    told: dict[str, list[str]] = {}
    for command in commands:
        told.setdefault(command.split()[0], []).append(f"faultkit {command}")
    return told


def seen(console: Console, transcript: Transcript) -> None:
    """The requests with what came of them, and what the programs printed, word for word."""
    if transcript.tallies:
        report.chart(console, transcript)
    elif transcript.exchanges:
        console.print()
        columns = [Column("ms", right=True), *(Column(title, prose=True) for title in ("request", "answer", ""))]
        table.show(console, columns, [_row(transcript, one) for one in transcript.exchanges], gap=1, header=True)
    counted = ", ".join(
        f"{outcome} ×{n}" for outcome, n in Counter(one.outcome for one in transcript.exchanges).items()
    )
    packets = transcript.packets
    resets = "resets not seen" if packets is None else f"resets: {sum('RST' in packet.flags for packet in packets)}"
    number = len(transcript.exchanges)
    requests = f"{number} request{'s' if number > 1 else ''}: {counted}; " if number else ""
    console.print()
    paragraph(console, f"{requests}{resets}")
    for timed in transcript.measurements:
        told = f"{timed.name}: after {timed.predicted:.3f} s by its settings, after {timed.measured:.3f} s in fact"
        paragraph(console, told)
    # What programs say of their start is in the document.
    began = min((one.began_ns for one in transcript.exchanges), default=0)
    said = [line for line in transcript.lines if line.time_ns >= began]
    for program in dict.fromkeys(line.program for line in said):
        console.print(f"\n{program} says", style="bold")
        for line in said:
            if line.program == program:
                console.print(f"  {line.text}", markup=False, highlight=False, soft_wrap=True)


def _row(transcript: Transcript, one: Exchange) -> list[Text]:
    from rich.text import Text

    at = f"{transcript.seconds(one.began_ns) * 1000:.0f}"
    return [Text(told, "" if ok(one) else "red") for told in (at, one.request, one.outcome, one.note)]


def failed(transcript: Transcript) -> Connection | None:
    """The connection whose packets tell the most: one that was reset, or else closed, while a request failed; or else any
    that was reset."""
    failures = [one for one in transcript.exchanges if not ok(one)]
    during = [p for p in transcript.captured if any(one.began_ns <= p.time_ns <= one.ended_ns for one in failures)]
    resets, fins = ([p for p in during if flag in p.flags] for flag in ("RST", "FIN"))
    others = [packet for packet in transcript.captured if "RST" in packet.flags]
    return next((frozenset({p.source, p.destination}) for p in (*resets, *fins, *others)), None)


def ok(exchange: Exchange) -> bool:
    """Was it answered with success?"""
    return exchange.outcome.isdecimal() and exchange.outcome.startswith("2")
