# close() with bytes still in the receive queue loses data, so TCP must say so: RST instead of FIN (RFC 1122 section
# 4.2.2.13, RFC 2525 section 2.17; tcp_close()).
# Peer, Linux 6.18: recv ECONNRESET once, then EOF; send EPIPE. Kernel counter TCPAbortOnClose, reason TCP_ABORT_ON_CLOSE.
# Not linger: but linger 0 with bytes unread IS this cause, because the kernel looks at the unread bytes first.
from __future__ import annotations

from typing import TYPE_CHECKING

from faultkit.acting.dialogue import FOUND_OUT, find_out
from faultkit.cause import Options, Promise, Rst, Served, described

if TYPE_CHECKING:
    from faultkit.cause import Play, Socket


async def fault(connection: Socket, play: Play) -> None:
    await connection.readable()
    connection.unread()
    connection.close()


async def script(play: Play) -> None:
    client = await play.connect()
    await client.send(b"hello")
    await find_out(client)


def promise(options: Options, play: Play) -> Promise:
    return Promise(
        calls={
            "client": ("connect ok", "send 5", *FOUND_OUT),
            "server": ("accept ok", "close ok"),
        },
        packets=("client SYN", "server SYN,ACK", "client PSH,ACK 5", "server RST,ACK"),
        resets=(Rst("server", "TCP_ABORT_ON_CLOSE"),),
        counters={"TcpExtTCPAbortOnClose": 1, "TcpOutRsts": 1, "TcpEstabResets": 2},
    )


CAUSE = described(
    __name__,
    family="application",
    summary="close() with unread received data: RST instead of FIN",
    doing=lambda options: "The server closes while the request sits unread in its receive buffer.",
    story=(
        "The closer throws away bytes that its kernel had already acknowledged. TCP may not pretend that they were "
        "delivered, so close() sends RST instead of FIN (RFC 1122 section 4.2.2.13, RFC 2525 section 2.17; tcp_close()). "
        "An answer sent just before can be destroyed on its way by the same reset."
    ),
    served={"": Served(lambda conn: conn.close_unread(), unread=True)},
    lookalikes={
        "linger": "TCPAbortOnData moves instead of TCPAbortOnClose; the closer had read everything",
        "keepalive-race": "the same reset, but only on a reused connection after an idle time",
    },
    met=(
        "a server that answers an upload early (413, 401) and closes without reading the rest",
        "a worker killed or timed out with a request in its socket",
        "a client that closes as soon as it has read what it wanted of a longer answer",
    ),
    remedy=(
        "read until EOF before close(), with a limit: a lingering close (nginx lingering_close, Apache's lingering close)",
        "shutdown(SHUT_WR) first, then drain, then close()",
    ),
)
