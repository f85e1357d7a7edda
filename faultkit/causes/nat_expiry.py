# RFC 5382 (REQ-5) asks a NAT for 2 h 4 min; mobile networks often take minutes, some 30 s. The server's push meets a kernel that
# has no such socket: RST (NO_SOCKET). The client's write, mapped anew from the middle of the connection
# (nf_conntrack_tcp_loose=1), meets a server that has given up and only listens: RST, reason TCP_FLAGS.
# Three hosts, each with a TCP of its own: the router is the stage, client and server are joined to it by veth pairs. Both
# cables are captured, so what passes the router is seen twice, before and after its address is changed.
from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.dialogue import answer, ask
from faultkit.acting.heartbeat import SPAN, beat, beats, check_beats
from faultkit.cause import AtLeast, Misuse, Options, Play, Promise, Rst, Socket, described, option
from faultkit.evidence import timers
from faultkit.evidence.transcript import Address
from faultkit.options import conntrack_timeout, duration, firewall_tool, user_timeout

IDLE = "idle time until the mapping is gone"
EXPIRY = "server's TCP_USER_TIMEOUT"


@dataclass(frozen=True, slots=True)
class Net:
    """The addresses: shared space inside (RFC 6598), documentation prefixes outside (RFC 5737, RFC 3849)."""

    inside: str
    client: str
    outside: str
    server: str
    length: int


NETS = {
    int(socket.AF_INET): Net("100.64.0.1", "100.64.0.2", "198.51.100.1", "198.51.100.2", 24),
    int(socket.AF_INET6): Net("fd64::1", "fd64::2", "2001:db8::1", "2001:db8::2", 64),
}


@dataclass(frozen=True)
class NatExpiry(Options):
    timeout_seconds: float = conntrack_timeout(1.0, ": how long an idle mapping lasts")
    answer: str = option(
        "reset", "what the router does with a push for a mapping that is gone", choices=("reset", "drop")
    )
    renewed_by: str = option(
        "none",
        "the remedy: a message of the client, or TCP keepalive of its kernel (each second), shorter than the timeout",
        choices=("none", "message", "tcp-keepalive"),
    )
    heartbeat_seconds: float = duration(
        0.4, "time between messages, with --renewed-by message", least=10, most=432000000
    )
    user_timeout_seconds: float = user_timeout(1.0, " of the server, with --answer drop", least=500, most=3600000)
    tool: str = firewall_tool()

    def check(self) -> None:
        limit = f"--timeout {self.timeout_seconds * 1000:g}"
        if self.renewed_by == "message":
            check_beats(every=self.heartbeat_seconds, timeout=self.timeout_seconds)
        if self.renewed_by == "tcp-keepalive" and self.timeout_seconds < 2:
            raise Misuse(f"--renewed-by tcp-keepalive sends a probe each second and {limit} is no longer: take 2000")

    @property
    def beats(self) -> int:
        """Messages sent to keep the mapping."""
        return beats(
            every=self.heartbeat_seconds if self.renewed_by == "message" else None, timeout=self.timeout_seconds
        )


def _port() -> int:
    """The server's host is ours alone, but the trace of resets is the machine's: so no two processes take the same one."""
    return 1024 + os.getpid() % 64000


def _net(play: Play) -> Net:
    return NETS[play.stage.family]


async def prepare(play: Play) -> None:
    """The three hosts, and the router's rules."""
    net = _net(play)
    play.scenery.sysctl("ipv6.conf.all.forwarding" if play.stage.family == socket.AF_INET6 else "ipv4.ip_forward", 1)
    play.scenery.neighbour("client", here=f"{net.inside}/{net.length}", there=f"{net.client}/{net.length}")
    play.scenery.neighbour("server", here=f"{net.outside}/{net.length}", there=f"{net.server}/{net.length}")
    place = {"interface": "server", "address": net.outside}
    for step in (1, 2) if play.options.answer == "drop" else (1,):
        await play.scenery.apply("nat-expiry", step, port=_port(), **place)
    play.scenery.forget_connections()  # of what an earlier play left
    play.scenery.sysctl("netfilter.nf_conntrack_tcp_timeout_established", int(play.options.timeout_seconds))


def _socket_of(role: str, play: Play) -> Socket:
    """A socket in that host's own namespace."""
    with next(neighbour for neighbour in play.scenery.neighbours if neighbour.name == role).entered():
        return play.socket(role)


async def server(play: Play) -> None:
    listener = _socket_of("server", play)
    listener.bind(Address(_net(play).server, _port()))
    listener.listen()
    play.cues["listening"].set()
    await fault(await play.accept(listener), play)


async def fault(connection: Socket, play: Play) -> None:
    """Answer, then push when the mapping's time is over."""
    for _ in range(1 + play.options.beats):
        await answer(connection, b"world")
    if play.options.answer == "drop":
        sockets.user_timeout(connection, seconds=play.options.user_timeout_seconds)
    await play.cues["over"].wait()
    sent = await connection.send(b"push")
    if play.options.renewed_by != "none":
        return
    told = await connection.recv(65536)
    if play.options.answer == "drop":
        predicted = timers.user_expiry(play.options.user_timeout_seconds)
        play.notes.measure(EXPIRY, predicted=predicted, began_ns=sent.began_ns, ended_ns=told.ended_ns)
    play.cues["told"].set()


async def script(play: Play) -> None:
    options: NatExpiry = play.options
    await play.cues["listening"].wait()
    client = _socket_of("client", play)
    if options.renewed_by == "tcp-keepalive":
        sockets.keepalive(client, idle_seconds=1, interval_seconds=1)
    await client.connect(Address(_net(play).server, _port()))
    # Masquerading keeps the port where it is free, and here it is.
    play.transcript.roles[Address(_net(play).outside, client.address.port)] = "router"
    answered = await ask(client, b"hello")
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # the mapping's time counts from the last segment
    if options.renewed_by != "none":
        await _outlive(client, play)
        return
    await play.scenery.entry_runs_out("router", IDLE, last=answered, seconds=options.timeout_seconds)
    play.cues["over"].set()
    await play.cues["told"].wait()
    play.notes.step("client", f"was told nothing: its end is {sockets.state(client.raw)}, and the push is lost")
    await ask(client, b"hello")


async def _outlive(client: Socket, play: Play) -> None:
    """Several timeouts long the mapping is renewed; then the push arrives."""
    options: NatExpiry = play.options
    if options.renewed_by == "message":
        await beat(client, b"hello", play, every=options.heartbeat_seconds, timeout=options.timeout_seconds)
    else:
        play.notes.expect("the heartbeat has outlived the timeout", ends=SPAN * options.timeout_seconds)
        await trio.sleep(SPAN * options.timeout_seconds)
    play.cues["over"].set()
    await client.recv(65536)


def promise(options: NatExpiry, play: Play) -> Promise:
    asked = 1 + options.beats
    client: tuple[str, ...] = ("connect ok", *("send 5", "recv 5") * asked)
    server: tuple[str, ...] = ("accept ok", *("recv 5", "send 5") * asked, "send 4")
    # Each twice: on the inner cable and on the outer.
    packets: tuple[str, ...] = (
        *("client SYN", "router SYN", "server SYN,ACK", "server SYN,ACK"),
        *("client PSH,ACK 5", "router PSH,ACK 5", "server PSH,ACK 5", "server PSH,ACK 5") * asked,
        "server PSH,ACK 4",
    )
    if options.renewed_by != "none":
        return Promise(
            calls={"client": (*client, "recv 4"), "server": server},
            packets=(*packets, "server PSH,ACK 4"),
            counters={"TcpExtTCPKeepAlive": AtLeast(2)} if options.renewed_by == "tcp-keepalive" else {},
            seconds=SPAN * options.timeout_seconds,
        )
    reset = options.answer == "reset"
    timer = {} if reset else {"TcpExtTCPAbortOnTimeout": 1}
    return Promise(
        calls={
            "client": (*client, "send 5", "recv ECONNRESET"),
            "server": (*server, "recv ECONNRESET" if reset else "recv ETIMEDOUT"),
        },
        packets=(
            *packets,
            *(("router RST",) if reset else ()),
            *("client PSH,ACK 5", "router PSH,ACK 5", "server RST", "server RST"),
        ),
        # The server's own passes the router, so it is captured twice.
        resets=(*((Rst("router", "NO_SOCKET"),) if reset else ()), Rst("server", "TCP_FLAGS", " +")),
        counters={"TcpOutRsts": 2 if reset else 1, "TcpEstabResets": 2, **timer},
        measurements=(IDLE,) if reset else (IDLE, EXPIRY),
        seconds=options.timeout_seconds + (0 if reset else timers.user_expiry(options.user_timeout_seconds)),
    )


def doing(options: NatExpiry) -> str:
    after = {
        "none": f", then {options.answer}s what the server pushes",
        "message": f", and a message every {options.heartbeat_seconds * 1000:g} ms renews it",
        "tcp-keepalive": ", and TCP keepalive each second renews it",
    }[options.renewed_by]
    return f"A NAT router forgets a mapping that is idle for {options.timeout_seconds:g} s{after}."


CAUSE = described(
    __name__,
    family="middlebox",
    summary="a NAT mapping expires: the server's push is lost or reset",
    story=(
        "The client sits behind a router that lends its connection one of its own ports, and takes it back when the "
        "connection is idle (RFC 5382 REQ-5; nf_conntrack_tcp_timeout_established). The server's next push is then "
        "addressed to nobody but the router: answered with RST, or dropped. The server learns, sooner or later; the "
        "client, who only waits, never does. When it writes at last, the router maps it anew in the middle of the "
        "connection, and the server's host, which has given up, answers RST. What any segment renews, a heartbeat keeps."
    ),
    variants=(
        *({}, {"answer": "drop"}, {"renewed_by": "message"}),
        *({"renewed_by": "tcp-keepalive", "timeout_seconds": 2.0}, {"tool": "nft"}),
    ),
    after_idle=True,
    lookalikes={
        "load-balancer-idle": "a proxy has a connection of its own to each side, and TCP keepalive does not help",
        "firewall-reset": "no address is changed, and the RST is forged: nobody's OutRsts counts it",
        "half-open": "the client's host is gone; here it is there, and its socket still ESTABLISHED",
    },
    met=(
        "push notifications, MQTT and chat on mobile networks: late, all at once, when the phone next speaks",
        "SSH through a home router: frozen after a pause, then 'Connection reset by peer' or 'Broken pipe'",
        "cloud NAT gateways: AWS forgets after 350 s idle, Google Cloud NAT after 20 min, Azure NAT Gateway after 4 min",
    ),
    remedy=(
        "a heartbeat from the client, shorter than the shortest mapping on the way: MQTT keep alive, SSH ServerAliveInterval",
        "TCP keepalive does as well here, with TCP_KEEPIDLE below the timeout: its probes are segments like others",
        "servers: TCP_USER_TIMEOUT, so that a lost push is known in seconds, and sent again when the client is back",
    ),
)
