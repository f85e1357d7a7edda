"""A play whose clock was changed behind its back, on a machine without a core to spare: `python -m tests.playing.clocks NAME`.

Prints what differs from the promise, or nothing.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trio

from faultkit import NotProduced, causes, check_cause
from faultkit.acting.play import Play
from faultkit.witness.processor import withheld

BEFORE = 5.0  # seconds withheld before it begins: more than a wrong clock below is off by
Change = Callable[[Play], Awaitable[None]]


async def nothing(play: Play) -> None:
    """Leave the clocks as they are."""


def _on_the_client(option: int, value: int) -> Change:
    async def change(play: Play) -> None:
        while not any(call.told == "connect ok" for call in play.transcript.calls):  # noqa: ASYNC110
            await trio.sleep(0.001)
        client = next(sock for sock in play.calls.adopted if sock.role == "client")
        client.raw.setsockopt(socket.IPPROTO_TCP, option, value)

    return change


def _write(file: str, value: int) -> None:
    Path(file).write_text(f"{value}")


def _retries2(value: int) -> Change:
    async def change(play: Play) -> None:
        await play.cues["cut"].wait()
        assert play.stage.namespace is not None and play.stage.namespace.holds()
        _write("/proc/sys/net/ipv4/tcp_retries2", value)

    return change


@dataclass(frozen=True)
class Changed:
    """A cause, what is done to its clock, and the name of the clock."""

    cause: str
    options: dict[str, Any] = field(default_factory=dict)
    change: Change = nothing
    clock: str = ""


_KEEPALIVE, _RETRIES, _USER = "keepalive-timeout", "retransmit-timeout", {"ended_by": "user-timeout"}
_PROBES, _PATIENCE = "client's keepalive expiry", "client's TCP_USER_TIMEOUT expiry"
RIGHT: dict[str, Changed] = {
    "keepalive": Changed(_KEEPALIVE),
    "retries": Changed(_RETRIES),
    "user timeout": Changed(_RETRIES, _USER),
    "connect": Changed("connect-timeout"),
    "idle": Changed("load-balancer-idle"),
}
WRONG: dict[str, Changed] = {
    "more probes": Changed(_KEEPALIVE, {}, _on_the_client(socket.TCP_KEEPCNT, 6), _PROBES),
    "fewer probes": Changed(_KEEPALIVE, {"count": 5}, _on_the_client(socket.TCP_KEEPCNT, 2), _PROBES),
    "idle for longer": Changed(_KEEPALIVE, {}, _on_the_client(socket.TCP_KEEPIDLE, 5), _PROBES),
    "more retries": Changed(_RETRIES, {}, _retries2(3), "client's tcp_retries2 expiry"),
    "more patience": Changed(_RETRIES, _USER, _on_the_client(socket.TCP_USER_TIMEOUT, 5000), _PATIENCE),
    "less patience": Changed(
        _RETRIES, {**_USER, "user_timeout_seconds": 4.0}, _on_the_client(socket.TCP_USER_TIMEOUT, 100), _PATIENCE
    ),
}


def _starve() -> None:
    """Want a processor until it has been withheld for that long."""
    enough, deadline = withheld() + BEFORE, time.monotonic() + 60
    while withheld() < enough:
        assert time.monotonic() < deadline


def played(changed: Changed) -> str:
    """What differs where that is done behind the play's back."""
    cause = causes.load(changed.cause)

    async def script(play: Play) -> None:
        _starve()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changed.change, play)
            await cause.script(play)
            nursery.cancel_scope.cancel()

    here = replace(cause, script=script)
    try:
        # A half in a process of its own finds its cause in its module.
        with patch.object(import_module(cause.script.__module__), "CAUSE", here):
            check_cause(here, 1, on="namespace", **changed.options)
    except NotProduced as told:
        return str(told)
    return ""


def main(argv: Sequence[str]) -> None:
    print(played({**RIGHT, **WRONG}[argv[1]]), end="")


if __name__ == "__main__":
    main(sys.argv)
