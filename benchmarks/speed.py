"""How fast faultkit is, against the figures it promises: `python benchmarks/speed.py`. Run by hand on an idle machine.

Prints a table. Start-up is measured in pairs, in turn, so that a drifting machine does not decide.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from faultkit import causes
from faultkit.cause import checked
from faultkit.playing.run import Outcome, repeat
from faultkit.stage import open_stage
from faultkit.witness import watching

PAIRS = 21
RUNS = 1000


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def start_up() -> tuple[float, float, float]:
    """Medians of `faultkit linger` and `python -c "import trio"` in seconds, and of their ratio pair by pair."""
    faultkit = shutil.which("faultkit", path=str(Path(sys.executable).parent))
    assert faultkit, "install faultkit into this environment first: pip install ."
    ours, theirs = [faultkit, "linger"], [sys.executable, "-c", "import trio"]
    seconds(ours), seconds(theirs)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(PAIRS)]
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return medians[0], medians[1], statistics.median(a / b for a, b in pairs)


def series(*, wire: bool) -> tuple[float, list[float]]:
    """Runs a second over a series of linger, and the seconds from the trigger byte to the reset as the client saw them."""
    waited: list[float] = []

    def each(outcome: Outcome) -> None:
        assert outcome.verdict.produced
        told = {call.told: call for call in outcome.transcript.calls if call.role == "client"}
        waited.append((told["recv ECONNRESET"].ended_ns - told["send 1"].began_ns) / 1e9)

    def play() -> None:
        stage = open_stage(None, ipv6=False)
        cause = causes.load("linger")
        with watching(stage, wire=wire) as seeing:
            repeat(cause, checked(cause, {}), stage, seeing, 50, lambda outcome: None)
            began = time.perf_counter()
            repeat(cause, checked(cause, {}), stage, seeing, RUNS, each)
            print(RUNS / (time.perf_counter() - began), *waited, flush=True)

    # A namespace is for the rest of a process's life, so each series has a process of its own.
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(writer, 1)
        play()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        rate, *latencies = map(float, pipe.read().split())
    os.waitpid(child, 0)
    return rate, latencies


def main() -> None:
    ours, theirs, ratio = start_up()
    calls_and_kernel, _ = series(wire=False)
    everything, waited = series(wire=True)
    p99 = statistics.quantiles(waited, n=100)[98]
    table = Table("what", "measured", "promised")
    table.add_row("faultkit linger, shell to exit", f"{ours * 1000:.0f} ms", "")
    table.add_row('python -c "import trio"', f"{theirs * 1000:.0f} ms", "")
    table.add_row("ratio, pair by pair", f"{ratio:.2f}", "at most 2.5")
    table.add_row("linger runs a second, calls and kernel", f"{calls_and_kernel:.0f}", "at least 300")
    table.add_row("the same with the wire too", f"{everything:.0f}", "")
    table.add_row("trigger byte to ECONNRESET, median", f"{statistics.median(waited) * 1e6:.0f} µs", "")
    table.add_row("trigger byte to ECONNRESET, p99", f"{p99 * 1e6:.0f} µs", "at most 1000 µs")
    console = Console()
    console.print(
        f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} processors, uid {os.geteuid()}"
    )
    console.print(f"medians of {PAIRS} pairs; {RUNS} runs in a series")
    console.print(table)


if __name__ == "__main__":
    main()
