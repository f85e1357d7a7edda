"""The page of a run: its ladder as a picture with the calls of both ends, what the witnesses saw, and who sent each RST."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from faultkit.evidence.attribution import attribute
from faultkit.evidence.segments import Segment, is_pure_ack, read
from faultkit.evidence.transcript import Transcript
from faultkit.playing.stack import Stack
from faultkit.views import ladder, page, performance, report
from faultkit.views.drawing import Event, Kind

if TYPE_CHECKING:
    from faultkit.playing.run import Outcome

_RUNS, _EVENTS = 5, 160  # what one page tells at length: it stays under 300 KB
_AGAIN = frozenset({"retransmission", "keep-alive", "window probe", "out of order"})


def run(outcomes: Sequence[Outcome]) -> str:
    """Of a series the first runs, and those that were not as promised before the others."""
    first = outcomes[0]
    produced = sum(outcome.verdict.produced for outcome in outcomes)
    shown = sorted(enumerate(outcomes, 1), key=lambda numbered: numbered[1].verdict.produced)[:_RUNS]
    return page.page(
        f"{first.cause.name}: {first.cause.summary}",
        first.cause.doing(first.options),
        [report.setting(first.stage), f"{produced} of {len(outcomes)} runs as promised"],
        (),
        [_section(outcome, number, len(outcomes)) for number, outcome in shown],
    )


def drawing(outcome: Outcome) -> str:
    """Its ladder alone, as an SVG file."""
    transcript = _of_interest(outcome)
    return str(page.picture(_events(transcript), _names(transcript), title=_title(outcome, 1, 1), alone=True))


def _title(outcome: Outcome, number: int, of: int) -> str:
    said = "produced as promised" if outcome.verdict.produced else "something else was seen"
    if not outcome.verdict.checks:
        said = "a search: nothing was promised"
    return f"Run {number}: {said}" if of > 1 else said[:1].upper() + said[1:]


def _of_interest(outcome: Outcome) -> Transcript:
    """The whole run, or of a stack's the connection that failed."""
    failure = performance.failed(outcome.transcript) if isinstance(outcome.cause, Stack) else None
    return outcome.transcript.only(failure) if failure else outcome.transcript


def _section(outcome: Outcome, number: int, of: int) -> page.Section:
    transcript = _of_interest(outcome)
    place, names, events = f"r{number}", _names(transcript), _events(transcript)
    title = _title(outcome, number, of)
    left = ladder.sides(transcript)[0]
    rows = [
        {
            "number": place_in_capture,
            "at": f"{transcript.seconds(segment.packet.time_ns) * 1000:.3f}",
            "by": transcript.role(segment.packet.source),
            "text": ladder.packet_text(segment),
        }
        for place_in_capture, segment in enumerate(read(transcript.captured), 1)
    ][:_EVENTS]
    return page.Section(
        place,
        title,
        f"{', '.join(left)} and {', '.join(ladder.sides(transcript)[1])}",
        page.picture(events, names, title=title, place=place),
        "Time runs downwards and is to scale; idle times are folded where they are marked.",
        list(_facts(outcome)),
        packets=rows,
        legend=page.legend(events),
    )


def _names(transcript: Transcript) -> tuple[str, str]:
    left, right = ladder.sides(transcript)
    return tuple(side[0] if len(side) == 1 else f"{len(side)} ends" for side in (left, right))  # type: ignore[return-value]


def _events(transcript: Transcript) -> list[Event]:
    left, _ = ladder.sides(transcript)
    found = [
        Event(
            call.shown_ns,
            "call",
            ladder.call_text(call),
            0 if call.role in left else 1,
            failed=call.outcome.startswith("E") and call.outcome != "EOF",
        )
        for call in transcript.calls
    ]
    for number, segment in enumerate(read(transcript.captured), 1):
        side = 0 if transcript.role(segment.packet.source) in left else 1
        text = ladder.packet_text(segment)
        found.append(Event(segment.packet.time_ns, "segment", text, side, _kind(segment), number))  # type: ignore[arg-type]
    found += [Event(step.time_ns, "note", f"{step.actor}: {step.text}") for step in transcript.steps]
    found += [Event(line.time_ns, "note", f"{line.program}: {line.text}") for line in transcript.lines]
    found.sort(key=lambda event: event.time_ns or 0)
    left_out = len(found) - _EVENTS
    if left_out > 0:
        half = _EVENTS // 2
        found = [*found[:half], Event(None, "note", f"{left_out} events left out"), *found[-half:]]
    return found


def _kind(segment: Segment) -> Kind:
    flags = segment.packet.flags
    if "RST" in flags:
        return "rst"
    if segment.mark in _AGAIN:
        return "again"
    if "SYN" in flags:
        return "syn"
    if "FIN" in flags:
        return "fin"
    return "ack" if is_pure_ack(segment) else "data"


def _facts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    for check in outcome.verdict.differences:
        expected, seen = (", ".join(side) or "nothing" for side in (check.expected, check.seen))
        yield f"{check.witness}, {check.name}", f"expected {expected}; seen {seen}"
    for one in attribute(outcome.transcript):
        yield "Who sent the RST", one.sentences
    yield "Why", outcome.cause.story
    for witness, text in report.seen(outcome.transcript):
        yield witness.capitalize(), text
    for remedy in outcome.cause.remedy:
        yield "What to do about it", remedy
