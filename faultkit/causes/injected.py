# What is queued can still be read after the RST that kills; what is out of the window is neither answered nor counted. The
# kernel's own answers carry IP ID 0. Linux 6.18.
from __future__ import annotations

from dataclasses import dataclass

from faultkit.acting.dialogue import answer, ask, echo
from faultkit.cause import FORGED, Options, Play, Promise, Rst, Socket, described, option
from faultkit.evidence.transcript import Address
from faultkit.stage.forge import FAR, Forgery

OTHER = {"client": "server", "server": "client"}
# How far the forged number is from RCV.NXT. The windows of loopback are about 64 KiB and never scaled beyond 6 MB
# (net.ipv4.tcp_rmem).
OFFSETS = {"exact": 0, "in-window": 1, "out-of-window": -FAR}


@dataclass(frozen=True)
class Injected(Options):
    number: str = option("exact", "the sequence number of the forged RST", choices=tuple(OFFSETS))
    to: str = option("client", "who gets it, in the other's name", choices=("client", "server", "both"))
    ttl: int = option(47, "TTL or hop limit with which it arrives; the ends send 64", least=1, most=255)
    ip_id: int = option(4660, "its IP ID; IPv4 only", least=1, most=65535)

    @property
    def struck(self) -> tuple[str, ...]:
        return ("client", "server") if self.to == "both" else (self.to,)


async def fault(connection: Socket, play: Play) -> None:
    """The server's half: an answer, then what the middlebox leaves of the connection."""
    await answer(connection, b"hello")
    await play.cues["forged"].wait()
    if play.options.number == "exact":
        await find_out("server", connection, play)
    else:
        await echo(connection)


async def find_out(role: str, end: Socket, play: Play) -> None:
    """Be told, by the forged RST or by the answer to a write of one's own after the other has been told."""
    if role not in play.options.struck:
        await play.cues["told"].wait()
        await end.send(b"x")
    await end.recv(65536)
    await end.recv(65536)
    play.cues["told"].set()


async def script(play: Play) -> None:
    options = play.options
    client = await play.connect()
    await ask(client, b"hello")
    ends = {"client": client.address, "server": await play.cues.serving()}
    for victim in options.struck:
        await forge(play, ends[OTHER[victim]], ends[victim], f"RST to the {victim} in the {OTHER[victim]}'s name")
    play.cues["forged"].set()
    if options.number == "exact":
        await find_out("client", client, play)
        return
    await ask(client, b"alive")
    client.close()


async def forge(play: Play, source: Address, destination: Address, text: str) -> None:
    """Both ends have read all that was sent, so what the tap heard last tells RCV.NXT."""
    options, tap = play.options, play.scenery.tap()
    seq = tap.next_seq(source, destination) + OFFSETS[options.number]
    passed = play.scenery.forge(
        Forgery(source, destination, ("RST",), seq, window=0, ttl=options.ttl, ip_id=options.ip_id),
        f"{text}, sequence number {options.number}, TTL {options.ttl}",
    )
    if options.number == "in-window":
        await tap.hear(lambda p: (p.source, p.destination) == (destination, source), since=passed)


def promise(options: Injected, play: Play) -> Promise:
    hello = ("client SYN", "server SYN,ACK", "client PSH,ACK 5", "server PSH,ACK 5")
    forged = [OTHER[victim] for victim in options.struck]
    start = {"client": ("connect ok", "send 5", "recv 5"), "server": ("accept ok", "recv 5", "send 5")}
    if options.number != "exact":
        return Promise(
            calls={
                "client": (*start["client"], "send 5", "recv 5", "close ok"),
                "server": (*start["server"], "recv 5", "send 5", "recv EOF", "close ok"),
            },
            packets=(*hello, *(f"{by} RST" for by in forged), *hello[2:], "client FIN,ACK", "server FIN,ACK"),
            resets=tuple(Rst(by, FORGED) for by in forged),
            counters={"TcpExtTCPChallengeACK": len(forged) if options.number == "in-window" else 0},
        )
    told = ("recv ECONNRESET", "recv EOF")
    late = OTHER.get(options.to, "")  # who learns of it by its own next write
    # The server still listens on its port, so there the write meets the listener.
    reason = "NO_SOCKET" if options.to == "client" else "TCP_FLAGS"
    return Promise(
        calls={role: (*start[role], *(("send 1",) if role == late else ()), *told) for role in start},
        packets=(
            *hello,
            *(f"{by} RST" for by in forged),
            *((f"{late} PSH,ACK 1", f"{options.to} RST") if late else ()),
        ),
        resets=(*(Rst(by, FORGED) for by in forged), *((Rst(options.to, reason),) if late else ())),
        counters={"TcpEstabResets": 2, "TcpOutRsts": 1 if late else 0, "TcpExtTCPChallengeACK": 0},
    )


def doing(options: Injected) -> str:
    victim = options.to
    whom = "both ends, each in the other's name" if victim == "both" else f"the {victim} in the {OTHER[victim]}'s name"
    number = {"exact": "the exact", "in-window": "an inexact", "out-of-window": "an impossible"}[options.number]
    return f"Something in between sends a RST with {number} sequence number to {whom}."


CAUSE = described(
    __name__,
    family="middlebox",
    summary="a forged RST from in between, in the other end's name",
    seldom=True,
    overhears=True,
    story=(
        "A RST is believed by its sequence number alone. Exactly RCV.NXT ends the connection; any other number of the "
        "receive window is answered with a challenge ACK, which a true sender would answer with an exact RST and a forger "
        "never sees; beyond the window it is ignored (RFC 5961 section 3; tcp_validate_incoming()). Who merely guesses "
        "fails, who reads along does not. The end in whose name it came sent nothing: its OutRsts stands still, and TTL "
        "and IP ID are another machine's."
    ),
    variants=(
        *({}, {"to": "server"}, {"to": "both"}, {"number": "in-window"}, {"number": "in-window", "to": "both"}),
        *({"number": "out-of-window"}, {"number": "out-of-window", "to": "server"}),
    ),
    lookalikes={
        "linger": "a real RST: RST,ACK with a window, the sender's own TTL, and its OutRsts moves",
        "reject": "also nobody's OutRsts, but only in answer to a segment, and with the TTL of the firewall",
        "load-balancer-idle": "a reset to both ends too, but after an idle time that is the same every time",
    },
    met=(
        "national and campus filters that watch for names (TLS SNI, HTTP Host) and reset both ends at once",
        "intrusion prevention and parental control in the path; Comcast's resets of BitTorrent uploads (2007)",
        "tcpkill and tcp_killer-like tools on a router; ISP boxes that end idle or unwanted flows",
    ),
    remedy=(
        "capture at both ends at once: a RST that one end received and the other never sent was made in between",
        "compare the RST's TTL and IP ID with the same sender's other packets",
        "encrypt what it decides by (ECH, a VPN), or carry the session over QUIC, where a reset is authenticated",
    ),
)
