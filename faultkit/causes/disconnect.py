# connect(2) with an address of family AF_UNSPEC dissolves an association: a datagram socket's peer, and on Linux a TCP
# connection too (connect(2); tcp_disconnect()). The connection is aborted with RST,ACK, reason TCP_STATE, what is queued
# is thrown away, and the descriptor stays open, ready to connect anew.
# Peer, Linux 6.18: recv ECONNRESET once, then EOF; send EPIPE. Its own side is told too, unlike by close(): recv
# ECONNRESET once, then ENOTCONN; send EPIPE. No counter moves but OutRsts and EstabResets: not TCPAbortOnData.
# In LAST-ACK (the peer has shut down its half, we have shut down ours) a connection needs no reset by RFC 9293; Linux sends
# one nevertheless where data is still unsent: reason TCP_DISCONNECT_WITH_DATA. The peer in FIN-WAIT-2 reads what it has,
# then ECONNRESET: an answer cut short, although its end was promised by shutdown().
from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit.acting.dialogue import FOUND_OUT, find_out
from faultkit.cause import Options, Promise, Rst, Served, described, option

SMALL = 4096  # bytes, SO_RCVBUF of a client that lets most of the answer wait; the kernel doubles it
LARGE = 65536  # bytes of answer

if TYPE_CHECKING:
    from faultkit.cause import Play, Socket


@dataclass(frozen=True)
class Disconnect(Options):
    state: str = option(
        "established",
        "the server's state; last-ack: both ends have shut down, and data is still unsent",
        choices=("established", "last-ack"),
    )


async def fault(connection: Socket, play: Play) -> None:
    await connection.recv(65536)
    if play.options.state == "last-ack":
        await connection.recv(65536)  # EOF: the client has shut down its half
        await connection.send(bytes(LARGE))
        connection.shutdown(socket.SHUT_WR)
        await play.cues["full"].wait()
        connection.unsent()
    connection.disconnect()
    await find_out(connection)


async def script(play: Play) -> None:
    client = play.socket("client")
    cut = play.options.state == "last-ack"
    if cut:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    await client.connect(await play.cues.serving())
    await client.send(b"hello")
    if cut:
        client.shutdown(socket.SHUT_WR)
        await client.readable()
        play.cues["full"].set()
    await client.over()
    await client.drain()
    await client.recv(65536)
    await client.send(b"x")


def promise(options: Disconnect, play: Play) -> Promise:
    opening = ("client SYN", "server SYN,ACK", "client PSH,ACK 5")
    told = ("disconnect ok", "recv ECONNRESET", "recv ENOTCONN", "send EPIPE")
    if options.state == "last-ack":
        return Promise(
            calls={
                "client": ("connect ok", "send 5", "shutdown ok", "recv n", *FOUND_OUT),
                "server": ("accept ok", "recv 5", "recv EOF", "send n", "shutdown ok", *told),
            },
            packets=(*opening, "client FIN,ACK", "server ACK n *", "server PSH,ACK n", "server RST,ACK"),
            resets=(Rst("server", "TCP_DISCONNECT_WITH_DATA"),),
            counters={"TcpOutRsts": 1},  # neither end was in a state that counts as established
        )
    return Promise(
        calls={
            "client": ("connect ok", "send 5", *FOUND_OUT),
            "server": ("accept ok", "recv 5", *told),
        },
        packets=(*opening, "server RST,ACK"),
        resets=(Rst("server", "TCP_STATE"),),
        counters={"TcpOutRsts": 1, "TcpEstabResets": 2},
    )


def doing(options: Disconnect) -> str:
    if options.state == "last-ack":
        return "Both ends have shut down; with data still unsent the server calls connect(AF_UNSPEC)."
    return "The server calls connect(AF_UNSPEC) on an established connection."


CAUSE = described(
    __name__,
    family="application",
    summary="connect(AF_UNSPEC): aborts, and the socket stays open",
    seldom=True,
    story=(
        "connect(2) to an address of family AF_UNSPEC dissolves the connection of a socket and leaves the socket itself open "
        "for another one. For TCP on Linux that is an abort (tcp_disconnect()): what is queued is thrown away and RST goes "
        "out. The caller is told as well, unlike by close(): its next recv fails with ECONNRESET, those after it with "
        "ENOTCONN."
    ),
    variants=({}, {"state": "last-ack"}),
    served={"": Served(lambda conn: conn.disconnect())},
    lookalikes={
        "linger": "TCPAbortOnData moves, and the aborter's descriptor is closed; here no abort counter moves",
        "listener-closed": "the same reason TCP_STATE and counters, but the server never accepted",
        "unread": "TCPAbortOnClose moves",
    },
    met=(
        "code that pools sockets instead of connections, and dissolves one to use its descriptor again",
        "code written for UDP, where AF_UNSPEC only forgets the peer, given a TCP socket",
        "fuzzers and kernel tests: the shortest way to an aborted socket that is still open",
    ),
    remedy=(
        "shutdown(SHUT_WR), read until EOF, close(), and take a new socket: saving a descriptor is not worth a reset",
        "strace -e trace=connect shows it: connect(fd, {sa_family=AF_UNSPEC, ...})",
    ),
)
