# Whom the write or the SYN of the end that does not know meets, and so the RST's reason:
#   write       no socket: NO_SOCKET. recv ECONNRESET once, then EPIPE, EOF
#   restarted   a LISTEN socket: TCP_FLAGS
#   reconnect   the server's old socket, whose challenge ACK (RFC 5961 section 4.2) the client's kernel resets:
#               TCP_INVALID_ACK_SEQUENCE. It sends its SYN again at once (tcp_rcv_synsent_state_process())
# Without a privilege an end vanishes like this: the other goes deaf (IP_MINTTL), the one aborts, its RST is lost, the
# other hears again. Then that abort is seen too: a lost RST on the wire, reason TCP_STATE, counter TCPAbortOnData.
# Measured on Linux 6.18.
from __future__ import annotations

import socket
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.dialogue import ask
from faultkit.cause import Options, Play, Promise, Rst, Served, Socket, Unable, described, option
from faultkit.evidence.transcript import Address
from faultkit.options import duration


@dataclass(frozen=True)
class HalfOpen(Options):
    found_by: str = option("write", "what brings it to light", choices=("write", "restarted", "reconnect", "nobody"))
    vanish_by: str = option(
        "auto",
        "how the end vanishes: auto takes TCP_REPAIR in a namespace, else an abort that the other end cannot hear",
        choices=("auto", "repair", "deaf"),
    )
    watch_seconds: float = duration(1.0, "how long to watch that nothing arrives", only_with=("found_by", "nobody"))


def repairs(options: HalfOpen, play: Play) -> bool:
    """Does the end vanish by TCP_REPAIR?"""
    return options.vanish_by == "repair" or (options.vanish_by == "auto" and play.stage.namespace is not None)


async def prepare(play: Play) -> None:
    if repairs(play.options, play) and play.stage.namespace is None:
        raise Unable(
            "half-open: TCP_REPAIR needs CAP_NET_ADMIN, which faultkit uses inside a private namespace only: leave "
            "--on host out, or take --vanish-by deaf"
        )


async def server(play: Play) -> None:
    listener = play.listen()
    connection = await play.accept(listener)
    if play.options.found_by == "reconnect":
        await connection.recv(1)
        play.cues["read"].set()
        await connection.recv(65536)
        await connection.send(b"x")
        await listener.accept()
        return
    listener.close()
    # Its port stays bound, so that nobody else gets it, and nobody listens on it.
    restarted = play.socket("server")
    restarted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    restarted.bind(connection.address)
    await fault(connection, play)
    if play.options.found_by == "restarted":
        restarted.listen()
        play.notes.step("server", f"runs again and listens on port {restarted.address.port}")
    play.cues["gone"].set()


async def fault(connection: Socket, play: Play) -> None:
    """Read one byte, and be gone. Without TCP_REPAIR the client must be deaf meanwhile."""
    await connection.recv(1)
    if repairs(play.options, play):
        sockets.vanish(connection)
    else:
        play.cues["read"].set()
        await play.cues["deaf"].wait()
        sockets.abort(connection)
    play.notes.step("server", "its end is gone without a word, as in a power failure")


async def script(play: Play) -> None:
    address = await play.cues.serving()
    if play.options.found_by == "reconnect":
        await _reconnect(address, play)
        return
    client = play.socket("client")
    await client.connect(address)
    await client.send(b"x")
    if not repairs(play.options, play):
        await play.cues["read"].wait()
        sockets.black_hole(client)
        play.cues["deaf"].set()
    await play.cues["gone"].wait()
    if not repairs(play.options, play):
        sockets.heal(client)
    play.notes.step("client", f"knows nothing: its socket is {sockets.state(client.raw)}")
    if play.options.found_by == "nobody":
        await _watch(client, play)
        return
    await ask(client, b"request")
    await ask(client, b"request")


async def _reconnect(address: Address, play: Play) -> None:
    """Connect, vanish, connect again."""
    client, again = play.two_of_one_port("client")
    await client.connect(address)
    await client.send(b"x")
    await play.cues["read"].wait()
    _vanish(client, play)
    await again.connect(address)


def _vanish(client: Socket, play: Play) -> None:
    if repairs(play.options, play):
        sockets.vanish(client)
    else:
        sockets.black_hole(play.accepted[0])
        sockets.abort(client)
        sockets.heal(play.accepted[0])
    play.notes.step("client", "its end is gone without a word, and comes back on the same port")


async def _watch(client: Socket, play: Play) -> None:
    seconds = play.options.watch_seconds
    play.notes.expect("the end of the watch", ends=seconds)
    with trio.move_on_after(seconds):
        await client.recv(65536)
    play.notes.step("client", f"heard nothing for {seconds:g} s, its socket is still {sockets.state(client.raw)}")


def promise(options: HalfOpen, play: Play) -> Promise:
    client: tuple[str, ...] = ("connect ok", "send 1")
    server: tuple[str, ...] = ("accept ok",)
    packets = ["client SYN", "server SYN,ACK", "client PSH,ACK 1"]
    resets: list[Rst] = []
    counters = {"TcpEstabResets": 1}  # the vanished end's
    if not repairs(options, play):
        vanished = "client" if options.found_by == "reconnect" else "server"
        packets.append(f"{vanished} RST,ACK")
        resets.append(Rst(vanished, "TCP_STATE"))
        counters["TcpExtTCPAbortOnData"] = 1
    if options.found_by == "reconnect":
        client += ("close ok", "connect ok")
        server += ("recv 1", "recv ECONNRESET", "send EPIPE", "accept ok")
        # The SYN that connects is the first one again.
        packets += ["client SYN", "client RST", "server SYN,ACK"]
        resets.append(Rst("client", "TCP_INVALID_ACK_SEQUENCE"))
        counters |= {"TcpExtTCPChallengeACK": 1, "TcpExtTCPSYNChallenge": 1}
    else:
        server += ("close ok", "recv 1", "close ok")
    if options.found_by == "nobody":
        client += ("recv cancelled",)
    elif options.found_by != "reconnect":
        client += ("send 7", "recv ECONNRESET", "send EPIPE", "recv EOF")
        packets += ["client PSH,ACK 7", "server RST"]
        resets.append(Rst("server", "TCP_FLAGS" if options.found_by == "restarted" else "NO_SOCKET"))
    if options.found_by != "nobody":
        counters["TcpEstabResets"] = 2
    return Promise(
        calls={"client": client, "server": server},
        packets=packets,
        resets=resets,
        counters=counters | {"TcpOutRsts": len(resets)},
        seconds=options.watch_seconds,
    )


def doing(options: HalfOpen) -> str:
    vanished, then = {
        "write": ("server", "and the client writes"),
        "restarted": ("server", "the server runs again, and the client writes"),
        "reconnect": ("client", "and the client connects again from the same port"),
        "nobody": ("server", f"and nobody writes for {options.watch_seconds:g} s"),
    }[options.found_by]
    return f"The {vanished}'s end vanishes without FIN or RST, {then}."


CAUSE = described(
    __name__,
    family="absent",
    summary="the peer vanished without a word: the next write is reset",
    story=(
        "A host that loses power sends neither FIN nor RST, so the other end stays ESTABLISHED (RFC 9293 section 3.5.1). "
        "Its next write succeeds, because send() only fills a buffer; the segment then meets a kernel that knows nothing "
        "of the connection and answers RST. While nobody writes nothing happens at all: TCP without keepalive does not "
        "look. A client that vanished and connects again from the same port meets its own old connection: the server "
        "answers the SYN with a challenge ACK (RFC 5961 section 4.2), the client's kernel resets that (RFC 9293 section "
        "3.10.7.3), and its repeated SYN connects."
    ),
    after_idle=True,
    variants=(
        {},
        {"found_by": "restarted"},
        {"found_by": "reconnect"},
        {"found_by": "nobody", "watch_seconds": 0.1},
        {"vanish_by": "deaf"},
        {"found_by": "restarted", "vanish_by": "deaf"},
        {"found_by": "reconnect", "vanish_by": "deaf"},
        {"found_by": "nobody", "vanish_by": "deaf", "watch_seconds": 0.1},
    ),
    served={"": Served(lambda conn: conn.vanish(), needs_repair=True)},
    lookalikes={
        "linger": "the RST comes by itself, before any write, with a window and options: a socket's abort",
        "keepalive-race": "the server closed: there is a FIN before the RST",
        "keepalive-timeout": "the peer stays away: ETIMEDOUT by the probes, no RST from it",
        "firewall-reset": "the same bare RST, but the server's OutRsts stands still and it knows the connection",
    },
    met=(
        "a server that lost power, was rebooted hard or whose virtual machine was replaced under the same address",
        "a failover of a virtual IP to a host that never had the connection",
        "pooled database connections after the database host crashed: the first query fails, not the connect",
        "thousands of ESTABLISHED sockets on a server whose clients are long gone",
    ),
    remedy=(
        "keepalive on both ends, or a heartbeat in the protocol: nothing else finds a peer that vanished while idle",
        "a pool tests a connection before it lends it out, or retries once what failed on its first use",
        "an accepted write proves nothing: wait for the peer's answer",
    ),
)
