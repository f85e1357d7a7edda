# A segment that fits nowhere. Which, in which state, and what the kernel makes of it by which of its functions: SEGMENTS. None
# of them kills a connection, on Linux 5.10 to 7.3.
from __future__ import annotations

from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.dialogue import ask, echo
from faultkit.cause import Options, Play, Promise, Rst, Socket, described, option
from faultkit.evidence.transcript import Address
from faultkit.stage.forge import FAR, ISN, NEAR, Forgery

BY_KERNEL = "challenged, or dropped by an older kernel"
HELLO, BAD = b"hello", b"bad !"  # as long as each other, so that whoever took the one would miss the other


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad segment: what it is, the state that it meets, and what the kernel makes of it."""

    what: str
    flags: str = "PSH,ACK"
    state: str = "ESTABLISHED"
    reason: str = ""  # of the RST that answers it, if one does
    moves: str = ""  # the counters that it moves by one, besides
    otherwise: str = "challenged"
    counted: bool = False  # as a challenge; a duplicate ACK is not (tcp_send_dupack())
    seq: int = 0  # from what would be right
    ack: int = 0
    stamp: int = 0
    echo: int = 0
    alone: bool = False  # the client's handshake is with the forger alone: no server takes part

    @property
    def fate(self) -> str:
        return "reset" if self.reason else self.otherwise


SEGMENTS: dict[str, Bad] = {
    "ack-to-listener": Bad("an ACK of nothing", "ACK", "LISTEN", "TCP_FLAGS"),  # tcp_rcv_state_process()
    "second-syn": Bad(  # tcp_check_req()
        *("another SYN in the window", "SYN", "SYN-RECEIVED", "INVALID_SYN", "TcpExtEmbryonicRsts TcpAttemptFails"),
        seq=NEAR,
    ),
    "handshake-echo": Bad(  # tcp_rcv_synsent_state_process()
        *("a SYN,ACK that echoes an impossible timestamp", "SYN,ACK", "SYN-SENT", "TCP_RFC7323_PAWS"),
        moves="TcpExtPAWSActive",
        echo=FAR,
    ),
    "handshake-old-ack": Bad(  # tcp_ack(), as the next
        "an ACK far below what was sent", "ACK", "SYN-RECEIVED", "TCP_TOO_OLD_ACK", ack=-FAR, alone=True
    ),
    "handshake-future-ack": Bad(
        "an ACK of what was never sent", "ACK", "SYN-RECEIVED", "TCP_ACK_UNSENT_DATA", ack=NEAR, alone=True
    ),
    "old-ack": Bad("data with an ACK far below what was sent", counted=True, ack=-FAR),  # RFC 5961 section 5
    "syn": Bad("a SYN", "SYN", moves="TcpExtTCPSYNChallenge", counted=True),  # RFC 5961 section 4
    "old-timestamp": Bad(  # PAWS (RFC 7323 section 5.3)
        "data with a timestamp from the past", stamp=-FAR, moves="TcpExtPAWSEstab"
    ),
    "beyond-window": Bad("data far beyond the window", seq=FAR),
    "future-ack": Bad(  # docs/kernels.md
        "data with an ACK of what was never sent", otherwise=BY_KERNEL, counted=True, ack=NEAR
    ),
    "no-flags": Bad("data without a single flag", "", otherwise="ignored"),
}


@dataclass(frozen=True)
class BadSegment(Options):
    segment: str = option("ack-to-listener", "which bad segment, and in which state", choices=tuple(SEGMENTS))

    @property
    def bad(self) -> Bad:
        return SEGMENTS[self.segment]


async def server(play: Play) -> None:
    """A listener; it hears no SYN where the forged segment has to come before its own answer."""
    listener = play.listen()
    alone = play.options.bad.alone
    if alone or play.options.segment == "handshake-echo":
        sockets.black_hole(listener)
        await play.cues["over" if alone else "forged"].wait()
        if alone:
            return
        sockets.heal(listener)
    await fault(await play.accept(listener), play)


async def fault(connection: Socket, play: Play) -> None:
    await echo(connection)  # what was forged must not be among what it reads


async def script(play: Play) -> None:
    address = await play.cues.serving()
    client = play.socket("client")
    bad = play.options.bad
    if bad.state.startswith("SYN"):
        await meet_handshake(play, client, address)
    else:
        if bad.state == "LISTEN":
            client.bind(Address(address.host, 0))
            await forge(play, client.address, address, seq=ISN, ack=ISN)
        await client.connect(address)
    await (client.recv(65536) if bad.alone else ask(client, HELLO))
    if bad.state == "ESTABLISHED":
        await meet_established(play, client, address)
    client.close()
    if bad.alone:
        # No server stands behind that connection, so the ACK of the client's FIN is forged too.
        fin = await play.scenery.tap().hear(lambda p: p.destination == address and "FIN" in p.flags)
        play.scenery.forge(Forgery(address, fin.source, ("ACK",), ISN + 2, fin.seq + 1), "ACK of the client's FIN")
        play.cues["over"].set()


async def meet_established(play: Play, client: Socket, theirs: Address) -> None:
    """In the client's name; both ends have read all that was sent. After it they go on as if nothing had been."""
    tap, ours = play.scenery.tap(), client.address
    seq, ack = tap.next_seq(ours, theirs), tap.next_seq(theirs, ours)
    passed = await forge(play, ours, theirs, seq=seq, ack=ack, stamps=tap.last(ours, theirs).timestamps)
    await ask(client, HELLO)
    if play.options.bad.fate == BY_KERNEL:
        # The echo came after any answer to what was forged, and of the two only that answer acknowledges nothing new.
        if not (answered := any((p.source, p.ack, p.payload) == (theirs, seq, 0) for p in tap.listen()[passed:])):
            play.cues["dropped"].set()
        play.notes.of_this_kernel("server", "challenges it" if answered else "drops it")


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
            await forge(play, ours, server, seq=syn.seq)
            sockets.heal(client)
        elif play.options.segment == "handshake-echo":
            await forge(play, server, ours, seq=ISN, ack=syn.seq + 1, stamps=(1, syn.timestamps[0]))
            play.cues["forged"].set()
        else:
            # A SYN that crosses the client's own: a simultaneous open (RFC 9293 section 3.5) makes it SYN-RECEIVED.
            play.scenery.forge(Forgery(server, ours, ("SYN",), ISN), "SYN in the server's name, crossing the client's")
            await tap.hear(lambda p: p.source == ours and p.flags == ("SYN", "ACK"))
            await forge(play, server, ours, seq=ISN + 1, ack=syn.seq + 1)
            right, fin = (Forgery(server, ours, flags, ISN + 1, syn.seq + 1) for flags in (("ACK",), ("FIN", "ACK")))
            play.scenery.forge(right, "the right ACK: connected all the same")
            play.scenery.forge(fin, "FIN, so that it ends in order")
            return
        play.notes.expect("connected", tick="SYN", ticks=(), ends=1.0)  # the initial RTO, RFC 6298


async def forge(
    play: Play, source: Address, destination: Address, *, seq: int, ack: int = 0, stamps: tuple[int, ...] = ()
) -> int:
    """Send the bad segment, right but for what is wrong with it, and wait for the answer that it must get. Gives what
    `Scenery.forge` does."""
    bad, name = play.options.bad, play.transcript.role(source)
    flags = tuple(filter(None, bad.flags.split(",")))
    forgery = Forgery(
        *(source, destination, flags, seq + bad.seq, ack + bad.ack if "ACK" in flags else 0),
        payload=BAD if bad.state == "ESTABLISHED" and "SYN" not in flags else b"",
        options=(("TS", (stamps[0] + bad.stamp, stamps[1] + bad.echo)),) if stamps else (),
    )
    passed = play.scenery.forge(forgery, f"{bad.what} in the {name}'s name, to an end in {bad.state}")
    if bad.fate in ("reset", "challenged"):
        resets = bad.fate == "reset"
        await play.scenery.tap().hear(lambda p: p.source == destination and ("RST" in p.flags) == resets, since=passed)
    return passed


def packets(options: BadSegment) -> tuple[str, ...]:
    """The conversation. A number from nowhere lets what follows look like a retransmission, or out of order: " *"."""
    opening, hello = ("client SYN", "server SYN,ACK"), ("client PSH,ACK 5", "server PSH,ACK 5")
    end = ("client FIN,ACK", "server FIN,ACK")
    whole = {
        "ack-to-listener": ("server RST", *opening, *hello, *end),
        "second-syn": (*opening, "client SYN", "server RST,ACK", *opening, *hello, *end),
        "handshake-echo": (
            *(*opening, "client RST"),
            *("server SYN,ACK *", "client PSH,ACK 5", "server PSH,ACK 5 *", "client FIN,ACK", "server FIN,ACK *"),
        ),
        "handshake-old-ack": ("client SYN", "server SYN", "client RST", "server FIN,ACK", "client FIN,ACK"),
        "handshake-future-ack": ("client SYN", "server SYN", "client RST", "server FIN,ACK", "client FIN,ACK *"),
        "syn": (*opening, *hello, "client SYN", *hello, *end),
        "beyond-window": (*opening, *hello, *hello[:1], "client PSH,ACK 5 *", *hello[1:], "client FIN,ACK *", *end[1:]),
    }
    bad = f"client {options.bad.flags} {len(BAD)}"
    return whole.get(options.segment) or (*opening, *hello, bad, *hello[1:], *end)


def promise(options: BadSegment, play: Play) -> Promise:
    bad = options.bad
    client: tuple[str, ...] = ("connect ok", "recv EOF", "close ok")
    server: tuple[str, ...] = ()
    if not bad.alone:
        asked = 2 if bad.state == "ESTABLISHED" else 1
        client = ("connect ok", *("send 5", "recv 5") * asked, "close ok")
        server = ("accept ok", *("recv 5", "send 5") * asked, "recv EOF", "close ok")
    counters = dict.fromkeys((*bad.moves.split(), *(["TcpOutRsts"] if bad.reason else [])), 1)
    if bad.state == "ESTABLISHED":
        counters["TcpExtTCPChallengeACK"] = int(bad.counted and not play.cues["dropped"].is_set())
    victim = "client" if options.segment.startswith("handshake") else "server"
    return Promise(
        calls={"client": client, "server": server},
        packets=packets(options),
        resets=(Rst(victim, bad.reason),) if bad.reason else (),
        counters=counters,
        seconds=1.0 if bad.state.startswith("SYN") else 0.0,
    )


CAUSE = described(
    __name__,
    family="protocol",
    summary="a segment TCP must refuse: reset, challenged or ignored",
    seldom=True,
    overhears=True,
    doing=lambda chosen: f"An end in {chosen.bad.state} gets {chosen.bad.what}: {chosen.bad.fate}, and no harm done.",
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
