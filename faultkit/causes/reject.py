# The errno tells the answer, not the truth: nothing was asked of the server's host (iptables-extensions(8); nf_reject_ipv4.c).
# A non-blocking connect() over IPv4 is told of an ICMP error at once, though it held the socket when that came: the error is on
# the socket's error queue, poll() says POLLERR, SO_ERROR takes what was noted (sk_err_soft); the socket itself stays in SYN-SENT.
# Measured on Linux 6.18: ICMPv6 "administratively prohibited" is EACCES, where ICMP's is EHOSTUNREACH.
from __future__ import annotations

import socket
from dataclasses import dataclass

from faultkit import sockets
from faultkit.acting.dialogue import FOUND_OUT, answer, find_out
from faultkit.cause import FORGED, AtLeast, Misuse, Options, Play, Promise, Rst, Socket, described, option
from faultkit.evidence import icmp, timers
from faultkit.options import firewall_tool, user_timeout
from faultkit.stage.firewall import REFUSALS

EXPIRY = "client's TCP_USER_TIMEOUT"


@dataclass(frozen=True)
class Reject(Options):
    answer: str = option("tcp-reset", "what the firewall answers", choices=REFUSALS)
    at: str = option("connect", "what it refuses", choices=("connect", "established"))
    recverr: bool = option(False, "set IP_RECVERR on the client's socket, with --at established and an ICMP answer")
    user_timeout_seconds: float = user_timeout(1.0, " of the client, with --at established", least=500, most=3600000)
    tool: str = firewall_tool()

    def check(self) -> None:
        if self.recverr and (self.at != "established" or self.answer == "tcp-reset"):
            raise Misuse(
                "--recverr changes nothing here: it is about an ICMP answer on an established connection, so add "
                "--at established and an --answer other than tcp-reset"
            )


async def _wall(play: Play) -> None:
    address = await play.cues.serving()
    await play.scenery.apply("reject", REFUSALS.index(play.options.answer) + 1, port=address.port)


async def server(play: Play) -> None:
    listener = play.listen()
    if play.options.at == "connect":
        return  # nothing ever reaches it
    await fault(await play.accept(listener), play)


async def fault(connection: Socket, play: Play) -> None:
    """Established: left half-open by the client's end, it learns at its next write. With IP_RECVERR both live on."""
    play.cues["accepted"].set()
    if play.options.recverr:
        await answer(connection, b"alive")
        return
    await play.cues["told"].wait()
    await connection.send(b"there?")
    await connection.recv(65536)


async def script(play: Play) -> None:
    client = play.socket("client")
    address = await play.cues.serving()
    if play.options.at == "connect":
        await _wall(play)
        await client.connect(address)
        return
    await client.connect(address)
    await play.cues["accepted"].wait()
    await _wall(play)
    if play.options.answer == "tcp-reset":
        await client.send(b"hello")
        await find_out(client)
    elif play.options.recverr:
        await _live_on(client, play)
    else:
        sockets.user_timeout(client, seconds=play.options.user_timeout_seconds)
        ends = timers.user_expiry(play.options.user_timeout_seconds)
        play.notes.expect("TCP_USER_TIMEOUT", ends=ends)
        sent = await client.send(b"hello")
        told = await client.recv(65536)
        play.notes.measure(EXPIRY, predicted=ends, began_ns=sent.began_ns, ended_ns=told.ended_ns)
    play.cues["told"].set()


async def _live_on(client: Socket, play: Play) -> None:
    """One call fails; the firewall opens, and the next retransmission gets through."""
    sockets.hear_icmp(client)
    await client.send(b"hello")
    await client.recv(65536)
    await play.scenery.lift()
    while not (await client.recv(65536)).data:
        pass  # another retransmission was refused before the rule was out


def promise(options: Reject, play: Play) -> Promise:
    ipv6 = play.stage.family == socket.AF_INET6
    told = "" if options.answer == "tcp-reset" else icmp.errno_name(options.answer, ipv6=ipv6)
    heard = {icmp.counter(ipv6=ipv6): AtLeast(1)} if told else {}
    if options.at == "connect":
        reset = () if told else ("server RST,ACK",)
        return Promise(
            calls={"client": (f"connect {told or 'ECONNREFUSED'}",), "server": ()},
            packets=("client SYN", *reset),
            resets=() if told else (Rst("server", FORGED),),
            # Noted only, over IPv4: see above. AttemptFails counts where the error came when connect() had let go already.
            counters={"TcpAttemptFails": AtLeast(0) if told and not ipv6 else 1, **heard},
            seconds=1.1 if told else 0.1,
        )
    opening = ("client SYN", "server SYN,ACK", "client PSH,ACK 5")
    if options.recverr:
        return Promise(
            calls={
                "client": ("connect ok", "send 5", f"recv {told} +", "recv 5"),
                "server": ("accept ok", "recv 5", "send 5"),
            },
            packets=(*opening, "server PSH,ACK 5"),
            counters={"TcpRetransSegs": AtLeast(1), **heard},
            seconds=0.5,
        )
    server = ("accept ok", "send 6", "recv ECONNRESET")
    if not told:
        return Promise(
            calls={"client": ("connect ok", "send 5", *FOUND_OUT), "server": server},
            packets=(*opening, "server RST", "server PSH,ACK 6", "client RST"),
            resets=(Rst("server", FORGED), Rst("client", "NO_SOCKET")),
            counters={"TcpOutRsts": 1, "TcpEstabResets": 2},
        )
    return Promise(
        calls={"client": ("connect ok", "send 5", f"recv {told}"), "server": server},
        packets=(*opening, "server PSH,ACK 6", "client RST"),
        resets=(Rst("client", "NO_SOCKET"),),
        counters={"TcpExtTCPAbortOnTimeout": 1, "TcpOutRsts": 1, "TcpEstabResets": 2, **heard},
        measurements=(EXPIRY,),
        seconds=options.user_timeout_seconds,
    )


def doing(options: Reject) -> str:
    if options.at == "connect":
        return f"A firewall rejects the client's SYN with {options.answer}."
    end = "; the client asked for ICMP errors, and the firewall then opens" if options.recverr else ""
    return f"A firewall rejects a segment of an established connection with {options.answer}{end}."


CAUSE = described(
    __name__,
    family="middlebox",
    summary="a firewall refuses with a RST or an ICMP error",
    story=(
        "A REJECT rule answers in the name of a host that never saw the segment. At connect() a RST gives ECONNREFUSED; "
        "an ICMP error gives ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, over IPv6 also EACCES (tcp_v4_err(), "
        "icmp_err_convert[]). On an established connection a RST kills at once, while an ICMP error is advice and may "
        "not abort (RFC 1122 section 4.2.3.9, RFC 5461): it is noted, and told in place of ETIMEDOUT when "
        "retransmission gives up (tcp_write_err()), or to one call at once where the socket has IP_RECVERR. The server "
        "is left half-open and learns at its next write. On loopback the first ICMP error arrives while connect() holds "
        "the socket (LockDroppedIcmps): a blocking connect(), and any over IPv6, then takes 1 s, until its second SYN."
    ),
    variants=(
        {},
        *({"answer": answer} for answer in REFUSALS[1:]),
        {"at": "established"},
        *({"answer": answer, "at": "established", "user_timeout_seconds": 0.5} for answer in icmp.ANSWERS),
        {"answer": "host-unreachable", "at": "established", "recverr": True},
        {"tool": "nft"},
        {"tool": "nft", "answer": "net-unreachable", "at": "established", "recverr": True},
    ),
    lookalikes={
        "closed-port": "the same errno and packets, but the server's own OutRsts counts the RST",
        "connect-timeout": "nobody answers: connect() waits for minutes and ends in ETIMEDOUT",
        "firewall-reset": "the same reset, but only after an idle time: the rule knows the connection's state",
    },
    met=(
        'firewalld and ufw reject by default: "No route to host" (EHOSTUNREACH) from a host that answers ping',
        "kube-proxy rejects what goes to a Service without endpoints: ECONNREFUSED although every pod is fine",
        "a corporate proxy or a cloud host's own rules: 'Network is unreachable' to one port, and not to another",
    ),
    remedy=(
        "EHOSTUNREACH or ENETUNREACH to a host that pings is a rule: nft list ruleset, iptables -S on each hop",
        "tcpdump 'icmp[0] == 3 or (icmp6 and ip6[40] == 1)' names who answered: the source of the ICMP error",
        "reject new connections with tcp-reset, so that clients fail at once; for established ones set TCP_USER_TIMEOUT",
    ),
)
