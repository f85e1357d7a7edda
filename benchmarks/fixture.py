"""What `fault_server` costs a test, against pytest-httpserver's `httpserver`: `python benchmarks/fixture.py`.

One pytest run over generated tests that do nothing but ask for a fixture, one of each in turn. What is timed is pytest's
whole set-up and tear-down of a test, its own part included: the row `nothing` is that part, and it is not subtracted.
`httpserver` keeps one server for the session and empties it; the others have a server of their own for every test.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

PROMISED = 0.5  # ms at the median
OURS, THEIRS = "fault_server", "httpserver"
FIXTURES = {
    OURS: "armed",
    THEIRS: "httpserver",
    "a trio server in a thread": "trio_thread",
    "nothing": "nothing",
}

CONFTEST = """
import json
import os
import threading
import time

import pytest
import trio

seconds = {}


def timed(item):
    began = time.perf_counter()
    try:
        return (yield)
    finally:
        seconds[item.name] = seconds.get(item.name, 0.0) + time.perf_counter() - began


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    return (yield from timed(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    return (yield from timed(item))


def pytest_sessionfinish():
    with open(os.environ["SECONDS"], "w") as file:
        json.dump(seconds, file)


@pytest.fixture
def armed(fault_server):
    # The tests have no client, so the fault may go unmet.
    return fault_server("linger", must_be_met=False)


@pytest.fixture
def trio_thread():
    ready, told = threading.Event(), {}

    async def serve():
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, echo, 0)
            told.update(token=trio.lowlevel.current_trio_token(), cancel=nursery.cancel_scope.cancel)
            told.update(port=listeners[0].socket.getsockname()[1])
            ready.set()

    async def echo(stream):
        async for data in stream:
            await stream.send_all(data)

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    ready.wait()
    yield told["port"]
    told["token"].run_sync_soon(told["cancel"])
    thread.join()


@pytest.fixture
def nothing():
    pass
"""


def measured(tests: int) -> dict[str, list[float]]:
    """Milliseconds of set-up and tear-down, by fixture, in the order of the tests."""
    with tempfile.TemporaryDirectory(prefix="faultkit-fixture-") as name:
        into = Path(name)
        (into / "conftest.py").write_text(CONFTEST)
        lines = [f"def test_{n}_{fixture}({fixture}): pass" for n in range(tests) for fixture in FIXTURES.values()]
        (into / "test_empty.py").write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", name, name]
        environment = {**os.environ, "SECONDS": str(into / "seconds.json"), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(command, cwd=into, env=environment, capture_output=True, text=True)
        if ran.returncode:
            sys.exit(
                f"pytest ended with status {ran.returncode}; are faultkit and pytest-httpserver installed here?\n"
                f"{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
            )
        seconds = json.loads((into / "seconds.json").read_text())
    return {what: [seconds[f"test_{n}_{fixture}"] * 1000 for n in range(tests)] for what, fixture in FIXTURES.items()}


@click.command()
@click.option("--tests", default=500, show_default=True, type=click.IntRange(20), help="Tests with each fixture.")
def main(tests: int) -> None:
    columns = measured(tests)
    table = Table("fixture")
    for heading in ("median", "p95", "to httpserver, pair by pair", "promised"):
        table.add_column(heading, justify="right")
    for what, column in columns.items():
        ratio = statistics.median(own / theirs for own, theirs in zip(column, columns[THEIRS], strict=True))
        table.add_row(
            what,
            f"{statistics.median(column):.3f} ms",
            f"{statistics.quantiles(column, n=20)[18]:.3f} ms",
            f"{ratio:.2f}",
            f"at most {PROMISED} ms" if what == OURS else "",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}" for package in ("pytest", "pytest-httpserver")
    )
    console.print(f"Linux {platform.release()}, Python {platform.python_version()}, {versions}, uid {os.geteuid()}")
    console.print(f"{tests} tests with each fixture in turn; set-up plus tear-down of a test")
    console.print(table)


if __name__ == "__main__":
    main()
