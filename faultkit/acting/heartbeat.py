"""A heartbeat: messages that keep a connection alive which something in between would end when it is idle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from faultkit.errors import Misuse

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.witness.calls import Socket

SPAN = 3  # idle timeouts that a heartbeat must survive to prove its point; arbitrary


def check_beats(*, every: float, timeout: float) -> None:
    """Raise `Misuse` for a heartbeat that would come too late; both in seconds."""
    if every >= timeout:
        raise Misuse(
            f"--heartbeat {every * 1000:g} is not shorter than --timeout {timeout * 1000:g}: what is in between would be "
            "faster; take half of it"
        )


def beats(*, every: float | None, timeout: float) -> int:
    """How many messages outlive the timeout `SPAN` times; none without a heartbeat."""
    return math.ceil(SPAN * timeout / every) if every else 0


async def beat(client: Socket, message: bytes, play: Play, *, every: float, timeout: float) -> None:
    """Send that many, so many seconds apart, and take the answer to each."""
    play.notes.expect("the heartbeat has outlived the timeout", ends=SPAN * timeout)
    for _ in range(beats(every=every, timeout=timeout)):
        await trio.sleep(every)
        await client.send(message)
        await client.recv(65536)
