"""For how long a busy machine let this thread wait for a processor, by the scheduler's own account and by moment."""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_left

from trio.abc import Instrument

_SCHEDSTAT = "/proc/thread-self/schedstat"


def withheld() -> float:
    """Seconds for which this thread could have run so far and had no processor (sched-stats.rst); 0 where nobody counts them."""
    return _withheld_ns() / 1e9


def _withheld_ns() -> int:
    try:
        descriptor = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 100).split()[1])
    finally:
        os.close(descriptor)


class Processor(Instrument):
    """Reads that account each time before the event loop waits, while it is one of the loop's instruments.

    Without being one it knows its first reading alone, so everything since then counts as withheld.
    """

    def __init__(self) -> None:
        self._at = array("q", [time.time_ns()])
        self._read = array("q", [_withheld_ns()])

    def before_io_wait(self, timeout: float) -> None:
        self._at.append(time.time_ns())
        self._read.append(_withheld_ns())

    def withheld(self, began_ns: int, ended_ns: int) -> float:
        """Seconds by which at most two moments, as the program noted them, are off from what it noted.

        What happens while the loop runs its tasks is met in its next round: it was noted too late by no more than was
        withheld since the wait before the last one.
        """
        begun = max(bisect_left(self._at, began_ns) - 2, 0)
        ended = bisect_left(self._at, ended_ns)
        last = self._read[ended] if ended < len(self._at) else _withheld_ns()
        return (last - self._read[begun]) / 1e9
