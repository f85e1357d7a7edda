"""The order of pasted rows: by their times, where they stand otherwise."""

from __future__ import annotations

import itertools

from faultkit.explaining.row import Row

_DAY_NS = 86_400 * 10**9


def across_midnight(rows: list[Row]) -> None:
    """Times of day without a day go on after midnight, forwards or, in rows that stand newest first, backwards."""
    timed = [row for row in rows if row.clock and row.time_ns is not None]
    steps = [(b.time_ns or 0) - (a.time_ns or 0) for a, b in itertools.pairwise(timed)]
    small = [step for step in steps if abs(step) <= _DAY_NS // 2]
    backwards = bool(small) and max(small) <= 0 and min(small) < 0
    days = 0
    for step, row in zip(steps, timed[1:], strict=True):
        if not backwards and step < -_DAY_NS // 2:
            days += 1
        elif backwards and step > _DAY_NS // 2:
            days -= 1
        row.time_ns = (row.time_ns or 0) + days * _DAY_NS
    if days < 0:
        for row in timed:
            row.time_ns = (row.time_ns or 0) - days * _DAY_NS


def oldest_first(rows: list[Row]) -> str:
    """Put the rows in order where they stand newest first, or the last was quoted ahead of all; say so, or nothing."""
    times = [row.time_ns for row in rows if row.time_ns is not None]
    if len(times) < 2 or len(times) < len(rows):
        return ""
    steps = [b - a for a, b in itertools.pairwise(times)]
    if max(steps) <= 0 and min(steps) < 0:
        rows.reverse()
        return "the rows stand newest first: they were turned round by their times"
    if len(rows) > 2 and steps[0] < 0 and min(steps[1:]) >= 0 and times[0] >= times[-1]:
        first = rows.pop(0)
        if not any(_same(first, row) for row in rows):
            rows.append(first)
        return "the last packet stands ahead of the others: it was put where its time says"
    return ""


def _same(one: Row, other: Row) -> bool:
    return (one.time_ns, one.source, one.sport, one.flags, one.seq) == (
        other.time_ns,
        other.source,
        other.sport,
        other.flags,
        other.seq,
    )
