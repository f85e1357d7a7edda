# A segment that fits nowhere: what TCP does with it depends on the state that it meets (RFC 9293 section 3.10.7, RFC 5961).
# Before a connection is established Linux answers with a RST, and each has a reason of its own; afterwards it sends a
# challenge ACK or nothing at all, and the connection lives. None of them kills a connection, on Linux 5.10 to 7.3.
#   SYN-SENT     SYN,ACK that echoes an impossible timestamp    RST  TCP_RFC7323_PAWS     (tcp_rcv_synsent_state_process())
#   SYN-RECEIVED ACK below / above what was sent                RST  TCP_TOO_OLD_ACK, TCP_ACK_UNSENT_DATA (tcp_ack())
#   SYN-RECEIVED another SYN in the window                      RST  INVALID_SYN          (tcp_check_req())
#   LISTEN       an ACK                                         RST  TCP_FLAGS            (tcp_rcv_state_process())
#   ESTABLISHED  ACK below what was sent, or a SYN              challenge ACK (RFC 5961 sections 4 and 5)
#   ESTABLISHED  ACK above what was sent                        challenge ACK, or nothing, by kernel: docs/kernels.md
#   ESTABLISHED  timestamp too old (PAWS), or beyond the window duplicate ACK (RFC 7323 section 5.3, tcp_send_dupack())
#   ESTABLISHED  no flags at all                                nothing
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from faultkit import sockets
from faultkit.cause import Options, Play, Promise, Rst, Socket, described, option
from faultkit.evidence.transcript import Address, Packet
from faultkit.stage.forge import Forgery
from faultkit.witness import kernel

FAR = 1 << 30  # farther than any window, and less than half of the circle of sequence numbers
NEAR = 100  # within any window
ISN = 1000  # arbitrary: where the forged end of a handshake begins
HELLO, BAD = b"hello", b"bad !"  # as long as each other, so that whoever took the one would miss the other


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad segment: the state that it meets, what it is, and what the kernel makes of it."""

    state: str
    what: str
    flags: tuple[str, ...]
    fate: str
    reason: str = ""
    seq: int = 0  # from what would be right
    ack: int = 0
    stamp: int = 0
    echo: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)


SEGMENTS: dict[str, Bad] = {
    "ack-to-listener": Bad("LISTEN", "an ACK of nothing", ("ACK",), "reset", "TCP_FLAGS"),
    "second-syn": Bad(
        "SYN-RECEIVED",
        "another SYN in the window",
        ("SYN",),
        "reset",
        "INVALID_SYN",
        seq=NEAR,
        counters={"TcpExtEmbryonicRsts": 1, "TcpAttemptFails": 1},
    ),
    "handshake-echo": Bad(
        "SYN-SENT",
        "a SYN,ACK that echoes an impossible timestamp",
        ("SYN", "ACK"),
        "reset",
        "TCP_RFC7323_PAWS",
        echo=FAR,
        counters={"TcpExtPAWSActive": 1},
    ),
    "handshake-old-ack": Bad(
        "SYN-RECEIVED", "an ACK far below what was sent", ("ACK",), "reset", "TCP_TOO_OLD_ACK", ack=-FAR
    ),
    "handshake-future-ack": Bad(
        "SYN-RECEIVED", "an ACK of what was never sent", ("ACK",), "reset", "TCP_ACK_UNSENT_DATA", ack=NEAR
    ),
    "old-ack": Bad(
        "ESTABLISHED",
        "data with an ACK far below what was sent",
        ("PSH", "ACK"),
        "challenged",
        ack=-FAR,
        counters={"TcpExtTCPChallengeACK": 1},
    ),
    "syn": Bad(
        "ESTABLISHED",
        "a SYN",
        ("SYN",),
        "challenged",
        counters={"TcpExtTCPChallengeACK": 1, "TcpExtTCPSYNChallenge": 1},
    ),
    "old-timestamp": Bad(
        "ESTABLISHED",
        "data with a timestamp from the past",
        ("PSH", "ACK"),
        "challenged",
        stamp=-FAR,
        counters={"TcpExtPAWSEstab": 1, "TcpExtTCPChallengeACK": 0},
    ),
    "beyond-window": Bad(
        "ESTABLISHED",
        "data far beyond the window",
        ("PSH", "ACK"),
        "challenged",
        seq=FAR,
        counters={"TcpExtTCPChallengeACK": 0},
    ),
    "future-ack": Bad(
        "ESTABLISHED",
        "data with an ACK of what was never sent",
        ("PSH", "ACK"),
        "challenged, or dropped by an older kernel",
        ack=NEAR,
        counters={"TcpExtTCPChallengeACK": 1},
    ),
    "no-flags": Bad("ESTABLISHED", "data without a single flag", (), "ignored", counters={"TcpExtTCPChallengeACK": 0}),
}


@dataclass(frozen=True)
class BadSegment(Options):
    segment: str = option("ack-to-listener", "which bad segment, and in which state", choices=tuple(SEGMENTS))

    @property
    def bad(self) -> Bad:
        return SEGMENTS[self.segment]

    @property
    def alone(self) -> bool:
        """The client's handshake is with the forger alone: no server takes part."""
        return self.segment in ("handshake-old-ack", "handshake-future-ack")


async def prepare(play: Play) -> None:
    play.scenery.tap()


async def server(play: Play) -> None:
    """A listener; it hears no SYN where the forged segment has to come before its own answer."""
    listener = play.listen()
    if play.options.segment == "handshake-echo":
        sockets.black_hole(listener)
        await play.cues["forged"].wait()
        sockets.heal(listener)
    elif play.options.alone:
        sockets.black_hole(listener)
        await play.cues["over"].wait()
        return
    connection = await listener.accept()
    if connection is not None:
        play.accepted.append(connection)
        await fault(connection, play)


async def fault(connection: Socket, play: Play) -> None:
    """An echo until EOF: what was forged must not be among what it reads."""
    while (told := await connection.recv(65536)).data:
        await connection.send(told.data)
    connection.close()


async def script(play: Play) -> None:
    address = await play.cues.serving()
    client = play.socket("client")
    bad = play.options.bad
    if bad.state == "LISTEN":
        client.bind(Address(address.host, 0))
        await reset_by(play, forge(play, client.address, address, seq=ISN, ack=ISN))
        await client.connect(address)
        await echoed(client)
    elif bad.state == "ESTABLISHED":
        await client.connect(address)
        await echoed(client)
        await meet_established(play, client, address)
    else:
        await meet_handshake(play, client, address)
        if play.options.alone:
            await client.recv(65536)
        else:
            await echoed(client)
    client.close()
    if play.options.alone:
        await see_off(play, client, address)


async def echoed(client: Socket) -> None:
    await client.send(HELLO)
    await client.recv(65536)


async def meet_established(play: Play, client: Socket, theirs: Address) -> None:
    """In the client's name; both ends have read all that was sent. After it they go on as if nothing had been."""
    tap, bad, ours = play.scenery.tap(), play.options.bad, client.address
    seq, ack = tap.next_seq(ours, theirs), tap.next_seq(theirs, ours)
    passed = forge(play, ours, theirs, seq=seq, ack=ack, stamps=stamps(tap.last(ours, theirs)))
    if bad.fate == "challenged":
        await tap.hear(lambda p: p.source == theirs, since=passed)
    await echoed(client)
    if bad.fate.startswith("challenged, or"):
        # The echo came after any answer to what was forged, and of the two only that answer acknowledges nothing new.
        answered = any(p.source == theirs and p.ack == seq and not p.payload for p in tap.listen()[passed:])
        if not answered:
            play.cues["dropped"].set()
        play.notes.step(
            "server", f"Linux {kernel.release()} {'challenges' if answered else 'drops'} it (docs/kernels.md)"
        )


async def meet_handshake(play: Play, client: Socket, server: Address) -> None:
    """Between the client's SYN and the end of its handshake."""
    tap = play.scenery.tap()
    if play.options.segment == "second-syn":
        sockets.black_hole(client)  # the server's SYN,ACK must go unanswered
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.connect, server)
        syn = await tap.hear(lambda p: p.destination == server and p.flags == ("SYN",))
        ours = syn.source
        if play.options.segment == "second-syn":
            await tap.hear(lambda p: p.source == server and p.flags == ("SYN", "ACK"))
            await reset_by(play, forge(play, ours, server, seq=syn.seq))
            sockets.heal(client)
        elif play.options.segment == "handshake-echo":
            await reset_by(play, forge(play, server, ours, seq=ISN, ack=syn.seq + 1, stamps=(1, stamps(syn)[0])))
            play.cues["forged"].set()
        else:
            # A SYN that crosses the client's own: a simultaneous open (RFC 9293 section 3.5) makes it SYN-RECEIVED.
            play.scenery.forge(Forgery(server, ours, ("SYN",), ISN), "SYN in the server's name, crossing the client's")
            await tap.hear(lambda p: p.source == ours and p.flags == ("SYN", "ACK"))
            await reset_by(play, forge(play, server, ours, seq=ISN + 1, ack=syn.seq + 1))
            play.scenery.forge(
                Forgery(server, ours, ("ACK",), ISN + 1, syn.seq + 1), "the right ACK: connected all the same"
            )
            play.scenery.forge(
                Forgery(server, ours, ("FIN", "ACK"), ISN + 1, syn.seq + 1), "FIN, so that it ends in order"
            )
            return
        play.notes.expect("connected", tick="SYN", ticks=(), ends=1.0)  # the initial RTO, RFC 6298


async def reset_by(play: Play, passed: int) -> None:
    await play.scenery.tap().hear(lambda p: "RST" in p.flags, since=passed)


async def see_off(play: Play, client: Socket, server: Address) -> None:
    """No server stands behind that connection, so the ACK of the client's FIN is forged too."""
    fin = await play.scenery.tap().hear(lambda p: p.destination == server and "FIN" in p.flags)
    play.scenery.forge(Forgery(server, fin.source, ("ACK",), ISN + 2, fin.seq + 1), "ACK of the client's FIN")
    play.cues["over"].set()


def stamps(packet: Packet) -> tuple[int, ...]:
    """Its timestamp and echo (RFC 7323 section 3)."""
    return next(value for name, value in packet.options if name == "TS" and isinstance(value, tuple))


def forge(
    play: Play, source: Address, destination: Address, *, seq: int, ack: int = 0, stamps: tuple[int, ...] = ()
) -> int:
    """Send the bad segment: right but for what is wrong with it. Gives how many segments the tap had heard before."""
    bad, passed = play.options.bad, len(play.scenery.tap().listen())
    name = play.transcript.role(source)
    play.scenery.forge(
        Forgery(
            source,
            destination,
            bad.flags,
            seq + bad.seq,
            ack + bad.ack if "ACK" in bad.flags else 0,
            payload=BAD if bad.state == "ESTABLISHED" and "SYN" not in bad.flags else b"",
            options=(("TS", (stamps[0] + bad.stamp, stamps[1] + bad.echo)),) if stamps else (),
        ),
        f"{bad.what} in the {name}'s name, to an end in {bad.state}",
    )
    return passed


def packets(options: BadSegment) -> tuple[str, ...]:
    """The conversation. A number from nowhere lets what follows look like a retransmission, or out of order: " *"."""
    opening, hello = ("client SYN", "server SYN,ACK"), ("client PSH,ACK 5", "server PSH,ACK 5")
    end = ("client FIN,ACK", "server FIN,ACK")
    whole = {
        "ack-to-listener": ("server RST", *opening, *hello, *end),
        "second-syn": (*opening, "client SYN", "server RST,ACK", *opening, *hello, *end),
        "handshake-echo": (
            *(*opening, "client RST", "server SYN,ACK *", "client PSH,ACK 5", "server PSH,ACK 5 *"),
            *("client FIN,ACK", "server FIN,ACK *"),
        ),
        "handshake-old-ack": ("client SYN", "server SYN", "client RST", "server FIN,ACK", "client FIN,ACK"),
        "handshake-future-ack": ("client SYN", "server SYN", "client RST", "server FIN,ACK", "client FIN,ACK *"),
        "syn": (*opening, *hello, "client SYN", *hello, *end),
        "beyond-window": (*opening, *hello, *hello[:1], "client PSH,ACK 5 *", *hello[1:], "client FIN,ACK *", *end[1:]),
    }
    bad = f"client {','.join(options.bad.flags)} {len(BAD)}"
    return whole.get(options.segment) or (*opening, *hello, bad, *hello[1:], *end)


def promise(options: BadSegment, play: Play) -> Promise:
    bad = options.bad
    server: tuple[str, ...] = () if options.alone else ("accept ok", "recv 5", "send 5")
    client: tuple[str, ...] = ("connect ok",) if options.alone else ("connect ok", "send 5", "recv 5")
    if bad.state == "ESTABLISHED":
        server, client = (*server, "recv 5", "send 5"), (*client, "send 5", "recv 5")
    end = ("recv EOF", "close ok")
    victim = "client" if options.segment.startswith("handshake") else "server"
    return Promise(
        calls={
            "client": (*client, *(end if options.alone else ("close ok",))),
            "server": () if options.alone else (*server, *end),
        },
        packets=packets(options),
        resets=(Rst(victim, bad.reason),) if bad.reason else (),
        counters={
            **bad.counters,
            **({"TcpOutRsts": 1} if bad.reason else {}),
            **({"TcpExtTCPChallengeACK": 0} if play.cues["dropped"].is_set() else {}),
        },
        seconds=1.0 if bad.state.startswith("SYN") else 0.0,
    )


CAUSE = described(
    __name__,
    family="protocol",
    summary="a segment TCP must refuse: reset, challenged or ignored",
    seldom=True,
    doing=lambda options: (
        f"An end in {options.bad.state} gets {options.bad.what}: {options.bad.fate}, and no harm done."
    ),
    story=(
        "Every segment is held against the state that it meets (RFC 9293 section 3.10.7). While a connection is being made "
        "Linux answers what cannot be right with a RST, and each has a reason of its own in the kernel; the handshake goes "
        "on and succeeds. Once it is established, a RST would let anybody end it by guessing, so the answer is a challenge "
        "ACK or a duplicate ACK (RFC 5961; tcp_validate_incoming(), tcp_ack()), which a true peer corrects itself by, or "
        "nothing at all. The bytes in such a segment reach nobody."
    ),
    variants=tuple({"segment": name} for name in SEGMENTS),
    lookalikes={
        "half-open": "the same bare RST from a listening port (TCP_FLAGS), but a connection of yours dies of it",
        "injected": "there the RST itself is forged; here a kernel sends it, in answer to what was forged",
        "backlog-full": "also INVALID_SYN, with tcp_abort_on_overflow: ListenOverflows moves too",
    },
    met=(
        "port scans (nmap -sA, -sN, -sX) and scanners that hold no state: the RST tells them that the port is reachable",
        "load balancers and firewalls that changed over in the middle of a connection and continue with numbers of their own",
        "TCPChallengeACK, PAWSEstab and EmbryonicRsts in nstat on a host whose programs notice nothing",
    ),
    remedy=(
        "nothing, as long as they are few: the connections live, and the counters are there to be watched",
        "many challenge ACKs for one flow: look for a middlebox that rewrites numbers or timestamps, and capture on both sides",
        "timestamps that jump back behind a NAT or a failover pair (PAWS): one clock for all, or no timestamps through it",
    ),
)
