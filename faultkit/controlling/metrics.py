"""GET /metrics: Prometheus' text, version 0.0.4."""

from __future__ import annotations

import gc
import math
import platform
import resource
from collections.abc import Iterable, Mapping
from decimal import Decimal

import psutil  # type: ignore[import-untyped]
import trio

from faultkit.controlling.proxies import Proxies
from faultkit.version import VERSION

Samples = Iterable[tuple[Mapping[str, str], float]]

PAIRS = (
    ("received", "Total number of bytes received by the proxy."),
    ("sent", "Total number of bytes sent by the proxy."),
)


class Metrics:
    """The counters as they are at this moment, those of connections that go on too."""

    def __init__(self, proxies: Proxies, *, of_proxies: bool, of_runtime: bool) -> None:
        self._proxies = proxies
        self._of_proxies = of_proxies
        self._of_runtime = of_runtime
        self.shown = of_proxies or of_runtime

    def text(self) -> str:
        """All that was asked for. Labels are in the order of the alphabet."""
        parts: list[str] = []
        if self._of_proxies:
            for which, help in PAIRS:
                parts += _family(f"toxiproxy_proxy_{which}_bytes_total", "counter", help, self._bytes(which))
        if self._of_runtime:
            for name, kind, help, samples in _runtime():
                parts += _family(name, kind, help, samples)
        causes = [({"cause": cause}, 0.0) for cause in ("encoding", "gathering")]
        help = "Total number of internal errors encountered by the metric handler."
        parts += _family("promhttp_metric_handler_errors_total", "counter", help, causes)
        return "".join(f"{line}\n" for line in parts)

    def _bytes(self, which: str) -> Samples:
        for kept in sorted(self._proxies, key=lambda one: one.proxy.name):
            passed = kept.proxy.passed
            if not kept.proxy.accepted:
                continue
            for direction in ("downstream", "upstream"):
                labels = {
                    "direction": direction,
                    "listener": kept.listen,
                    "proxy": kept.proxy.name,
                    "upstream": kept.proxy.upstream,
                }
                yield labels, getattr(passed[direction], which)


def _family(name: str, kind: str, help: str, samples: Samples) -> list[str]:
    lines = [f"{name}{_labels(labels)} {number(value)}" for labels, value in samples]
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}", *lines] if lines else []


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{told}}}" if told else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """As Go's clients of Prometheus write it: 5, 123456, 2.039765e+06."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    exact = Decimal(repr(float(value))).normalize()
    if value and not -4 <= exact.adjusted() < 6:  # strconv.FormatFloat(value, 'g', -1, 64)
        return f"{value:.{len(exact.as_tuple().digits) - 1}e}"
    return f"{exact:f}"


def _runtime() -> Iterable[tuple[str, str, str, Samples]]:
    process = psutil.Process()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    memory = process.memory_info()
    tasks = trio.lowlevel.current_statistics().tasks_living
    build = {"checksum": "", "path": "faultkit", "version": VERSION}
    collected = sum(one["collections"] for one in gc.get_stats())
    plain: tuple[tuple[str, str, str, float], ...] = (
        ("go_gc_cycles_total_gc_cycles_total", "counter", "Collections of Python's garbage collector.", collected),
        ("go_goroutines", "gauge", "Number of Trio tasks that currently exist.", tasks),
        ("go_threads", "gauge", "Number of OS threads.", process.num_threads()),
        (
            "process_cpu_seconds_total",
            "counter",
            "User and system CPU time in seconds.",
            usage.ru_utime + usage.ru_stime,
        ),
        ("process_max_fds", "gauge", "Most open file descriptors.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("process_open_fds", "gauge", "Number of open file descriptors.", process.num_fds()),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", memory.rss),
        ("process_start_time_seconds", "gauge", "Start time since unix epoch in seconds.", process.create_time()),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", memory.vms),
    )
    yield "go_build_info", "gauge", "Build information about the main program.", [(build, 1)]
    python = {"version": f"python{platform.python_version()}"}
    yield "go_info", "gauge", "Information about what it runs on.", [(python, 1)]
    for name, kind, help, value in plain:
        yield name, kind, help, [({}, value)]
