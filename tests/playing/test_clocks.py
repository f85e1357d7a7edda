"""With every core busy a right clock still agrees, and a wrong one does not: what was withheld before it began is no excuse."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trio

from faultkit import NotProduced, causes, check_cause
from faultkit.acting.play import Play
from faultkit.witness.processor import withheld

# Seconds: more than a wrong clock below is off by, and that is more than a busy machine withholds while it runs.
BEFORE, OFF = 5.0, 2.0
Change = Callable[[Play], Awaitable[None]]


@pytest.fixture(autouse=True, scope="module")
def every_core_is_busy() -> Iterator[None]:
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    yield
    for other in others:
        other.kill()
        other.wait()


def starve() -> None:
    """Want a processor until it has been withheld for that long."""
    enough, deadline = withheld() + BEFORE, time.monotonic() + 60
    while withheld() < enough:
        assert time.monotonic() < deadline


def played(name: str, change: Change, **options: Any) -> str:
    """What differs where that is done behind the play's back."""
    cause = causes.load(name)

    async def script(play: Play) -> None:
        starve()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, play)
            await cause.script(play)
            nursery.cancel_scope.cancel()

    changed = replace(cause, script=script)
    try:
        # A half in a process of its own finds its cause in its module.
        with patch.object(import_module(cause.script.__module__), "CAUSE", changed):
            check_cause(changed, 1, on="namespace", **options)
    except NotProduced as told:
        return str(told)
    return ""


async def nothing(play: Play) -> None:
    """Leave the clocks as they are."""


def on_the_client(option: int, value: int) -> Change:
    async def change(play: Play) -> None:
        while not any(call.told == "connect ok" for call in play.transcript.calls):  # noqa: ASYNC110
            await trio.sleep(0.001)
        client = next(sock for sock in play.calls.adopted if sock.role == "client")
        client.raw.setsockopt(socket.IPPROTO_TCP, option, value)

    return change


def write(file: str, value: int) -> None:
    Path(file).write_text(f"{value}")


def retries2(value: int) -> Change:
    async def change(play: Play) -> None:
        await play.cues["cut"].wait()
        assert play.stage.namespace is not None and play.stage.namespace.holds()
        write("/proc/sys/net/ipv4/tcp_retries2", value)

    return change


Played = tuple[str, dict[str, Any]]
KEEPALIVE: Played = ("keepalive-timeout", {})
RETRIES: Played = ("retransmit-timeout", {})
USER_TIMEOUT: Played = ("retransmit-timeout", {"ended_by": "user-timeout"})
PATIENT: Played = ("retransmit-timeout", {"ended_by": "user-timeout", "user_timeout_seconds": 4.0})


@pytest.mark.parametrize(
    "cause", [KEEPALIVE, RETRIES, USER_TIMEOUT, ("connect-timeout", {}), ("load-balancer-idle", {})]
)
def test_a_right_clock_agrees(cause: Played) -> None:
    name, options = cause
    assert played(name, nothing, **options) == ""


@pytest.mark.parametrize(
    ("cause", "change", "clock"),
    [
        (KEEPALIVE, on_the_client(socket.TCP_KEEPCNT, 6), "client's keepalive expiry"),
        (("keepalive-timeout", {"count": 5}), on_the_client(socket.TCP_KEEPCNT, 2), "client's keepalive expiry"),
        (KEEPALIVE, on_the_client(socket.TCP_KEEPIDLE, 5), "client's keepalive expiry"),
        (RETRIES, retries2(3), "client's tcp_retries2 expiry"),
        (USER_TIMEOUT, on_the_client(socket.TCP_USER_TIMEOUT, 5000), "client's TCP_USER_TIMEOUT expiry"),
        (PATIENT, on_the_client(socket.TCP_USER_TIMEOUT, 100), "client's TCP_USER_TIMEOUT expiry"),
    ],
    ids=["more probes", "fewer probes", "idle for longer", "more retries", "more patience", "less patience"],
)
def test_a_wrong_clock_does_not(cause: Played, change: Change, clock: str) -> None:
    name, options = cause
    told = played(name, change, **options)
    seen = re.findall(rf"run 1, clock, {clock}: expected ([0-9.]+) s to ([0-9.]+) s; seen ([0-9.]+) s", told)
    assert len(seen) == 1, told or "it was as promised"
    earliest, latest, measured = map(float, seen[0])
    assert max(earliest - measured, measured - latest) > OFF
