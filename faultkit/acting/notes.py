"""What a play itself has to say to the transcript: what it did, what it measured, what it waits for."""

from __future__ import annotations

import time
from dataclasses import dataclass

import trio

from faultkit.evidence.timers import Expiry
from faultkit.evidence.transcript import SLACK, Measurement, Step, Tally, Transcript
from faultkit.witness.calls import Calls
from faultkit.witness.kernel import release
from faultkit.witness.processor import Processor


@dataclass(frozen=True, slots=True)
class Countdown:
    """What a run waits for, so that a person who waits can see it: ticks in seconds after `began` (trio's clock)."""

    tick: str  # "probe"
    end: str  # "ETIMEDOUT"
    began: float
    ticks: tuple[float, ...]
    ends: float


class Notes:
    """The play's own entries in its transcript."""

    def __init__(self, transcript: Transcript, calls: Calls) -> None:
        self.countdown: Countdown | None = None
        self.transcript = transcript
        self.calls = calls
        self.processor = Processor()

    def step(self, actor: str, text: str) -> None:
        """Write down what was done to the stage."""
        self.calls.look()
        self.transcript.steps.append(Step(time.time_ns(), actor, text))

    def measure(
        self, name: str, *, predicted: float | Expiry, began_ns: int, ended_ns: int, slack: float = 0.0
    ) -> None:
        """Write down a duration that was predicted, in seconds, and when it began and ended, by the transcript's clock;
        `slack` is in addition to what every measurement is allowed, and an expiry brings its own."""
        if isinstance(predicted, Expiry):
            slack, predicted = slack + predicted.slack, predicted.earliest
        self.transcript.measurements.append(
            Measurement(
                name,
                predicted,
                (ended_ns - began_ns) / 1e9,
                SLACK + slack,
                self.processor.withheld(began_ns, ended_ns),
            )
        )

    def of_this_kernel(self, actor: str, does: str) -> None:
        """Write down what this kernel does, where kernels differ."""
        self.step(actor, f"Linux {release()} {does} (docs/kernels.md)")

    def tally(self, label: str, outcome: str) -> None:
        """Write down one attempt of a search."""
        self.transcript.tallies.append(Tally(label, outcome))

    def expect(self, end: str, *, ends: float, tick: str = "", ticks: tuple[float, ...] = ()) -> None:
        """Say what the run now waits for: `ticks` and `ends` in seconds from now."""
        self.countdown = Countdown(tick, end, trio.current_time(), ticks, ends)
