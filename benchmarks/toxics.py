"""How exact latency and bandwidth are: `python benchmarks/toxics.py [--toxiproxy PATH]`.

Latency: how much later than asked for an answer comes, less what a round trip on one connection takes without a proxy, at the
median and at the 99th percentile. Bandwidth: seconds for so many bytes, as a part of what they should take.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator

from proxy import HERE, Load, Proxy, ours, toxiproxy
from rich.console import Console
from rich.table import Table

LATENCIES = ((10, 1), (10, 100), (100, 1), (100, 1000), (1000, 1), (1000, 1000))  # ms, connections
RATES = ((100, 1), (10_000, 20), (100_000, 100), (200_000, 200))  # KB/s, MiB

Start = Callable[[int, str, int], contextlib.AbstractContextManager[Proxy]]


@contextlib.contextmanager
def our_own(service: int, type: str, amount: int) -> Iterator[Proxy]:
    key = "latency" if type == "latency" else "rate"
    with ours(service, "--toxic", f"{type},{key}={amount}") as one:
        yield one


def theirs(path: str) -> Start:
    @contextlib.contextmanager
    def start(service: int, type: str, amount: int) -> Iterator[Proxy]:
        key = "latency" if type == "latency" else "rate"
        with toxiproxy(path, service) as one:
            api = one.api
            body = json.dumps({"type": type, "attributes": {key: amount}}).encode()
            urllib.request.urlopen(f"http://127.0.0.1:{api}/proxies/it/toxics", body)
            yield one

    return start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toxiproxy", metavar="PATH", help="its server, to be measured beside ours")
    arguments = parser.parse_args()
    starting: dict[str, Start] = {"faultkit": our_own}
    if arguments.toxiproxy:
        starting["toxiproxy"] = theirs(arguments.toxiproxy)
    table = Table("", *starting)
    with contextlib.ExitStack() as stack:
        binary = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "proxied")
        subprocess.run(["cc", "-O2", "-o", binary, HERE / "proxied.c"], check=True)
        service = stack.enter_context(
            subprocess.Popen([binary, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert service.stdout
        port = int(service.stdout.readline())
        for milliseconds, connections in LATENCIES:
            row = []
            load = Load(binary, max(2.0, milliseconds / 200))
            for start in starting.values():
                with start(port, "latency", milliseconds) as proxy:
                    _, middle, late, _ = load("pingpong", proxy.port, connections, load.seconds)
                _, plain, _, _ = Load(binary, 0)("pingpong", port, 1, 0.5)
                asked = milliseconds * 1000 + plain
                row.append(f"{(middle - asked) / 1000:+.2f}, {(late - asked) / 1000:+.2f} ms")
            table.add_row(f"latency {milliseconds} ms, {connections} connections: p50, p99", *row)
        for rate, mebibytes in RATES:
            row = []
            for start in starting.values():
                with start(port, "bandwidth", rate) as proxy:
                    (seconds,) = Load(binary, 0)("down", proxy.port, mebibytes)
                row.append(f"{seconds * rate * 1000 / (mebibytes << 20):.4f}")
            table.add_row(f"bandwidth {rate} KB/s, {mebibytes} MiB", *row)
        service.terminate()
    console = Console()
    console.print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    console.print(table)


if __name__ == "__main__":
    main()
