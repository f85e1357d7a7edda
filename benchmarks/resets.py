"""How many connections a second `faultkit serve linger` resets, against other servers: `python benchmarks/resets.py`.

One load (load.c) for all, 16 connections under way. The server has one core and the load another. The servers are taken
in turn, round after round, so that a drifting machine does not decide. A core that is clearly less than
100 % busy says that the load, or a neighbour, was the limit and not the server. The processor time for a reset is to be
read with that: a server that is faster than the load waits for it again and again, and the waiting is in the figure.
Run by hand on an idle machine; `--million` is for the promise of no wrong outcome.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil  # type: ignore[import-untyped]
import rivals
from rich.console import Console
from rich.table import Table
from servers import Running, Server, bound_to_us, ours, running

CONNECTIONS = 16
MILLION = 1_000_000
PROMISED = 25_000


@dataclass
class Target:
    """A server, and what the load has told about it."""

    server: Server
    running: Running
    rates: list[float] = field(default_factory=list)  # resets a second
    costs: list[float] = field(default_factory=list)  # seconds of the server's processor time for a connection
    busy: list[float] = field(default_factory=list)  # share of its core
    wrong: Counter[str] = field(default_factory=Counter)

    def spent(self) -> float:
        """Seconds of processor time since its start."""
        times = self.running.process.cpu_times()
        return float(times.user + times.system)


def load(program: str, core: int, target: Target, count: int) -> None:
    """`count` connections, and what they told, added to the target."""
    before, began = target.spent(), time.perf_counter()
    command = [
        *bound_to_us(core),
        program,
        str(target.running.port),
        str(count),
        str(CONNECTIONS),
        target.server.trigger,
    ]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    spent = target.spent() - before
    target.rates.append(told["per_second"])
    target.costs.append(spent / count)
    target.busy.append(spent / (time.perf_counter() - began))
    target.wrong.update(told["wrong"])


def to_compare(into: Path) -> tuple[list[Server], dict[str, str]]:
    """The servers that can be had, and why the others cannot."""
    missing = {"toxiproxy": rivals.TOXIPROXY}
    ways: dict[str, Callable[[], Server]] = {
        "C epoll": lambda: rivals.c(into),
        "trio.serve_tcp": rivals.trio,
        "faultkit by request": rivals.ours_by_request,
        "mockttp": lambda: rivals.mockttp(into),
        "WireMock": lambda: rivals.wiremock(into),
    }
    servers = [ours("linger")]
    for name, way in ways.items():
        try:
            servers.append(way())
        except rivals.NotHere as reason:
            missing[name] = str(reason)
    return servers, missing


def wrong(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {times}" for what, times in counts.most_common()) or "0"


def shown(targets: list[Target]) -> Table:
    ours = targets[0].rates
    table = Table("server", "trigger")
    for heading in ("resets/s", "least to most", "to ours", "core busy", "µs a reset"):
        table.add_column(heading, justify="right")
    table.add_column("wrong")
    for each in targets:
        ratio = statistics.median(theirs / own for theirs, own in zip(each.rates, ours, strict=True))
        table.add_row(
            each.server.name,
            "request" if each.server.trigger == rivals.REQUEST else "byte",
            f"{statistics.median(each.rates):,.0f}",
            f"{min(each.rates):,.0f} to {max(each.rates):,.0f}",
            f"{ratio:.2f}",
            f"{statistics.median(each.busy):.0%}",
            f"{statistics.median(each.costs) * 1e6:.1f}",
            wrong(each.wrong),
        )
    return table


def time_waits(port: int) -> int:
    """Connections of this port in TIME-WAIT: a reset leaves none."""
    return sum(
        1
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_TIME_WAIT and port in {end.port for end in (each.laddr, each.raddr) if end}
    )


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--count", default=20_000, show_default=True, type=click.IntRange(1), help="Connections in a turn.")
@click.option("--million", is_flag=True, help=f"Only ours, {MILLION:,} connections.")
def main(rounds: int, count: int, million: bool) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit(f"the server and the load need a core each, and this process may use {len(cores)}; give it two")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 120)
    with ExitStack() as stack:
        into = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faultkit-resets-")))
        try:
            program = rivals.compiled("load.c", into)
        except rivals.NotHere as reason:
            sys.exit(str(reason))
        servers, missing = ([ours("linger")], {}) if million else to_compare(into)
        targets = [
            Target(server, stack.enter_context(running(server, into / f"{number}.log", cores[0])))
            for number, server in enumerate(servers)
        ]
        for each in targets:
            # What a server does once (a compiler that warms up) is not what is measured.
            load(program, cores[1], each, each.server.warm_up)
            for figures in (each.rates, each.costs, each.busy):
                figures.clear()
        for _ in range(1 if million else rounds):
            for each in targets:
                load(program, cores[1], each, MILLION if million else count)
        left = {each.server.name: time_waits(each.running.port) for each in targets}

        console.print(
            f"Linux {platform.release()}, Python {platform.python_version()}, {len(cores)} cores, uid {os.geteuid()}"
        )
        turns = f"{MILLION:,} connections" if million else f"{rounds} rounds of {count:,} connections in turn"
        console.print(
            f"{turns}, {CONNECTIONS} under way; ours promises {PROMISED:,} resets/s on one core and no wrong outcome"
        )
        console.print(
            "medians of the rounds, the ratio's too; core busy and µs a reset are the server's own processor time"
        )
        console.print(shown(targets))
        for name, why in missing.items():
            console.print(f"{name}: not compared: {why}")
        for name, number in left.items():
            if number:
                console.print(f"{name}: {number} connections left in TIME-WAIT")
        if targets[0].wrong:
            sys.exit(f"faultkit serve linger: wrong outcomes: {wrong(targets[0].wrong)}")


if __name__ == "__main__":
    main()
