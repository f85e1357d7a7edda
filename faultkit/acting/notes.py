"""What a play itself has to say to the transcript: what it did, what it measured, what it waits for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from faultkit.evidence.transcript import Measurement, Step, Tally, Transcript


@dataclass(frozen=True, slots=True)
class Countdown:
    """What a run waits for, so that a person who waits can see it: ticks in seconds after `began` (trio's clock)."""

    tick: str  # "probe"
    end: str  # "ETIMEDOUT"
    began: float
    ticks: tuple[float, ...]
    ends: float


def withheld() -> float:
    """Seconds for which this thread could have run so far and had no processor (sched-stats.rst); 0 where nobody counts them."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Notes:
    """The play's own entries in its transcript."""

    def __init__(self, transcript: Transcript) -> None:
        self.countdown: Countdown | None = None
        self.transcript = transcript
        self._withheld = withheld()

    def step(self, actor: str, text: str) -> None:
        """Write down what was done to the stage."""
        self.transcript.steps.append(Step(time.time_ns(), actor, text))

    def measure(self, name: str, *, predicted: float, measured: float, slack: float = 0.0) -> None:
        """Write down a predicted and a measured duration, in seconds; `slack` is beside that for the machine."""
        measurement = Measurement(name, predicted, measured, withheld=withheld() - self._withheld)
        self.transcript.measurements.append(replace(measurement, slack=measurement.slack + slack))

    def tally(self, label: str, outcome: str) -> None:
        """Write down one attempt of a search."""
        self.transcript.tallies.append(Tally(label, outcome))

    def expect(self, end: str, *, ends: float, tick: str = "", ticks: tuple[float, ...] = ()) -> None:
        """Say what the run now waits for: `ticks` and `ends` in seconds from now."""
        self.countdown = Countdown(tick, end, trio.current_time(), ticks, ends)
