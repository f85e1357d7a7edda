"""What failed in a log: each kind with how often, when, to whom, and what it most likely is."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from faultkit.errors import one_line
from faultkit.messages.kinds import EXAMPLE
from faultkit.messages.vocabulary import WHEN, WRITERS
from faultkit.views import reading as one_reading
from faultkit.views.console import paragraph

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.messages.kinds import Kind
    from faultkit.messages.log import Log

SHOWN = 20  # kinds that are told whole; arbitrary
COLUMNS = 48  # of a chart
_HEIGHTS = " ▁▂▃▄▅▆▇█"


def show(console: Console, log: Log) -> None:
    """The kinds, the most frequent first; then what looks like a failure and is not known."""
    known, fine, unknown = _sorted(log)
    paragraph(console, _heading(log, len(known)))
    for broken in log.damaged:
        paragraph(console, f"Damaged: {broken}; what comes before it is counted.")
    if log.zoned and log.local:
        paragraph(console, "Some lines say their time zone and some do not: those that do not are taken for UTC.")
    for kind in known[:SHOWN]:
        console.print()
        _kind(console, kind, log)
    if len(known) > SHOWN:
        console.print()
        paragraph(
            console,
            f"And {len(known) - SHOWN} kinds more, {sum(kind.count for kind in known[SHOWN:])} failures; --json has them.",
        )
    if fine:
        console.print()
        paragraph(console, "Besides, no failures of TCP connections:")
        for kind in fine[:SHOWN]:
            whose = f"{kind.program}: " if kind.program else ""
            paragraph(console, f"{kind.count:>7}  {whose}{kind.reading.not_tcp[0]}", rest=" " * 9)
    for kind in unknown:
        console.print()
        paragraph(
            console,
            f"{_lines(kind.count)} failures of connections, and {'is' if kind.count == 1 else 'are'} not known. The first:",
        )
        paragraph(console, one_line(kind.example, 4 * EXAMPLE), "  ", "  ")


def _lines(count: int) -> str:
    return "1 line looks like" if count == 1 else f"{count} lines look like"


def _sorted(log: Log) -> tuple[list[Kind], list[Kind], list[Kind]]:
    kinds = sorted(log.kinds.values(), key=lambda kind: (-kind.count, kind.key))
    return (
        [kind for kind in kinds if kind.reading.told is not None],
        [kind for kind in kinds if kind.reading.told is None and kind.reading.not_tcp],
        [kind for kind in kinds if kind.reading.told is None and not kind.reading.not_tcp],
    )


def _heading(log: Log, kinds: int) -> str:
    failures = sum(kind.count for kind in log.kinds.values() if kind.reading.told is not None)
    span = (
        f", {_moment(log.begin, log)} to {_moment(log.end, log)}"
        if log.begin is not None and log.end is not None
        else ""
    )
    found = (
        f"{failures} failure{'s' * (failures != 1)} of {kinds} kind{'s' * (kinds != 1)}"
        if failures
        else "no failure that is known"
    )
    return f"{log.lines} line{'s' * (log.lines != 1)}, {_size(log.size)}{span}: {found}."


def _size(number: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"


def _moment(at: float, log: Log) -> str:
    """With its year where the log has years."""
    written = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return f"{written:%Y-%m-%d %H:%M:%S}" if log.dated else f"{written:%b} {written.day} {written:%H:%M:%S}"


def _kind(console: Console, kind: Kind, log: Log) -> None:
    told = kind.reading.told
    assert told is not None
    words = [f"{told.told} {WRITERS[told.writer]}", *(WHEN[when] for when in told.when)]
    paragraph(console, f"{kind.count:>7}  {told.program or 'no known program'}: {'; '.join(words)}", rest=" " * 9)
    pad = " " * 9
    times = kind.times
    if times.first is not None and times.last is not None:
        paragraph(console, f"{_moment(times.first, log)} to {_moment(times.last, log)}", pad, pad)
        if log.begin is not None and log.end is not None and log.end > log.begin:
            console.print(pad + f"│{drawn(times.chart(log.begin, log.end, COLUMNS))}│", markup=False, highlight=False)
        for sentence in kind.when(log.begin, log.end):
            paragraph(console, sentence[0].upper() + sentence[1:] + "." * (not sentence.endswith("?")), pad, pad)
    answer = kind.reading.answers[0] if kind.reading.answers else None
    if answer is not None:
        names = ", ".join(fit.name for fit in answer.fits)
        paragraph(console, f"Most likely {answer.says}: {names}.", pad, pad, drawn={answer.fits[0].name: "cyan"})
    for sentence in kind.reading.not_tcp[:1]:
        paragraph(console, f"{sentence[0].upper()}{sentence[1:]}.", pad, pad)
    for setting in kind.reading.settings[:1]:
        paragraph(console, f"What usually ends it: {setting}{'' if setting[-1:] == '?' else '.'}", pad, pad)
    for what, names_ in (("servers", kind.servers), ("clients", kind.clients)):
        if top := names_.top():
            more = f" and {len(names_) - len(top)} more" if len(names_) > len(top) else ""
            paragraph(console, f"{what}: {', '.join(f'{name} ×{number}' for name, number in top)}{more}", pad, pad)
    paragraph(console, one_line(kind.example, 4 * EXAMPLE), pad, pad, style="dim")


def drawn(counts: list[int]) -> str:
    """A bar for each count, by the greatest."""
    most = max(counts, default=0) or 1
    return "".join(_HEIGHTS[-(-count * (len(_HEIGHTS) - 1) // most)] for count in counts)


def document(log: Log) -> dict[str, Any]:
    """For machines. Times in seconds since 1970."""
    known, fine, unknown = _sorted(log)
    return {
        "lines": log.lines,
        "bytes": log.size,
        "begin": log.begin,
        "end": log.end,
        "failures": sum(kind.count for kind in known),
        "kinds": [_document(kind, log) for kind in known],
        "not_tcp": [_document(kind, log) for kind in fine],
        "unknown": [{"count": kind.count, "example": kind.example} for kind in unknown],
        "more_kinds": log.overflow,
        "damaged": log.damaged,
    }


def _document(kind: Kind, log: Log) -> dict[str, Any]:
    spread = log.begin is not None and log.end is not None
    return {
        "count": kind.count,
        "first": kind.times.first,
        "last": kind.times.last,
        "every": kind.times.interval(),
        "after_the_line_before": kind.since,
        "when_said": kind.when(log.begin, log.end),
        "chart": kind.times.chart(log.begin or 0, log.end or 0, COLUMNS) if spread else [],
        "servers": dict(kind.servers.top()),
        "clients": dict(kind.clients.top()),
        "example": kind.example,
        **one_reading.document(kind.reading),
    }
