# The server's kernel has no program to give the data to: RST (RFC 1122 section 4.2.2.13; RFC 2525 section 2.17), reason
# TCP_TIMEWAIT_SOCKET. shutdown(SHUT_RDWR) instead of close() looks the same from outside, but the socket is still there to
# refuse the data: TCP_ABORT_ON_DATA, counter TCPAbortOnData. So does close() when the data overtakes the client's ACK of the
# FIN, which its kernel delays; here the client waits for that ACK. And so, once in some 10,000 times, does close() when that
# ACK comes within it, because the kernel then keeps the socket (Play.fin_acknowledged()): then that is the promise.
from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit.cause import Options, Promise, Rst, Served, described, option

# What the client is told, by the order of its calls.
ORDERS: dict[str, tuple[str, ...]] = {
    "send-recv-send-recv": ("send 4", "recv EOF", "send EPIPE", "recv EOF"),
    "recv-send-recv-send": ("recv EOF", "send 4", "recv EOF", "send EPIPE"),
    "send-send-recv": ("send 4", "send EPIPE", "recv EOF"),
}

if TYPE_CHECKING:
    from faultkit.cause import Play, Socket


@dataclass(frozen=True)
class LateWrite(Options):
    order: str = option(
        "send-send-recv",
        "the client's calls after the server's close; all: one client for each order, side by side",
        choices=(*ORDERS, "all"),
    )
    by: str = option("close", "how the server ends it", choices=("close", "shutdown"))


def clients(options: LateWrite) -> dict[str, str]:
    """The order of calls of each client. One alone is "client"; several are called by their order."""
    return {order: order for order in ORDERS} if options.order == "all" else {"client": options.order}


async def server(play: Play) -> None:
    listener = play.listen()
    for _ in clients(play.options):
        connection = await play.accept(listener)
        await fault(connection, play)


async def fault(connection: Socket, play: Play) -> None:
    """Read the request, so that nothing is left unread, and leave."""
    await connection.recv(65536)
    if play.options.by == "close":
        connection.close()
    else:
        connection.shutdown(socket.SHUT_RDWR)


async def script(play: Play) -> None:
    for role, order in clients(play.options).items():
        await _write_late(await play.connect(role), order, play)


async def _write_late(client: Socket, order: str, play: Play) -> None:
    await client.send(b"hello")
    await client.readable()
    await play.fin_acknowledged(await play.cues.serving(), client.address)
    play.notes.step(client.role, "its kernel has the server's FIN")
    written = False
    for name in order.split("-"):
        if name == "recv":
            await client.recv(65536)
        else:
            await client.send(b"late")
            if not written:
                await client.over()  # the reset is there before the next call
            written = True
    client.close()


def promise(options: LateWrite, play: Play) -> Promise:
    n = len(clients(options))
    wire = list[str]()
    for role in clients(options):
        wire += [f"{role} SYN", "server SYN,ACK", f"{role} PSH,ACK 5", "server FIN,ACK"]
        wire += [f"{role} PSH,ACK 4", "server RST"]
    closed = options.by == "close"
    at_socket = {role for role in clients(options) if not closed or role in play.kept}  # whose data meets no bucket
    reasons = ["TCP_ABORT_ON_DATA" if role in at_socket else "TCP_TIMEWAIT_SOCKET" for role in clients(options)]
    return Promise(
        calls={
            **{role: ("connect ok", "send 5", *ORDERS[order], "close ok") for role, order in clients(options).items()},
            "server": ("accept ok", "recv 5", "close ok" if closed else "shutdown ok") * n,
        },
        packets=wire,
        resets=[Rst("server", reason) for reason in reasons],
        counters={"TcpOutRsts": n, "TcpEstabResets": n, "TcpExtTCPAbortOnData": len(at_socket)},
        seconds=0.1 * n,
    )


def doing(options: LateWrite) -> str:
    how = "closes" if options.by == "close" else "calls shutdown(SHUT_RDWR)"
    if options.order == "all":
        return f"The server reads a request and {how}; three clients write afterwards, each in another order of calls."
    return f"The server reads a request and {how}; the client writes afterwards: {options.order}."


CAUSE = described(
    __name__,
    family="application",
    summary="a write after the peer's close: the first is fine",
    story=(
        "close() by the server sends FIN, and FIN only says that the server sends nothing more; that it reads nothing more "
        "either, TCP has no word for (RFC 9293 section 3.6). So the client's first write is accepted, sent, and answered "
        "with RST. The call after it tells, if it is a send: EPIPE (with SIGPIPE, unless ignored). A recv goes on giving "
        "EOF, and never ECONNRESET, because the client was in CLOSE-WAIT already (tcp_reset())."
    ),
    variants=(
        *({}, {"order": "send-recv-send-recv"}, {"order": "recv-send-recv-send"}, {"order": "all"}),
        *({"by": "shutdown"}, {"by": "shutdown", "order": "all"}),
    ),
    served={"": Served(lambda conn: conn.close(), ends_answer=True)},
    lookalikes={
        "keepalive-race": "the FIN crosses the request: recv gives ECONNRESET, not EOF",
        "unread": "the closer had bytes left to read: no FIN before the RST, recv gives ECONNRESET",
        "fin-wait-timeout": "the same for the client, but reason NO_SOCKET: the server's kernel has forgotten it",
        "half-open": "no FIN on the wire before the write; the recv after it gives ECONNRESET",
    },
    met=(
        '"broken pipe" (EPIPE, SIGPIPE) in a program that writes to a pooled connection without looking at it first',
        "a log shipper or metrics client that only writes: its first message after the server's restart is lost silently",
        "Redis, PostgreSQL and MySQL clients on a connection that the server's idle timeout has closed",
    ),
    remedy=(
        "before reusing a connection look whether it is readable: EOF (or anything else unasked for) means it is dead",
        "a write that returned is not a message that arrived: only an answer of the application proves it",
        "a client that only writes: watch for POLLRDHUP, or read in the background",
    ),
)
