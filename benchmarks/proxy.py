"""`faultkit proxy` beside HAProxy, socat and toxiproxy, paired in one run: `python benchmarks/proxy.py [--toxiproxy PATH]`.

One client in C for all (proxied.c), which is also the service. Each round takes each figure of all of them, one after the other,
so that a machine that is busy is so for each; what is shown is the median of the rounds, and the median of the ratios to HAProxy
within a round. CPU is the proxy's own, user and system, by /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
MEGABYTES = 1000
IDLE = 9000  # connections
HAPROXY = """
global
  nbthread 1
  maxconn 9100
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen it
  bind 127.0.0.1:{port}
  server it 127.0.0.1:{service}
"""

Figures = dict[str, float]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def await_port(port: int) -> None:
    for _ in range(6000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    sys.exit(f"nothing listens on port {port}")


class Proxy:
    def __init__(self, name: str, port: int, process: psutil.Process | None) -> None:
        self.name, self.port, self.process = name, port, process
        self.api = port  # of toxiproxy

    def cpu(self) -> float:
        """Seconds so far, of its children too."""
        if self.process is None:
            return 0.0
        own = self.process.cpu_times()
        used = own.user + own.system + own.children_user + own.children_system
        for child in self.process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                used += times.user + times.system
        return float(used)


@contextlib.contextmanager
def program(name: str, port: int, *command: str) -> Iterator[Proxy]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            await_port(port)
            yield Proxy(name, port, psutil.Process(process.pid))
        finally:
            process.terminate()


@contextlib.contextmanager
def haproxy(service: int) -> Iterator[Proxy]:
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(HAPROXY.format(port=port, service=service))
        config.flush()
        with program("HAProxy", port, "haproxy", "-db", "-f", config.name) as one:
            yield one


@contextlib.contextmanager
def socat(service: int) -> Iterator[Proxy]:
    port = free_port()
    listen = f"TCP-LISTEN:{port},fork,reuseaddr,nodelay,backlog=1024,bind=127.0.0.1"
    with program("socat", port, "socat", "-b65536", listen, f"TCP:127.0.0.1:{service},nodelay") as one:
        yield one


@contextlib.contextmanager
def ours(service: int, *options: str) -> Iterator[Proxy]:
    port = free_port()
    command = [sys.executable, "-m", "faultkit", "proxy", str(port), f"127.0.0.1:{service}", *options]
    with program("faultkit", port, *command) as one:
        yield one


@contextlib.contextmanager
def toxiproxy(path: str, service: int) -> Iterator[Proxy]:
    api, port = free_port(), free_port()
    with program("toxiproxy", api, path, "-port", str(api)) as one:
        body = json.dumps({"name": "it", "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{service}"}).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{api}/proxies", body)
        one.port = port
        yield one


class Load:
    """The client's half."""

    def __init__(self, binary: str, seconds: float) -> None:
        self.binary, self.seconds = binary, seconds

    def __call__(self, *arguments: object) -> list[float]:
        told = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        if told.returncode:
            sys.exit(f"proxied {arguments}: {told.stderr}")
        return [float(word) for word in told.stdout.split()]

    def bulk(self, proxy: Proxy, way: str) -> Figures:
        cpu = proxy.cpu()
        (seconds,) = self(way, proxy.port, MEGABYTES)
        return {
            f"bulk {way} MB/s": MEGABYTES * 1.048576 / seconds,
            f"bulk {way} CPU s/GiB": (proxy.cpu() - cpu) * 1.024,
        }

    def trips(self, proxy: Proxy, what: str, name: str, connections: int) -> Figures:
        cpu = proxy.cpu()
        rate, middle, late, count = self(what, proxy.port, connections, self.seconds)
        return {
            f"{name} /s": rate,
            f"{name} p50 us": middle,
            f"{name} p99 us": late,
            f"{name} CPU us": (proxy.cpu() - cpu) * 1e6 / count,
        }

    def round(self, proxies: Sequence[Proxy]) -> dict[str, Figures]:
        """Each figure of all, one after the other: where the scheduler puts the ends changes within seconds, for everybody, and a
        round trip takes twice as long then."""
        found: dict[str, Figures] = {proxy.name: {} for proxy in proxies}
        measures: tuple[Callable[[Proxy], Figures], ...] = (
            lambda proxy: self.bulk(proxy, "up"),
            lambda proxy: self.bulk(proxy, "down"),
            lambda proxy: self.trips(proxy, "pingpong", "1 connection", 1),
            lambda proxy: self.trips(proxy, "pingpong", "64 connections", 64),
            lambda proxy: self.trips(proxy, "churn", "connect, ask, close", 64),
        )
        for measure in measures:
            for proxy in proxies:
                found[proxy.name] |= measure(proxy)
        return found


def idle(proxy: Proxy) -> float:
    """KiB of process memory for each connection that says nothing."""
    assert proxy.process

    def memory() -> int:
        assert proxy.process
        every = [proxy.process, *proxy.process.children()]
        return sum(int(one.memory_full_info().uss) for one in every)

    before = memory()
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(IDLE):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
            sock.sendall(b"x")
            sock.recv(1)
            socks.append(sock)
        used = (memory() - before) / IDLE / 1024
        for sock in socks:
            sock.sendall(b"y")
        if [sock.recv(1) for sock in socks] != [b"y"] * IDLE:
            sys.exit(f"{proxy.name} has lost one of {IDLE} idle connections")
        return used


def shown(rounds: list[dict[str, Figures]], memory: Figures) -> Table:
    names = list(rounds[0])
    table = Table("", *(f"[b]{name}" for name in names), "faultkit : HAProxy")
    for figure in rounds[0][names[0]]:
        row = [statistics.median(one[name][figure] for one in rounds) for name in names]
        ratio = statistics.median(one["faultkit"][figure] / (one["HAProxy"][figure] or 1e-9) for one in rounds)
        table.add_row(figure, *(f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in row), f"{ratio:.2f}")
    table.add_row("KiB per idle connection", *(f"{memory[name]:.1f}" if name in memory else "" for name in names), "")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--toxiproxy", metavar="PATH", help="its server, to be measured beside the others")
    parser.add_argument("--only", help="faultkit,HAProxy")
    arguments = parser.parse_args()
    if not shutil.which("cc"):
        sys.exit("it needs a C compiler: apt install gcc")
    console = Console()
    with contextlib.ExitStack() as stack:
        binary = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "proxied")
        subprocess.run(["cc", "-O2", "-o", binary, HERE / "proxied.c"], check=True)
        service = stack.enter_context(
            subprocess.Popen([binary, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert service.stdout
        port = int(service.stdout.readline())
        starting: dict[str, Callable[[int], contextlib.AbstractContextManager[Proxy]]] = {
            "faultkit": ours,
            "HAProxy": haproxy,
            "socat": socat,
        }
        if arguments.toxiproxy:
            starting["toxiproxy"] = lambda service: toxiproxy(arguments.toxiproxy, service)
        wanted = arguments.only.split(",") if arguments.only else list(starting)
        proxies = [Proxy("direct", port, None)]
        for name, start in starting.items():
            if name in wanted and (name not in ("HAProxy", "socat") or shutil.which(name.lower())):
                proxies.append(stack.enter_context(start(port)))
        load = Load(binary, arguments.seconds)
        rounds = [load.round(proxies) for _ in range(arguments.rounds)]
        memory = {proxy.name: idle(proxy) for proxy in proxies if proxy.process and proxy.name != "socat"}
        console.print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
        console.print(shown(rounds, memory))
        service.terminate()


if __name__ == "__main__":
    main()
