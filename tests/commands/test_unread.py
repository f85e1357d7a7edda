"""Nobody reads what is written: the work goes on, and a signal ends it within a second."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from faultkit.serving.foreground import Lines
from faultkit.views.served import dropped
from tests.commands.test_serve_command import Served, told
from tests.explaining.made import RESET, ethernet, ipv4, pcap, tcp
from tests.ordinary import CHECKOUT
from tests.serving.client import PATIENCE
from tests.shell import ENVIRONMENT, line, start
from tests.watch import until

HARNESS = Path(__file__).with_name("unread.mjs")
MANY = 3000  # ten times what a pipe holds; `node tests/commands/unread.mjs 10000 faultkit serve linger` takes 2 s


@contextlib.contextmanager
def full() -> Iterator[int]:
    """The end of a pipe that takes nothing any more, as long as nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


def ended_within_a_second(running: subprocess.Popen[str], number: signal.Signals) -> int:
    began = time.monotonic()
    running.send_signal(number)
    status = running.wait(PATIENCE)
    assert time.monotonic() - began < 2  # a busy machine has a second more
    return status


def test_a_harness_that_never_reads() -> None:
    ended = subprocess.run(
        ["node", str(HARNESS), str(MANY), *line("serve", "linger", "--json")],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        timeout=120,
        check=True,
    )
    outcome = json.loads(ended.stdout)
    assert outcome["seen"] == {"ECONNRESET": MANY}
    assert (outcome["status"], outcome["signal"]) == (0, None)
    assert outcome["milliseconds"] < 2000
    assert outcome["said"].startswith("faultkit: serve: nobody read standard output: lines that did not get there: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_that_can_say_nothing(number: signal.Signals) -> None:
    """Neither on standard output nor on standard error."""
    with full() as pipe, start("serve", "linger", stderr=pipe) as running:
        server = Served(running)
        for _ in range(MANY // 3):
            assert told(server.address) == 104
        assert ended_within_a_second(running, number) == 0


def captured(connections: int) -> bytes:
    """A capture of so many connections that were reset."""
    frames = []
    for nth in range(connections):
        frames += [
            (one[0] + nth / 100, ethernet(ipv4(one, tcp(one, sport=20000 + nth), number=1 + nth * 10 + place)))
            for place, one in enumerate(RESET)
        ]
    return pcap(frames)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_waits_for_its_reader(number: signal.Signals) -> None:
    """`faultkit explain -` writes while it reads, and goes on when somebody reads: until then it waits."""
    with full() as pipe, start("explain", "-", stdin=subprocess.PIPE, stdout=pipe) as running:
        assert running.stdin
        os.write(running.stdin.fileno(), captured(200))
        running.stdin.close()
        until(lambda: "pipe_write" in Path(f"/proc/{running.pid}/wchan").read_text(), running)
        assert ended_within_a_second(running, number) == 128 + number


def test_what_is_dropped_is_counted_where_it_is_missing() -> None:
    reading, wrote = threading.Event(), []

    def write(text: str) -> None:
        reading.wait(PATIENCE)
        wrote.append(text)

    async def main() -> None:
        lines = Lines(write, partial(dropped, as_json=True), most=20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lines.write)
            lines.add("first")
            await trio.testing.wait_all_tasks_blocked()
            for number in range(10):
                lines.add(f"line {number}")  # 7 characters and what ends it: three are too many
            assert lines.unwritten == 11
            reading.set()
            while lines.unwritten > 7:
                await trio.lowlevel.checkpoint()
            lines.add("later")
            for number in range(10):
                lines.add(f"line {number}")
            lines.end()
        assert lines.unwritten == 17

    trio.run(main)
    assert "".join(wrote).splitlines() == [
        "first",
        "line 0",
        "line 1",
        "line 2",
        '{"event": "dropped", "lines": 7}',
        "later",
        '{"event": "dropped", "lines": 10}',
    ]
    assert dropped(8, as_json=False) == "lines that nobody read in time, and that are dropped: 8"
