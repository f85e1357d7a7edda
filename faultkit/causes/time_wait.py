# What meets the bucket (tcp_timewait_state_process(); TCP_TIMEWAIT_LEN, RFC 9293 section 3.4.1), the server having closed. Linux
# 6.18:
#   data           the client has not closed, the bucket is FIN-WAIT-2: RST, TCP_TIMEWAIT_SOCKET; recv EOF, send EPIPE
#   syn            the same, but the client vanished and comes back from its port with a number of the old window: RST,
#                  connect ECONNREFUSED. That ends the bucket. (With a number beyond the window it goes as with old-syn.)
#   old-syn        without timestamps. The client's kernel refuses the old connection's ACK with RST,
#                  TCP_INVALID_ACK_SEQUENCE, and its next SYN, 10 ms later (TCP_TIMEOUT_MIN), is accepted. With tcp_rfc1337
#                  the RST is ignored, and connect() ends in ETIMEDOUT.
#   old-timestamp  the same by an older timestamp (PAWS, RFC 7323 section 5); another port of the address is served at once.
#   stale-data     the ACK to the duplicate meets nobody, and the RST that this brings (NO_SOCKET) ends TIME-WAIT early. Now
#                  even an older number is accepted. With tcp_rfc1337 it is not.
from __future__ import annotations

import socket
from dataclasses import dataclass

from faultkit import sockets
from faultkit.acting.dialogue import ask
from faultkit.cause import AtLeast, Misuse, Options, Play, Promise, Rst, Socket, described, option
from faultkit.evidence.transcript import Address
from faultkit.stage.forge import NEAR, Forgery
from faultkit.witness.kernel import when_listed

ARRIVALS = {
    "data": "more data from the client, which has not closed",
    "syn": "a SYN from the same port, by a client that vanished and came back",
    "reconnect": "a new connection from the same port",
    "old-syn": "a new connection from the same port, with an older sequence number",
    "old-timestamp": "a new connection from the same port, with an older timestamp",
    "stale-data": "an old duplicate of the client's data, then a new connection with an older sequence number",
}
MEETING = ("data", "syn")  # what meets the bucket in FIN-WAIT-2: the client does not close
RTO = 1.0  # seconds until a SYN is sent again (RFC 6298 section 2, TCP_TIMEOUT_INIT)
# Seconds between the clocks of two hosts behind one NAT; arbitrary, below 24 days (RFC 7323 section 5.5).
AHEAD = 1000.0


@dataclass(frozen=True)
class TimeWait(Options):
    arrives: str = option("data", "what reaches the end that closed first", choices=tuple(ARRIVALS))
    rfc1337: bool = option(False, "net.ipv4.tcp_rfc1337 = 1: no RST ends TIME-WAIT")

    def check(self) -> None:
        if self.rfc1337 and self.arrives in ("data", "syn", "reconnect"):
            raise Misuse(f"--rfc1337 changes nothing for --arrives {self.arrives}: no RST reaches TIME-WAIT there")

    @property
    def refused(self) -> bool:
        """Is the new SYN taken for the old connection's?"""
        return self.arrives in ("old-syn", "old-timestamp") or self.rfc1337

    @property
    def later(self) -> int:
        """How many connections the server accepts afterwards."""
        if self.arrives == "old-timestamp":
            return 1 if self.rfc1337 else 2
        return 0 if self.rfc1337 or self.arrives == "data" else 1


async def prepare(play: Play) -> None:
    options = play.options
    if options.arrives not in ("data", "reconnect"):
        play.scenery.tap()
        play.scenery.sysctl("ipv4.tcp_rfc1337", int(options.rfc1337))
    if options.arrives in ("old-syn", "stale-data"):
        play.scenery.sysctl("ipv4.tcp_timestamps", 0)


async def server(play: Play) -> None:
    listener = play.listen()
    await fault(await play.accept(listener), play)
    for _ in range(play.options.later):
        connection = await play.accept(listener)
        told = await connection.recv(65536)
        await connection.send(told.data)
        connection.close()


async def fault(connection: Socket, play: Play) -> None:
    """The server closes first, with everything read."""
    await connection.recv(65536)
    if play.options.arrives in MEETING:
        # A bucket for certain: an ACK of the FIN that comes within close() leaves a socket (Play.fin_acknowledged()).
        connection.shutdown(socket.SHUT_WR)
        await connection.delivered()
    connection.close()


async def script(play: Play) -> None:
    address = await play.cues.serving()
    client, again = (play.socket("client"), None) if play.options.arrives in MEETING else play.two_of_one_port("client")
    await client.connect(address)
    ours = client.address
    if play.options.arrives == "old-timestamp":
        sockets.clock_ahead(client, seconds=AHEAD)
    await ask(client, b"hello")
    if again is None:
        await bucket("FIN-WAIT-2", address, ours)
        await meet_fin_wait(play, client, address)
        return
    client.close()
    await bucket("TIME-WAIT", address, ours)
    if play.options.arrives in ("old-syn", "stale-data"):
        sockets.first_seq(again, play.scenery.tap().next_seq(ours, address) - NEAR)
    if play.options.arrives == "old-timestamp":
        await served(play.socket("client"), address)  # from another port
    elif play.options.arrives == "stale-data":
        await assassinate(play, ours, address)
    if play.options.rfc1337:
        again.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        play.notes.expect("ETIMEDOUT", tick="SYN", ticks=(RTO,), ends=3 * RTO)
        await again.connect(address)
        again.close()
    else:
        await served(again, address)


async def bucket(state: str, local: Address, remote: Address) -> None:
    """Wait until a bucket in that state is what is left of the connection."""
    await when_listed(local, remote, lambda left: left.state == state and left.bucket)


async def served(client: Socket, server: Address) -> None:
    """One connection, from connect() to close(); the server closes first, so that no TIME-WAIT holds the client's port."""
    if (await client.connect(server)).outcome == "ok":
        await ask(client, b"again")
        await client.recv(65536)
    client.close()


async def meet_fin_wait(play: Play, client: Socket, server: Address) -> None:
    """The server's program is done with the connection, the client's is not."""
    if play.options.arrives == "data":
        await ask(client, b"x")
        await client.send(b"x")
        return
    ours = client.address
    sockets.vanish(client)
    for refused in (True, False):  # the RST that refuses the first ends what refused it
        again = play.socket("client")
        if refused:
            sockets.first_seq(again, play.scenery.tap().next_seq(ours, server) + NEAR)
        again.bind(ours)
        await served(again, server)


async def assassinate(play: Play, client: Address, server: Address) -> None:
    """Forge an old duplicate, and wait for the RST by which the client's kernel answers the answer."""
    tap = play.scenery.tap()
    first = await tap.hear(lambda p: p.source == client and p.payload > 0)
    duplicate = Forgery(client, server, first.flags, first.seq, first.ack, payload=b"hello")
    passed = play.scenery.forge(duplicate, "the client's first data again, as a duplicate that was delayed")
    await tap.hear(lambda p: p.source == client and "RST" in p.flags, since=passed)


def promise(options: TimeWait, play: Play) -> Promise:
    first = ("connect ok", "send 5", "recv EOF")
    ok = ("connect ok", "send 5", "recv 5", "recv EOF", "close ok")
    opening = ("client SYN", "server SYN,ACK", "client PSH,ACK 5", "server FIN,ACK")
    whole = (*opening[:3], "server PSH,ACK 5", "server FIN,ACK", "client FIN,ACK")
    counters: dict[str, int | AtLeast] = {}
    resets: tuple[Rst, ...] = (Rst("server", "TCP_TIMEWAIT_SOCKET"),)
    client: tuple[str, ...]
    wire: tuple[str, ...]
    if options.arrives == "data":
        client = (*first, "send 1", "recv EOF", "send EPIPE")
        wire = (*opening, "client PSH,ACK 1", "server RST")
        counters["TcpEstabResets"] = 1
    elif options.arrives == "syn":
        client = (*first, "close ok", "connect ECONNREFUSED", "close ok", *ok)
        wire = (*opening, "client SYN", "server RST,ACK", *whole)
        counters |= {"TcpAttemptFails": 1, "TcpEstabResets": 1}  # the vanished client's own
    else:
        client, wire, resets = (*first, "close ok"), (*opening, "client FIN,ACK"), ()
        if options.arrives == "old-timestamp":
            client, wire = (*client, *ok), (*wire, *whole)
        elif options.arrives == "stale-data":
            # The duplicate is a retransmission, which carries nothing new.
            wire, resets = (*wire, "client RST"), (Rst("client", "NO_SOCKET"),)
        if options.refused:
            resets = (*resets, Rst("client", "TCP_INVALID_ACK_SEQUENCE", " +" if options.rfc1337 else ""))
            wire = (*wire, "client SYN", "client RST")
        # The SYN that is accepted after a refusal is a retransmission.
        wire = (*wire, *(("client SYN *", "client RST *") if options.rfc1337 else whole[options.refused :]))
        client = (*client, *(("connect ETIMEDOUT", "close ok") if options.rfc1337 else ok))
        if options.rfc1337:
            counters |= {"TcpAttemptFails": 1, "TcpExtTCPAbortOnTimeout": 1}
    if resets:
        counters["TcpOutRsts"] = AtLeast(len(resets)) if options.rfc1337 else len(resets)
    closing = ("shutdown ok", "close ok") if options.arrives in MEETING else ("close ok",)
    later = ("accept ok", "recv 5", "send 5", "close ok") * options.later
    return Promise(
        calls={"client": client, "server": ("accept ok", "recv 5", *closing, *later)},
        packets=wire,
        resets=resets,
        counters=counters,
        seconds=3 * RTO if options.rfc1337 else 0.0,
    )


CAUSE = described(
    __name__,
    family="protocol",
    summary="segments that meet what is left of a closed connection",
    seldom=True,
    doing=lambda options: f"The server closes first; then comes {ARRIVALS[options.arrives]}.",
    story=(
        "Who closes first keeps the addresses for 60 s in TIME-WAIT, as a bucket without a socket "
        "(tcp_timewait_state_process()). It answers data with RST while the peer has not closed, since nobody will read it; "
        "a new SYN with a newer number or timestamp takes the addresses over at once (RFC 6191), one with an older is "
        "answered with the old connection's ACK, whose refusal by the client's kernel (RST) ends TIME-WAIT: so most "
        "reconnects work by a reset that nobody sees. The same RST, brought about by a mere duplicate, is the assassination "
        "of RFC 1337, which tcp_rfc1337 forbids, and with it those reconnects. tcp_tw_recycle, gone since Linux 4.12, held "
        "timestamps against a whole address, and so shut out hosts behind one NAT; what is left compares the same port only."
    ),
    variants=(
        *({"arrives": name} for name in ARRIVALS),
        *({"arrives": name, "rfc1337": True} for name in ("old-syn", "old-timestamp", "stale-data")),
    ),
    lookalikes={
        "keepalive-race": "the same RST on a connection that was reused: there a request and a FIN crossed",
        "half-open": "the same ACK and RST before a reconnect succeeds, but the old server's socket gets ECONNRESET",
        "closed-port": "ECONNREFUSED too, but at every port and every time, not once from the same port",
    },
    met=(
        "clients with few local ports, or a fixed one: load tests, NATs, SIP and BGP speakers, replication links",
        "old servers with tcp_tw_recycle = 1 behind NAT or a load balancer: SYNs of some users vanish for a minute",
        "a proxy that writes to an upstream connection which the upstream has closed: send ok, then EOF, then EPIPE",
    ),
    remedy=(
        "leave tcp_rfc1337 = 0 and tcp_timestamps = 1: timestamps make reconnects to TIME-WAIT safe and quick",
        "let the side with many peers close last, or give clients more ports and addresses; never fix a client's port",
        "ss -tan state time-wait: where the bucket is; nstat TcpExtPAWSTimewait and TCPACKSkippedTimeWait: what it refused",
    ),
)
