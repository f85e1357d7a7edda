"""A command in one sandbox or in two, and who of it is left."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.shell import USERS, start

every_user = pytest.mark.parametrize("user", USERS)
nested = pytest.mark.parametrize("boxes", [1, 2], ids=["alone", "nested"])

SOON = 20  # seconds until a test gives up; what it waits for takes some milliseconds, or the sandbox's patience

PYTHON = (sys.executable, "-c")


def boxed(*argv: str, boxes: int = 1) -> list[str]:
    """The arguments of a faultkit that runs it in so many sandboxes."""
    return [*["sandbox", "--", sys.executable, "-m", "faultkit"] * (boxes - 1), "sandbox", "--", *argv]


@contextlib.contextmanager
def held() -> Iterator[tuple[int, int]]:
    """A pipe: its second end is for processes to hold, and to be closed here as soon as they have it."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)


def drained(reader: int, timeout: float) -> str:
    """What was written to the pipe until all who held it are gone. Fails where somebody does not go."""
    written = b""
    while select.select([reader], [], [], timeout)[0]:
        part = os.read(reader, 100)
        written += part
        if not part:
            return written.decode()
    raise AssertionError("somebody is left, and holds the pipe")


@contextlib.contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """It runs, at most until a test gives up: then it is killed, and tells nothing more."""
    with start(*arguments, **options) as running:
        limit = threading.Timer(SOON, running.kill)
        limit.start()
        try:
            yield running
        finally:
            limit.cancel()
            limit.join()
            running.kill()


def told(running: subprocess.Popen[str]) -> str:
    """The next line that it writes."""
    assert running.stdout is not None
    return running.stdout.readline().strip()
