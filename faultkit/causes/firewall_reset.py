# With nf_conntrack_tcp_loose=1, the default, tcp_new() would make a new entry of the next segment, and nothing would fail. Where
# the server speaks first the client is reset after it has read the data, or the server is never acknowledged and runs into its
# timer.
# The rule spares RST. One that belongs to nothing is INVALID too, and on one host the rule would reject, that is drop,
# its own: then the client ends with ETIMEDOUT.
# An entry whose time has run out is gone for the next segment at once (nf_ct_is_expired()), collected or not.
from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from faultkit import sockets
from faultkit.acting.dialogue import FOUND_OUT, answer, ask, find_out
from faultkit.cause import FORGED, AtLeast, Options, Play, Promise, Rst, Socket, described, option
from faultkit.evidence import icmp, timers
from faultkit.evidence.transcript import Call
from faultkit.options import conntrack_timeout, firewall_tool, user_timeout
from faultkit.stage.firewall import REFUSALS

STEPS = (*REFUSALS, "drop")  # as recipes/stateful-firewall.md has them
IDLE = "idle time until the entry is gone"


@dataclass(frozen=True)
class FirewallReset(Options):
    answer: str = option("tcp-reset", "what the firewall answers to the next segment", choices=STEPS)
    forgets: str = option("flush", "how the firewall forgets the connection", choices=("flush", "timeout"))
    timeout_seconds: float = conntrack_timeout(1.0, ", with --forgets timeout; the kernel's own is 5 days")
    first: str = option("client", "who sends first after that", choices=("client", "server"))
    user_timeout_seconds: float = user_timeout(1.0, " of who is never acknowledged", least=500, most=3600000)
    tool: str = firewall_tool()


def _expiry(options: FirewallReset) -> str:
    return f"{options.first}'s TCP_USER_TIMEOUT"


async def fault(connection: Socket, play: Play) -> None:
    """One request and its answer; then, once forgotten, the first word or the last."""
    await answer(connection, b"world")
    if play.options.first == "client":
        await play.cues["told"].wait()
    else:
        if play.options.answer != "tcp-reset":
            sockets.user_timeout(connection, seconds=play.options.user_timeout_seconds)
        await play.cues["forgotten"].wait()
    sent = await connection.send(b"there?")
    told = await connection.recv(65536)
    if play.options.first == "server" and play.options.answer != "tcp-reset":
        _measure(play, sent, told)


async def script(play: Play) -> None:
    options: FirewallReset = play.options
    address = await play.cues.serving()
    await play.scenery.apply("stateful-firewall", STEPS.index(options.answer) + 1, port=address.port)
    play.scenery.forget_connections()  # of what an earlier play left
    play.scenery.sysctl("netfilter.nf_conntrack_tcp_loose", 0)
    if options.forgets == "timeout":
        play.scenery.sysctl("netfilter.nf_conntrack_tcp_timeout_established", int(options.timeout_seconds))
    client = play.socket("client")
    await client.connect(address)
    answered = await ask(client, b"hello")
    # Its acknowledgement goes out now. Delayed, it would be what the firewall refuses, up to 40 ms later.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    await _forget(play, answered)
    if options.first == "server":
        play.cues["forgotten"].set()
        await client.recv(65536)
        if options.answer == "tcp-reset":
            await find_out(client)
        return
    if options.answer == "tcp-reset":
        await client.send(b"hello")
        await find_out(client)
    else:
        sockets.user_timeout(client, seconds=options.user_timeout_seconds)
        sent = await client.send(b"hello")
        _measure(play, sent, await client.recv(65536))
    play.cues["told"].set()


async def _forget(play: Play, last: Call) -> None:
    """Flush the table, or let the entry's time run out."""
    if play.options.forgets == "flush":
        play.scenery.forget_connections()
        play.notes.step("firewall", "its table is flushed: conntrack -F")
        return
    await play.scenery.entry_runs_out("firewall", IDLE, last=last, seconds=play.options.timeout_seconds)


def _measure(play: Play, sent: Call, told: Call) -> None:
    predicted = timers.user_expiry(play.options.user_timeout_seconds)
    play.notes.measure(_expiry(play.options), predicted=predicted, began_ns=sent.began_ns, ended_ns=told.ended_ns)


def promise(options: FirewallReset, play: Play) -> Promise:
    ipv6 = play.stage.family == socket.AF_INET6
    client: tuple[str, ...] = ("connect ok", "send 5", "recv 5")
    server: tuple[str, ...] = ("accept ok", "recv 5", "send 5", "send 6")
    packets: tuple[str, ...] = ("client SYN", "server SYN,ACK", "client PSH,ACK 5", "server PSH,ACK 5")
    idle = (IDLE,) if options.forgets == "timeout" else ()
    seconds = options.timeout_seconds if idle else 0.1
    late = ("server PSH,ACK 6", "client RST")  # the half-open server's write
    first = options.first == "client"
    if options.answer == "tcp-reset":
        forged = ("client PSH,ACK 5", "server RST", *late) if first else (late[0], "server RST", late[1])
        return Promise(
            calls={
                "client": (*client, "send 5" if first else "recv 6", *FOUND_OUT),
                "server": (*server, "recv ECONNRESET"),
            },
            packets=packets + forged,
            resets=(Rst("server", FORGED), Rst("client", "NO_SOCKET")),
            counters={"TcpOutRsts": 1, "TcpEstabResets": 2},
            measurements=idle,
            seconds=seconds,
        )
    heard = {icmp.counter(ipv6=ipv6): AtLeast(1)} if options.answer != "drop" else {}
    common: dict[str, Any] = {
        "measurements": (*idle, _expiry(options)),
        "seconds": seconds + timers.user_expiry(options.user_timeout_seconds),
    }
    if not first:
        return Promise(
            calls={"client": (*client, "recv 6"), "server": (*server, "recv ETIMEDOUT")},
            packets=(*packets, late[0]),
            counters={"TcpExtTCPAbortOnTimeout": 1, "TcpEstabResets": 1, **heard},
            **common,
        )
    told = icmp.errno_name(options.answer, ipv6=ipv6) if heard else "ETIMEDOUT"
    return Promise(
        calls={"client": (*client, "send 5", f"recv {told}"), "server": (*server, "recv ECONNRESET")},
        packets=(*packets, "client PSH,ACK 5", *late),
        resets=(Rst("client", "NO_SOCKET"),),
        counters={"TcpExtTCPAbortOnTimeout": 1, "TcpOutRsts": 1, "TcpEstabResets": 2, **heard},
        **common,
    )


def doing(options: FirewallReset) -> str:
    how = (
        "forgets the connection"
        if options.forgets == "flush"
        else f"forgets it after {options.timeout_seconds:g} s idle"
    )
    answer = "drops" if options.answer == "drop" else f"answers with {options.answer}"
    return f"A stateful firewall {how}; the {options.first} sends first, and the firewall {answer}."


CAUSE = described(
    __name__,
    family="middlebox",
    summary="a stateful firewall forgot the flow: RST, ICMP or silence",
    story=(
        "The firewall's entry for the connection is gone, so the next segment is INVALID to it and is refused "
        "(nf_conntrack_proto_tcp.c, tcp_new(); nf_conntrack_tcp_loose=0). A RST comes in the server's name, at once, and "
        "no kernel's OutRsts counts it: recv ECONNRESET on the first request after a pause. An ICMP error is noted until "
        "retransmission gives up, and then stands where ETIMEDOUT would; a drop is ETIMEDOUT. The server is told nothing: "
        "half-open, it learns at its next write, from the client's kernel. A server that speaks first delivers its data, "
        "and the client's acknowledgement is what is refused."
    ),
    variants=(
        {},
        *({"answer": answer, "user_timeout_seconds": 0.5} for answer in STEPS[1:]),
        {"forgets": "timeout"},
        {"first": "server"},
        {"first": "server", "answer": "drop", "user_timeout_seconds": 0.5},
        {"tool": "nft"},
    ),
    after_idle=True,
    lookalikes={
        "keepalive-race": "the same ECONNRESET after a pause, but there the server's own OutRsts counts the RST",
        "half-open": "the server's host sent the RST itself: OutRsts moves there, and it holds no such socket",
        "idle-firewall": "every segment is dropped both ways; here the server can still be heard",
        "reject": "refuses from the first segment on; here all is well until the connection was idle",
    },
    met=(
        "the first query after lunch: a database connection pool behind a firewall with a 60-minute idle timeout",
        "conntrack -F, a firewall's failover without state synchronisation, or a full table (nf_conntrack: table full)",
        "Kubernetes: kube-proxy or a CNI drops or resets INVALID packets of long idle pod connections",
    ),
    remedy=(
        "TCP keepalive with an idle time below the firewall's timeout: a probe is a segment and renews the entry",
        "pools: give a connection up before the firewall does (maxLifetime, idleTimeout), and validate it before use",
        "nf_conntrack_tcp_loose=1 where the firewall is yours: it then takes up a living connection from its middle",
    ),
)
