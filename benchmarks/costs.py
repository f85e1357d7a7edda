"""What the record, triggers, toxics and the capture of `faultkit proxy` cost beside the plain path, line by line:
`python benchmarks/costs.py [--rounds N] [--seconds S]`.

Each round goes through all of them, so that a busy machine is so for each. What is shown is the median of the ratios to the plain
proxy within a round, of its processor time for the same work, and for the plain one what that is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxy import HERE, Figures, Load, ours
from rich.console import Console
from rich.table import Table

NEVER = 10**15  # bytes, requests
PLAIN = "plain"
FIGURES = ("bulk down CPU s/GiB", "1 connection CPU us", "64 connections CPU us", "connect, ask, close CPU us")


def variants(folder: Path) -> Mapping[str, Sequence[str]]:
    """Options by what they are."""
    return {
        PLAIN: (),
        "--record": ("--record", str(folder / "run.json")),
        "--pcap": ("--pcap", str(folder / "run.pcap")),
        "a fault after bytes sent": ("--fault", "linger", "--after-sent", str(NEVER)),
        "a fault after bytes received": ("--fault", "linger", "--after-bytes", str(NEVER)),
        "a fault after requests": ("--fault", "linger", "--after-requests", str(NEVER)),
        "a fault after an idle time": ("--fault", "linger", "--after-idle", str(3_600_000)),
        "a fault for some (--when)": ("--fault", "linger", "--after-sent", str(NEVER), "--when", "peer=127.0.0.2"),
        "toxic noop": (
            "--toxic",
            "noop",
        ),
        "toxic with a moment": ("--toxic", f"latency,after_bytes={NEVER}"),
        "toxic latency 0": ("--toxic", "latency"),
        "toxic limit_data": ("--toxic", f"limit_data,bytes={NEVER}"),
        "toxic bandwidth 10 GB/s": ("--toxic", "bandwidth,rate=10000000"),
    }


def measured(load: Load, service: int, options: Sequence[str]) -> Figures:
    """The processor time of each kind of work through a proxy of its own."""
    with ours(service, *options) as proxy:
        return {
            **load.bulk(proxy, "down"),
            **load.trips(proxy, "pingpong", "1 connection", 1),
            **load.trips(proxy, "pingpong", "64 connections", 64),
            **load.trips(proxy, "churn", "connect, ask, close", 64),
        }


def shown(rounds: Sequence[Mapping[str, Figures]]) -> Table:
    """The plain one's figures, and the others' ratios to them."""
    table = Table("", *FIGURES)
    for name in rounds[0]:
        row = []
        for figure in FIGURES:
            if name == PLAIN:
                row.append(f"{statistics.median(one[name][figure] for one in rounds):.2f}")
            else:
                ratio = statistics.median(one[name][figure] / one[PLAIN][figure] for one in rounds)
                row.append(f"× {ratio:.2f}")
        table.add_row(name, *row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    console = Console(width=120)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        binary = str(folder / "proxied")
        subprocess.run(["cc", "-O2", "-o", binary, HERE / "proxied.c"], check=True)
        service = stack.enter_context(
            subprocess.Popen([binary, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert service.stdout
        port, load = int(service.stdout.readline()), Load(binary, arguments.seconds)
        rounds = [
            {name: measured(load, port, options) for name, options in variants(folder).items()}
            for _ in range(arguments.rounds)
        ]
        console.print(
            f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        console.print(shown(rounds))
        service.terminate()


if __name__ == "__main__":
    main()
