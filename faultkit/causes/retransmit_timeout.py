# Both clocks, tcp_retries2's and TCP_USER_TIMEOUT's, start at the first retransmission, 0.4 s after the send (a tail loss probe,
# RFC 8985, goes before it), and are looked at only when a timer fires: see faultkit.evidence.timers. Linux 6.18.
from __future__ import annotations

import math
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.cause import AtLeast, Options, Play, Promise, Rst, Served, Socket, Unable, described, option
from faultkit.evidence import timers
from faultkit.options import duration, retries2, user_timeout
from faultkit.stage import sysctl


@dataclass(frozen=True)
class RetransmitTimeout(Options):
    ended_by: str = option(
        "retries",
        "which comes first: the kernel's retries, TCP_USER_TIMEOUT, or the network's healing",
        choices=("retries", "user-timeout", "healing"),
    )
    retries2: int = retries2(1, " (the kernel's default is 15)", only_with=("ended_by", "retries"))
    user_timeout_seconds: float = user_timeout(1.0, " of the client", only_with=("ended_by", "user-timeout"))
    outage_seconds: float = duration(0.5, "how long the network is cut", most=600000, only_with=("ended_by", "healing"))

    @property
    def expected(self) -> tuple[str, timers.Expiry]:
        """What is measured, and how many seconds after the send it is due."""
        if self.ended_by == "retries":
            return "client's tcp_retries2 expiry", timers.data_expiry(self.retries2)
        if self.ended_by == "user-timeout":
            due = timers.user_expiry(self.user_timeout_seconds)
            return "client's TCP_USER_TIMEOUT expiry", timers.exactly(due)
        return "delivery after the outage", timers.delivery(self.outage_seconds)


async def prepare(play: Play) -> None:
    """On the host its own tcp_retries2 stands, whatever it is."""
    options: RetransmitTimeout = play.options
    there = int(sysctl.read("ipv4.tcp_retries2"))
    if options.ended_by == "retries" and play.stage.namespace is None and there != options.retries2:
        raise Unable(
            f"retransmit-timeout: net.ipv4.tcp_retries2 is {there} on this host and is set to {options.retries2} inside a "
            f"private namespace only: leave --on host out, or take --ended-by user-timeout, or --retries2 {there} and "
            f"{timers.data_expiry(there).earliest:.0f} s of patience"
        )


async def fault(connection: Socket, play: Play) -> None:
    """Read one byte, then be out of reach until the client has given up, or for the outage."""
    await connection.recv(1)
    sockets.black_hole(connection)
    play.notes.step("network", "nothing that the client sends arrives from here on")
    play.cues["cut"].set()
    heals = play.options.ended_by == "healing"
    with trio.move_on_after(play.options.outage_seconds if heals else math.inf):
        await play.cues["expired"].wait()
    sockets.heal(connection)
    play.notes.step("network", f"heals; the server's socket is {sockets.state(connection.raw)}")
    if heals:
        await connection.recv(65536)
    await connection.send(b"answer" if heals else b"news")
    await connection.recv(65536)


async def script(play: Play) -> None:
    options: RetransmitTimeout = play.options
    client = play.socket("client")
    if options.ended_by == "user-timeout":
        sockets.user_timeout(client, seconds=options.user_timeout_seconds)
    if options.ended_by == "retries" and play.stage.namespace:
        play.scenery.sysctl("ipv4.tcp_retries2", options.retries2)
    await client.connect(await play.cues.serving())
    await client.send(b"x")
    await play.cues["cut"].wait()
    sent = await client.send(b"request")
    name, due = options.expected
    tries = timers.tries_before(due.earliest)
    play.notes.expect(name, tick="retransmission", ticks=tries, ends=due.earliest)
    told = await client.recv(65536)
    if options.ended_by == "healing":
        told = next(call for call in play.transcript.calls if call.data == b"request")
        client.close()
    else:
        await client.send(b"request")
        play.cues["expired"].set()
    play.notes.measure(name, predicted=due, began_ns=sent.ended_ns, ended_ns=told.ended_ns)


def promise(options: RetransmitTimeout, play: Play) -> Promise:
    name, due = options.expected
    client, server = ["recv ETIMEDOUT", "send EPIPE"], ["send 4", "recv ECONNRESET"]
    wire, resets = ["server PSH,ACK 4", "client RST"], [Rst("client", "NO_SOCKET")]
    counters = {"TcpExtTCPAbortOnTimeout": 1, "TcpEstabResets": 2, "TcpOutRsts": 1}
    if options.ended_by == "healing":
        client, server = ["recv 6", "close ok"], ["recv 7", "send 6", "recv EOF"]
        wire, resets, counters = ["server PSH,ACK 6", "client FIN,ACK"], [], {}
    return Promise(
        calls={"client": ["connect ok", "send 1", "send 7", *client], "server": ["accept ok", "recv 1", *server]},
        packets=["client SYN", "server SYN,ACK", "client PSH,ACK 1", "client PSH,ACK 7", *wire],
        resets=resets,
        counters={"TcpRetransSegs": AtLeast(1), **counters},
        measurements=[name],
        seconds=due.latest,
    )


def doing(options: RetransmitTimeout) -> str:
    ends = {
        "retries": f"until tcp_retries2 = {options.retries2} is exhausted",
        "user-timeout": f"until TCP_USER_TIMEOUT = {options.user_timeout_seconds * 1000:g} ms is over",
        "healing": f"and the network heals after {options.outage_seconds * 1000:g} ms",
    }
    return f"The client's data is lost, retransmission after retransmission, {ends[options.ended_by]}."


CAUSE = described(
    __name__,
    family="timer",
    summary="sent data is never acknowledged: ETIMEDOUT in the end",
    story=(
        "send() succeeded, but no acknowledgement comes. The kernel sends the data again, waiting twice as long each time "
        "(RFC 6298 section 5.5), until tcp_retries2 is exhausted: ETIMEDOUT, by default after about 15 minutes "
        "(tcp_write_timeout(); RFC 9293 section 3.8.3). TCP_USER_TIMEOUT ends it sooner (RFC 5482). Neither sends a RST: "
        "the other end, if it lives, still believes in the connection, and is reset at its next write. When the network "
        "heals in time nothing is lost; the data only waits for the next retransmission."
    ),
    variants=({}, {"ended_by": "user-timeout"}, {"ended_by": "healing"}),
    served={"": Served(lambda conn: conn.black_hole(), hangs=True)},
    lookalikes={
        "keepalive-timeout": "nothing was in flight: TCPKeepAlive moves, and a RST goes out",
        "zero-window": "every probe is answered, with window 0: the peer is alive and does not read",
        "idle-firewall": "the same clock at the sender, after an idle time: only the middle is broken",
        "connect-timeout": "connect() itself gives ETIMEDOUT: there was no connection yet",
        "half-open": "the peer's host is up again and answers: ECONNRESET at once",
    },
    met=(
        "a request to a host that has just lost power or its route: clients hang for 15 minutes",
        "Kubernetes or a cloud takes a node away without a FIN: pooled connections to it hang, new ones work",
        "a failover of a database: writers hang on the old primary until TCP_USER_TIMEOUT or the driver's own timeout",
    ),
    remedy=(
        "TCP_USER_TIMEOUT on every connection that sends (libpq tcp_user_timeout, gRPC sets it beside its keepalive)",
        "a read timeout of the program: it covers a peer that is alive and does not answer, too",
        "where no program can be changed, lower net.ipv4.tcp_retries2: 8 is about 100 s, RFC 1122's least (4.2.3.5)",
    ),
)
