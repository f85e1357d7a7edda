"""With every core busy a right clock still agrees, and a wrong one does not: what was withheld before it began is no excuse."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.ordinary import CHECKOUT
from tests.playing.clocks import RIGHT, WRONG

OFF = 2.0  # seconds by which a wrong clock is off: more than a busy machine withholds while it runs
Told = dict[str, tuple[int, str, str]]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """What each of them says, all played at once: they are what keeps every core busy, and what waits has company."""
    spinning = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spinning, text=True) for _ in range(2 * len(os.sched_getaffinity(0)))]
    plays = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.playing.clocks", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        for name in (*RIGHT, *WRONG)
    }
    try:
        said = {name: play.communicate(timeout=120) for name, play in plays.items()}
        yield {name: (plays[name].returncode, *said[name]) for name in plays}
    finally:
        for process in (*others, *plays.values()):
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_clock_agrees(name: str, told: Told) -> None:
    assert told[name] == (0, "", "")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_clock_does_not(name: str, told: Told) -> None:
    status, said, complaint = told[name]
    assert (status, complaint) == (0, "")
    clock = WRONG[name].clock
    seen = re.findall(rf"run 1, clock, {clock}: expected ([0-9.]+) s to ([0-9.]+) s; seen ([0-9.]+) s", said)
    assert len(seen) == 1, said or "it was as promised"
    earliest, latest, measured = map(float, seen[0])
    assert max(earliest - measured, measured - latest) > OFF
