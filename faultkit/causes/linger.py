# close() with SO_LINGER {on, 0} does not send what is queued and does not say goodbye: tcp_close() takes the
# tcp_disconnect() way out, throws the send queue away and sends RST (RFC 9293 section 3.10.4 calls it ABORT).
# Peer, Linux 6.18: recv ECONNRESET once, then EOF; send EPIPE. Kernel counter TCPAbortOnData, reason TCP_STATE.
# Not unread: with received bytes still unread the kernel takes that branch first, whatever SO_LINGER says; so the
# server reads the trigger byte before it closes.
from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.acting.dialogue import FOUND_OUT, find_out
from faultkit.cause import Options, Promise, Rst, Served, described, option

if TYPE_CHECKING:
    from faultkit.cause import Play, Socket


@dataclass(frozen=True)
class Linger(Options):
    # TCP_CORK holds back what is less than a segment, and on loopback a segment is half the peer's window of 64 KiB
    # (tcp_bound_to_half_wnd()). The kernel pulls the cork after 200 ms; the close follows at once.
    unsent: int = option(0, "bytes queued for the client that the reset throws away", unit="bytes", least=0, most=32767)


async def fault(connection: Socket, play: Play) -> None:
    await connection.recv(1)
    if play.options.unsent:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        await connection.send(bytes(play.options.unsent))
        connection.unsent()
    sockets.abort(connection)


async def script(play: Play) -> None:
    client = await play.connect()
    await client.send(b"x")
    await find_out(client)


def promise(options: Linger, play: Play) -> Promise:
    queued = [f"send {options.unsent}"] if options.unsent else []
    return Promise(
        calls={
            "client": ("connect ok", "send 1", *FOUND_OUT),
            "server": ("accept ok", "recv 1", *queued, "close ok"),
        },
        packets=("client SYN", "server SYN,ACK", "client PSH,ACK 1", "server RST,ACK"),
        resets=(Rst("server", "TCP_STATE"),),
        counters={"TcpExtTCPAbortOnData": 1, "TcpOutRsts": 1, "TcpEstabResets": 2},
    )


def doing(options: Linger) -> str:
    lost = f" with {options.unsent} bytes still queued for the client" if options.unsent else ""
    return f"The server reads one byte, then closes with SO_LINGER {{1, 0}}{lost}."


CAUSE = described(
    __name__,
    family="application",
    summary="SO_LINGER {on, 0}: close() throws data away and sends RST",
    story=(
        "SO_LINGER with a linger time of 0 turns close() into an abort: the kernel discards the send queue and sends RST "
        "instead of FIN (socket(7); tcp_close(); ABORT in RFC 9293 section 3.10.4). Whatever the client was still to get "
        "is lost, and its next call fails with ECONNRESET."
    ),
    variants=({}, {"unsent": 4096}),
    served={"": Served(lambda conn: conn.abort())},
    lookalikes={
        "unread": "TCPAbortOnClose moves instead of TCPAbortOnData; the closer had bytes left to read",
        "closed-port": "the RST answers a SYN: connect() itself fails",
    },
    met=(
        "servers and load testers that set SO_LINGER {1, 0} to keep out of TIME-WAIT",
        "health checks of load balancers, which close with a RST to save a round trip",
        "HAProxy with `option nolinger`, Java's setSoLinger(true, 0), Go's SetLinger(0)",
    ),
    remedy=(
        "leave SO_LINGER alone: close() sends what is queued, in the background",
        "to be sure that the peer has everything: shutdown(SHUT_WR), read until EOF, then close()",
        "against TIME-WAIT on a server: let the client close first, or SO_REUSEADDR for the restart",
    ),
)
