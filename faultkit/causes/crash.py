# What a dead process had unread goes out as RST,ACK at once, reason TCP_ABORT_ON_CLOSE. With nothing unread the client's next
# write is answered with RST, reason TCP_TIMEWAIT_SOCKET, and send fails with EPIPE. SIGKILL, a segmentation fault, the OOM
# killer, exit() without closing: all the same to TCP.
# A restart on the same port: what is left of the old connection in the kernel (FIN-WAIT-2, then TIME-WAIT) comes before the
# new listener. It does decide whether the restart can bind: without SO_REUSEADDR, EADDRINUSE.
from __future__ import annotations

import socket
from dataclasses import dataclass

from faultkit.acting.child import Inside, child
from faultkit.acting.dialogue import answer, ask
from faultkit.cause import Options, Play, Promise, Rst, Served, Socket, described, option


@dataclass(frozen=True)
class Crash(Options):
    request: str = option(
        "unread", "what the process had done with the request when it was killed", choices=("unread", "read")
    )
    restart: bool = option(False, "start the server again on the same port before the client calls again")


async def server(play: Play) -> None:
    """Two processes one after the other, on a port that stays ours in between."""
    with socket.socket(play.stage.family, socket.SOCK_STREAM) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind((play.stage.host, 0))
        number = port.getsockname()[1]
        async with child(play, serve, port=number) as first:
            await play.cues["working"].wait()
            await first.kill()
        if play.options.restart:
            async with child(play, serve_again, port=number) as second:
                play.notes.step("process", f"{second.pid} is the server started again")
                await play.cues["restarted"].wait()
                play.cues["dead"].set()
        play.cues["dead"].set()


async def _take(connection: Socket, play: Play) -> None:
    """What the process does before it dies."""
    if play.options.request == "read":
        await connection.recv(65536)
    else:
        await connection.readable()
        connection.unread()


async def serve(play: Inside, port: int) -> None:
    """The process that is killed."""
    await _take(await play.accept(play.listen(port)), play)
    play.tell("working")
    await play.cues["killed"].wait()


async def fault(connection: Socket, play: Play) -> None:
    """In a process that is to live on: what the kernel does for a dead one, close()."""
    await _take(connection, play)
    connection.close()


async def serve_again(play: Inside, port: int) -> None:
    """The process after it: answers one request."""
    listener = play.listen(port)
    play.tell("restarted")
    connection = await play.accept(listener)
    await answer(connection, b"hello\n")
    await connection.recv(65536)
    connection.close()


async def script(play: Play) -> None:
    client = await play.connect()
    await client.send(b"hello")
    await play.cues["dead"].wait()
    await client.recv(65536)
    if play.options.request == "read":
        await play.fin_acknowledged(await play.cues.serving(), client.address)
        await client.send(b"late")
        await client.over()
    await client.recv(65536)
    await client.send(b"x")
    client.close()
    if play.options.restart:
        client = await play.connect()
        await ask(client, b"hello")
        client.close()


def promise(options: Crash, play: Play) -> Promise:
    opening = ("client SYN", "server SYN,ACK", "client PSH,ACK 5")
    client, served, wire = ["recv ECONNRESET"], ["accept ok"], ["server RST,ACK"]
    reason, counters = "TCP_ABORT_ON_CLOSE", {"TcpExtTCPAbortOnClose": 1}
    if options.request == "read":
        client, served = ["recv EOF", "send 4"], ["accept ok", "recv 5"]
        wire = ["server FIN,ACK", "client PSH,ACK 4", "server RST"]
        reason, counters = play.refusal()
    client += ["recv EOF", "send EPIPE", "close ok"]
    if options.restart:
        client += ["connect ok", "send 5", "recv 6", "close ok"]
        served += ["accept ok", "recv 5", "send 6", "recv EOF", "close ok"]
        wire += [*opening, "server PSH,ACK 6", "client FIN,ACK", "server FIN,ACK"]
    return Promise(
        calls={"client": ["connect ok", "send 5", *client], "server": served},
        packets=[*opening, *wire],
        resets=(Rst("server", reason),),
        counters={**counters, "TcpEstabResets": 1 if options.request == "read" else 2, "TcpOutRsts": 1},
        seconds=0.5,  # a process starts
    )


def doing(options: Crash) -> str:
    after = ", and started again on the same port" if options.restart else ""
    return f"The server's process is killed with SIGKILL while a request is {options.request}{after}."


CAUSE = described(
    __name__,
    family="application",
    summary="the server's process is killed: RST or FIN, by its buffers",
    story=(
        "A dead process cannot close its sockets, so the kernel closes them (do_exit(), tcp_close()), and by the same rules "
        "as any close(): a connection with received bytes unread is reset, any other is ended with FIN. So one crash gives "
        "some clients ECONNRESET and others a clean EOF, and those learn by their next write, which is answered with RST. A "
        "server started again on the same port knows nothing of the old connections and cannot save them."
    ),
    variants=({}, {"request": "read"}, {"restart": True}, {"request": "read", "restart": True}),
    served={
        "unread": Served(lambda conn: conn.crash(read=False), unread=True),
        "read": Served(lambda conn: conn.crash(read=True)),
    },
    lookalikes={
        "unread": "the same packets; but the process lives, and only connections with unread bytes are hit",
        "late-write": "the same as a crash with the request read; but other connections live on",
        "half-open": "the machine died, not the process: no FIN, no RST until the client writes",
        "closed-port": "what new connections get until the server is started again: ECONNREFUSED",
    },
    met=(
        "the OOM killer (dmesg: Killed process), kubectl delete --grace-period=0, systemd's TimeoutStopSec running out",
        "gunicorn's WORKER TIMEOUT: the arbiter kills a worker with requests in its sockets",
        "a burst of 502s, half of them 'reset by peer' and half 'prematurely closed', all in the same millisecond",
    ),
    remedy=(
        "stop with SIGTERM, and on it: close the listener, finish what is being answered, then exit",
        "clients: an answer that did not come is not a request that was not executed; retry only what is idempotent",
        "servers set SO_REUSEADDR, or the restart fails with EADDRINUSE for a minute",
    ),
)
