"""A balancer between two connections: a real proxy with an idle timeout, for a cause and for a stack.

Forgetting is TCP_REPAIR and close(), which sends nothing. Without CAP_NET_ADMIN its sockets abort with TTL 1 and the ends take
nothing below 2 (`sockets.hear_only_stack`): the RST is dropped, and those of the stack, with TTL 64, are not.
"""

from __future__ import annotations

import math
import socket
import time
from typing import TYPE_CHECKING

import trio

from faultkit import sockets
from faultkit.evidence.transcript import Address

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.witness.calls import Socket

IDLE = "balancer's idle timeout"


def may_vanish(family: int) -> bool:
    """Whether this process may use TCP_REPAIR: CAP_NET_ADMIN in the network namespace, tried on a socket of no use."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, sockets.TCP_REPAIR, 1)
        except PermissionError:
            return False
        return True


async def carry(connection: Socket, server: Address, play: Play) -> None:
    """Pass bytes on, both ways, until there were none for the options' `timeout_seconds`; `expires` says what then.

    The clock starts with the first answer: how long the ends take for their beginning is no idle time of theirs.
    """
    upstream = play.socket("balancer")
    await upstream.connect(server)
    seconds: float = play.options.timeout_seconds
    heard_ns = time.time_ns()
    with trio.CancelScope() as idle:
        async with trio.open_nursery() as nursery:

            async def pass_on(source: Socket, sink: Socket) -> None:
                nonlocal heard_ns
                while (told := await source.recv_later()).data:
                    heard_ns = told.ended_ns
                    if source is upstream or idle.deadline < math.inf:
                        idle.deadline = trio.current_time() + seconds
                    await sink.send_all(told.data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, connection, upstream)
            nursery.start_soon(pass_on, upstream, connection)
    if idle.cancelled_caught:
        play.notes.measure(IDLE, predicted=seconds, began_ns=heard_ns, ended_ns=time.time_ns())
        _expire((connection, upstream), play)
    else:
        connection.close()
        upstream.close()


def _expire(sides: tuple[Socket, Socket], play: Play) -> None:
    forgets = play.options.expires == "forget"
    what = "forgets both connections, silently" if forgets else "resets both sides"
    play.notes.step("balancer", f"idle for {play.options.timeout_seconds:g} s: {what}")
    for side in sides:
        if forgets and may_vanish(side.family):
            sockets.vanish(side)
        else:
            if forgets:
                sockets.whisper(side)
            sockets.abort(side)
