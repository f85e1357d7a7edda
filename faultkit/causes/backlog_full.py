# What the connection for which there is no place ends by, the queue being full (sk_acceptq_is_full()), Linux 6.18:
#   syn-retries  a SYN is dropped; the client repeats it until connect() gives ETIMEDOUT
#   expiry       the SYN still found a place, the last ACK does not. What the client sends is dropped, until the server's kernel
#                forgets its half (tcp_synack_retries, 63 s by default): then the next retransmission meets LISTEN, RST, reason
#                TCP_FLAGS
#   accept       the same, and the server accepts in time: the next retransmission gets in, nothing dies
#   abort        the same with tcp_abort_on_overflow: RST at once, reason INVALID_SYN
# Between SYN and last ACK a connection must take the last place; that is a race in life (blocking connect() gives 0 or
# ECONNRESET by chance), and made an event here: TCP_DEFER_ACCEPT lets the server's kernel wait for the ACK that carries data.
from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.dialogue import answer
from faultkit.acting.handshake import connect_in_vain
from faultkit.cause import AtLeast, Options, Play, Promise, Rst, Served, Socket, Trigger, described, option
from faultkit.errors import Misuse, Unable
from faultkit.evidence import timers
from faultkit.options import syn_retries
from faultkit.stage import Stage, sysctl

RETRIES = "client's SYN retries"
EXPIRY = "the server's half of the handshake expires"


@dataclass(frozen=True)
class BacklogFull(Options):
    ended_by: str = option(
        "syn-retries",
        "what the connection for which there is no place ends by",
        choices=("syn-retries", "expiry", "accept", "abort"),
    )
    # From 2 on, because the kernel answers with SYN cookies where as many handshakes are unfinished as the backlog says.
    backlog: int = option(2, "the backlog given to listen(): one more connection fits", least=2, most=4096)
    syn_retries: int = syn_retries(
        " (the kernel's default is 6), or of the server (5)", only_with=("ended_by", "syn-retries", "expiry")
    )


def expected(options: BacklogFull) -> tuple[str, timers.Expiry]:
    """What is measured, and how many seconds after the connection began it is due."""
    if options.ended_by == "syn-retries":
        return RETRIES, timers.exactly(sysctl.syns(options.syn_retries)[-1])
    # What was forgotten is noticed at the next retransmission of the request, which was sent when the handshake was done.
    forgotten = timers.syn_expiry(options.syn_retries, 0)
    return EXPIRY, timers.Expiry(timers.next_try(forgotten), timers.next_try(forgotten * 1.125))


async def prepare(play: Play) -> None:
    granted = backlog(play.stage, play.options.backlog)
    if play.options.backlog > granted:
        raise Misuse(
            f"backlog-full: --backlog {play.options.backlog} is cut to {granted} by net.core.somaxconn: take less"
        )
    if play.options.ended_by == "abort":
        if play.stage.namespace is None:
            raise Unable(
                "backlog-full: net.ipv4.tcp_abort_on_overflow is set inside a private namespace only: leave --on host out"
            )
        play.scenery.sysctl("ipv4.tcp_abort_on_overflow", 1)


def backlog(stage: Stage, wanted: int) -> int:
    """What listen() makes of that backlog: tcp_get_info() gives a listener's limit in tcpi_sacked.

    net.core.somaxconn cuts it, which a process inside a user namespace cannot read before Linux 6.3.
    """
    with socket.socket(stage.family, socket.SOCK_STREAM) as probe:
        probe.bind((stage.host, 0))
        probe.listen(wanted)
        return _info(probe, at=28)


def held(options: BacklogFull) -> bool:
    """Is the handshake held open until the queue is full?"""
    return options.ended_by != "syn-retries"


async def server(play: Play) -> None:
    options: BacklogFull = play.options
    listener = play.listen(backlog=options.backlog)
    if held(options):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    if options.ended_by == "expiry":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, options.syn_retries)
    await play.cues["filled"].wait()
    # The kernel has an event for the first connection in the queue, none for the last.
    while queued(listener) <= options.backlog:  # noqa: ASYNC110
        await trio.sleep(0.001)
    play.notes.step("server", f"accept queue full: {queued(listener)} connections, backlog {options.backlog} (ss -ltn)")
    play.cues["full"].set()
    if options.ended_by == "accept":
        await play.cues["dropped"].wait()
        play.notes.step("server", "accepts at last")
        for _ in range(options.backlog + 1):
            await listener.accept()
        last = await listener.accept()
        assert last is not None
        await fault(last, play)


def queued(listener: Socket) -> int:
    """Connections in the accept queue: tcp_get_info() gives a listener's in tcpi_unacked."""
    return _info(listener.raw, at=24)


def _info(listener: socket.socket, *, at: int) -> int:
    """A number of struct tcp_info (include/uapi/linux/tcp.h), by its offset in bytes."""
    return int(struct.unpack_from("=I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, at + 4), at)[0])


async def fault(connection: Socket, play: Play) -> None:
    """The connection that got in late is a connection like any other."""
    await answer(connection, b"answer")


async def _fill(play: Play) -> None:
    """Other clients take every place in the queue."""
    address = await play.cues.serving()
    for _ in range(play.options.backlog + 1):
        other = play.socket("client")
        await other.connect(address)
        if held(play.options):
            await other.send(b"x")
    play.cues["filled"].set()
    await play.cues["full"].wait()


async def script(play: Play) -> None:
    options: BacklogFull = play.options
    address = await play.cues.serving()
    client = play.socket("client")
    name, due = expected(options)
    if not held(options):
        await _fill(play)
        await connect_in_vain(client, address, play, name, retries=options.syn_retries)
        return
    began = await client.connect(address)
    await _fill(play)
    play.notes.step("client", f"its socket is {sockets.state(client.raw)}; the server has none for it")
    await client.send(b"request")
    play.cues["dropped"].set()
    if options.ended_by == "expiry":
        repeats = timers.tries_before(due.earliest)
        play.notes.expect("RST", tick="retransmission", ticks=repeats, ends=due.earliest)
    told = await client.recv(65536)
    if options.ended_by == "expiry":
        play.notes.measure(name, predicted=due, began_ns=began.ended_ns, ended_ns=told.ended_ns)
    if options.ended_by != "accept":
        await client.send(b"request")


def promise(options: BacklogFull, play: Play) -> Promise:
    others = options.backlog + 1
    handshake = ("client SYN", "server SYN,ACK")
    name, due = expected(options)
    if not held(options):
        syns = len(sysctl.syns(options.syn_retries))
        return Promise(
            calls={"client": ("connect ok",) * others + ("connect ETIMEDOUT",), "server": ()},
            packets=handshake * others + ("client SYN",),
            counters={
                "TcpExtListenOverflows": syns,
                "TcpExtListenDrops": syns,
                "TcpExtTCPSynRetrans": syns - 1,
                "TcpExtTCPAbortOnTimeout": 1,
                "TcpAttemptFails": 1,
            },
            measurements=(name,),
            seconds=due.latest,
        )
    calls = ("connect ok", *("connect ok", "send 1") * others, "send 7")
    packets = (*handshake, *(*handshake, "client PSH,ACK 1") * others, "client PSH,ACK 7")
    overflows: dict[str, int | AtLeast] = {"TcpExtListenOverflows": AtLeast(1), "TcpExtListenDrops": AtLeast(1)}
    if options.ended_by == "accept":
        return Promise(
            calls={"client": (*calls, "recv 6"), "server": (*("accept ok",) * (others + 1), "recv 7", "send 6")},
            packets=(*packets, "server PSH,ACK 6"),
            counters=overflows,
        )
    expired = options.ended_by == "expiry"
    return Promise(
        calls={"client": (*calls, "recv ECONNRESET", "send EPIPE"), "server": ()},
        packets=(*packets, "server RST"),
        resets=(Rst("server", "TCP_FLAGS" if expired else "INVALID_SYN"),),
        counters={**overflows, "TcpExtEmbryonicRsts": 0 if expired else 1, "TcpEstabResets": 1, "TcpOutRsts": 1},
        measurements=(name,) if expired else (),
        seconds=due.latest if expired else 5.0,
    )


def doing(options: BacklogFull) -> str:
    homeless = "the client that it has no place for"
    what = {
        "syn-retries": "and a client connects: its SYNs are dropped",
        "expiry": f"and {homeless} believes itself connected, until the server forgets",
        "accept": f"and {homeless} believes itself connected; then the server accepts",
        "abort": f"tcp_abort_on_overflow is 1, and {homeless} is reset",
    }
    return f"The server does not accept, its queue of {options.backlog} + 1 is full, {what[options.ended_by]}."


CAUSE = described(
    __name__,
    family="absent",
    summary="the accept queue is full: connect() hangs, or lies",
    story=(
        "The kernel finishes handshakes before the program calls accept(), and queues them: backlog + 1 connections "
        "(listen(2)). With the queue full it drops SYNs (tcp_conn_request()), so connect() hangs and ends in ETIMEDOUT. "
        "A handshake that began before is worse: its last ACK is dropped as well (tcp_check_req()), so the client is "
        "ESTABLISHED and the server is not. The client's request is retransmitted in vain until the server accepts, or "
        "until its kernel forgets (tcp_synack_retries) and answers RST. tcp_abort_on_overflow makes that RST immediate."
    ),
    variants=({}, {"ended_by": "abort"}, {"ended_by": "accept"}, {"ended_by": "expiry"}),
    served={"": Served(door=lambda door: door.fill(), when=Trigger("listen"), hangs=True)},
    lookalikes={
        "connect-timeout": "the SYN never arrives: the server's ListenOverflows and ListenDrops stand still",
        "closed-port": "connect() fails at once with ECONNREFUSED: nobody listens",
        "retransmit-timeout": "the server's kernel knows the connection (ss -tn there), or its host is gone",
        "half-open": "the server had accepted the connection and answered on it before",
    },
    met=(
        "an event loop that is blocked or a worker pool that is busy: nobody calls accept() for seconds",
        "net.core.somaxconn = 128 before Linux 5.4, or a small backlog given by the program, under a burst of connects",
        "connects that take just over 1 s, 3 s or 7 s: the first SYN was dropped, a later one got in",
        "nginx or HAProxy: `upstream timed out (110) while connecting` at load, with the upstream's CPU idle",
    ),
    remedy=(
        "nstat -az TcpExtListenOverflows on the server; ss -ltn: Recv-Q is the queue, Send-Q the backlog",
        "accept faster (more workers, no blocking call in the accepting thread); then a larger backlog and net.core.somaxconn",
        "leave tcp_abort_on_overflow at 0 unless clients retry: a burst that passes is healed by the next SYN",
    ),
)
