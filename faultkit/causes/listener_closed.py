# listen() lets the kernel complete handshakes on its own; accept() only takes what is finished. A listener that closes
# with finished connections in its accept queue aborts each of them: RST,ACK (inet_csk_listen_stop(), tcp_disconnect()).
# Peer, Linux 6.18: connect ok, send ok, then recv ECONNRESET once, EOF, EPIPE. Reason TCP_STATE, and no counter of its
# own: not even a request that nobody read counts as TCPAbortOnClose, because no program ever had the connection.
# With TCP_DEFER_ACCEPT the client believes that it is connected and the server's kernel does not: it dropped the ACK and
# keeps a request in SYN-RECEIVED until data comes. That request dies with the listener without a word, and the client's
# first write is answered with a bare RST, reason NO_SOCKET.
from __future__ import annotations

import socket
from dataclasses import dataclass

import trio

from faultkit.acting.dialogue import FOUND_OUT, find_out
from faultkit.cause import Options, Play, Promise, Rst, Served, Trigger, described, option
from faultkit.witness.kernel import counters

DEFER = 60  # seconds; arbitrary: longer than the play
DROPPED = "TcpExtTCPDeferAcceptDrop"


@dataclass(frozen=True)
class ListenerClosed(Options):
    connections: int = option(3, "connections in the accept queue when the listener closes", least=1, most=1000)
    deferred: bool = option(
        False, "TCP_DEFER_ACCEPT: the clients have sent nothing yet, so the server's kernel has no connection to reset"
    )


async def server(play: Play) -> None:
    listener = play.listen(backlog=play.options.connections)
    if play.options.deferred:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER)
    play.cues["open"].set()
    await play.cues["queued"].wait()
    listener.close()
    play.cues["closed"].set()


async def script(play: Play) -> None:
    address = await play.cues.serving()
    await play.cues["open"].wait()
    clients = [play.socket("client") for _ in range(play.options.connections)]
    dropped = counters()[DROPPED]
    for client in clients:
        await client.connect(address)
        if not play.options.deferred:
            await client.send(b"hello")
    # connect() returns before its ACK has arrived; the listener may not close before that.
    if play.options.deferred:
        # The dropped ACK is counted, and leaves no other trace.
        while counters()[DROPPED] < dropped + len(clients):  # noqa: ASYNC110
            await trio.sleep(0.002)
    else:
        for client in clients:
            await client.delivered()
    play.cues["queued"].set()
    await play.cues["closed"].wait()
    for client in clients:
        if play.options.deferred:
            await client.send(b"hello")
        await find_out(client)


def promise(options: ListenerClosed, play: Play) -> Promise:
    n = options.connections
    opening = ("client SYN", "server SYN,ACK")
    if options.deferred:
        return Promise(
            calls={"client": ("connect ok",) * n + ("send 5", *FOUND_OUT) * n, "server": ("close ok",)},
            packets=opening * n + ("client PSH,ACK 5", "server RST") * n,
            resets=(Rst("server", "NO_SOCKET"),) * n,
            counters={"TcpOutRsts": n, "TcpEstabResets": n},
        )
    return Promise(
        calls={"client": ("connect ok", "send 5") * n + FOUND_OUT * n, "server": ("close ok",)},
        packets=(*opening, "client PSH,ACK 5") * n + ("server RST,ACK",) * n,
        resets=(Rst("server", "TCP_STATE"),) * n,
        counters={"TcpOutRsts": n, "TcpEstabResets": 2 * n},
    )


def doing(options: ListenerClosed) -> str:
    n = options.connections
    who = "A client connects and waits" if n == 1 else f"{n} clients connect and wait"
    return f"{who}; the listener closes without having accepted" + (
        ", and TCP_DEFER_ACCEPT kept its kernel waiting for data." if options.deferred else "."
    )


CAUSE = described(
    __name__,
    family="application",
    summary="a listener closes with connections never accepted: RST",
    seldom=True,
    story=(
        "The kernel finishes handshakes before accept(), so a client can be connected, and its request received, while no "
        "program has the connection. Closing the listener aborts what is left in its accept queue with RST "
        "(inet_csk_listen_stop()). The client's connect() and first send succeed, its next call fails with ECONNRESET. "
        "Connections already accepted are not touched."
    ),
    variants=({}, {"connections": 1}, {"deferred": True}),
    served={"": Served(door=lambda door: door.reset_waiting(), when=Trigger("accept"))},
    lookalikes={
        "unread": "TCPAbortOnClose moves: a program had accepted the connection; here no abort counter moves",
        "linger": "TCPAbortOnData moves; here no abort counter moves, and several clients die at once",
        "closed-port": "a moment later: with the listener gone connect() itself fails, ECONNREFUSED",
        "backlog-full": "the listener is still there: ss -ltn shows Recv-Q above Send-Q",
    },
    met=(
        "a few ECONNRESETs at every deploy: the old process closes its listener while the queue is not empty",
        "SO_REUSEPORT workers: each has a queue of its own, and the queue dies with its worker",
        "a server overloaded enough to have a queue, then restarted for that reason",
    ),
    remedy=(
        "stop new connections first (take it out of the load balancer), accept until EAGAIN, then close the listener",
        "hand the listening socket over instead of closing it: socket activation, or a descriptor passed to the successor",
        "with SO_REUSEPORT: sysctl net.ipv4.tcp_migrate_req=1 (Linux 5.14) moves the queue to another listener",
    ),
)
