"""The lines that a pipe is told by somebody who waits."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

import pytest

from faultkit.views.progress import Lines, steps


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(monkeypatch: pytest.MonkeyPatch, seconds: int, stream: TextIO, reader: int) -> list[str]:
    """What is said within so many seconds, by somebody who has something to say twice a second."""
    monkeypatch.setattr(sys, "stderr", stream)
    clock = Clock()
    lines = Lines("linger", clock)
    for tick in range(2 * seconds):
        clock.now = tick / 2
        lines.say(f"after {clock.now:.0f} s")
    stream.close()
    return os.read(reader, 1 << 16).decode().splitlines()


def test_often_and_then_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    said = told(monkeypatch, 12 * 60, os.fdopen(writer, "w"), reader)
    moments = [int(line.removeprefix("faultkit: linger: after ").removesuffix(" s")) for line in said]
    assert moments == [10, 20, 30, 40, 50, *range(60, 12 * 60, 60)]


def test_nothing_of_what_is_soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    assert told(monkeypatch, 9, os.fdopen(writer, "w"), reader) == []


def test_a_reader_that_reads_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    assert "faultkit" not in "".join(told(monkeypatch, 12 * 60, os.fdopen(writer, "w"), reader))


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    other, _ = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stderr", os.fdopen(writer, "w"))
    clock = Clock()
    lines = Lines("linger", clock)
    clock.now = 20.0
    lines.say("nobody hears it")
    sys.stderr.close()
    lines.say("nor that")
    os.close(other)


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_says_nothing(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faultkit.views.progress._OFTEN", 0.0)
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stderr", os.fdopen(writer, "w"))
    with steps(25, quiet, "tour") as step:
        step("linger")
    sys.stderr.close()
    assert os.read(reader, 100) == (b"" if quiet else b"faultkit: tour: 0 of 25, now linger\n")


def test_a_stream_that_is_no_file_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = Clock()
    lines = Lines("linger", clock)
    clock.now = 20.0
    lines.say("nowhere")
