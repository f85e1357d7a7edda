"""A handshake that nobody completes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from faultkit.stage import sysctl

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.evidence.transcript import Address
    from faultkit.witness.calls import Socket


async def connect_in_vain(client: Socket, server: Address, play: Play, measured: str, *, retries: int) -> None:
    """Connect with that TCP_SYNCNT until the kernel gives up, and note under that name how long it took."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, retries)
    *repeats, ends = sysctl.syns(retries)
    play.notes.expect("ETIMEDOUT", tick="repeated SYN", ticks=tuple(repeats), ends=ends)
    told = await client.connect(server)
    play.notes.measure(measured, predicted=ends, began_ns=told.began_ns, ended_ns=told.ended_ns)
