# TCP keepalive ends a connection that has heard nothing for idle + interval * count seconds (RFC 9293 section 3.8.4, tcp(7)),
# and, unlike every other timeout in the kernel, with a RST for the peer: counter TCPAbortOnTimeout, reason
# TCP_KEEPALIVE_TIMEOUT. With data unacknowledged no probe is sent: then retransmission ends it (tcp_retries2, about 15
# minutes) or TCP_USER_TIMEOUT, which the kernel counts from the first retransmission, about 200 ms after the send.
# Not idle-firewall: there the network drops, here the server's host does.
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.cause import AtLeast, Keepalive, Misuse, Promise, Rst, Served, described, option
from faultkit.options import keepalive_count, keepalive_idle, keepalive_interval, user_timeout

EXPIRY = "client's keepalive expiry"
USER_TIMEOUT = "client's TCP_USER_TIMEOUT"

if TYPE_CHECKING:
    from faultkit.cause import Play, Socket


@dataclass(frozen=True)
class KeepaliveTimeout(Keepalive):
    keepalive_seconds: float = keepalive_idle(1.0)
    interval_seconds: float = keepalive_interval(1.0)
    count: int = keepalive_count(2)
    with_data: bool = option(
        False, "leave data unacknowledged: keepalive is silent then, only TCP_USER_TIMEOUT ends it"
    )
    user_timeout_seconds: float | None = user_timeout(
        None, ", with --with-data; default 1 s after keepalive would have expired"
    )

    def check(self) -> None:
        if self.user_timeout_seconds is not None and not self.with_data:
            raise Misuse("--user-timeout is for unacknowledged data and there is none: add --with-data")

    @property
    def patience(self) -> float:
        """The user timeout in seconds, with data in flight."""
        return self.expiry + 1 if self.user_timeout_seconds is None else self.user_timeout_seconds


async def fault(connection: Socket, play: Play) -> None:
    await connection.recv(1)
    sockets.black_hole(connection)
    play.notes.step("server", "deaf from here on: every segment that arrives is dropped below the socket")
    play.cues["deaf"].set()
    await play.cues["expired"].wait()
    if not play.options.with_data:
        # The kernel tells the client before its RST is through loopback's queue, and that RST must not arrive any more:
        # the probes and the RST are what is dropped.
        await connection.dropped(play.options.count + 1)
    sockets.heal(connection)
    play.notes.step("server", "hears again")
    await connection.send(b"still there?")
    await connection.recv(65536)


async def script(play: Play) -> None:
    options: KeepaliveTimeout = play.options
    client = play.socket("client")
    idle, interval = int(options.keepalive_seconds), int(options.interval_seconds)
    sockets.keepalive(client, idle_seconds=idle, interval_seconds=interval, count=options.count)
    if options.with_data:
        sockets.user_timeout(client, seconds=options.patience)
    await client.connect(await play.cues.serving())
    heard = await client.send(b"x")
    await play.cues["deaf"].wait()
    if options.with_data:
        heard = await client.send(b"unacknowledged")
        play.notes.expect("TCP_USER_TIMEOUT", ends=options.patience)
        name, predicted = USER_TIMEOUT, options.patience
    else:
        play.notes.expect("ETIMEDOUT", tick="keepalive probe", ticks=options.probes, ends=options.expiry)
        name, predicted = EXPIRY, options.expiry
    told = await client.recv(65536)
    play.notes.measure(name, predicted=predicted, began_ns=heard.began_ns, ended_ns=told.ended_ns)
    play.cues["expired"].set()


def promise(options: KeepaliveTimeout, play: Play) -> Promise:
    data, resets = options.with_data, [Rst("client", "NO_SOCKET")]
    if not data:
        resets.insert(0, Rst("client", "TCP_KEEPALIVE_TIMEOUT"))
    moved: dict[str, int | AtLeast] = {"TcpRetransSegs": AtLeast(1)} if data else {"TcpExtTCPKeepAlive": options.count}
    return Promise(
        calls={
            "client": ("connect ok", "send 1", *(["send 14"] if data else []), "recv ETIMEDOUT"),
            "server": ("accept ok", "recv 1", "send 12", "recv ECONNRESET"),
        },
        packets=(
            *("client SYN", "server SYN,ACK", "client PSH,ACK 1", "client PSH,ACK 14" if data else "client RST,ACK"),
            *("server PSH,ACK 12", "client RST"),
        ),
        resets=resets,
        counters={"TcpExtTCPAbortOnTimeout": 1, "TcpEstabResets": 2, "TcpOutRsts": len(resets), **moved},
        measurements=(USER_TIMEOUT if data else EXPIRY,),
        seconds=options.patience if data else options.expiry,
    )


def doing(options: KeepaliveTimeout) -> str:
    if options.with_data:
        return (
            f"The server's end goes deaf with the client's data unacknowledged: keepalive would end it after "
            f"{options.expiry:g} s, TCP_USER_TIMEOUT does after {options.patience:g} s."
        )
    return (
        f"The server's end goes deaf and the client, idle, probes it: after {options.keepalive_seconds:g} s, then "
        f"{options.count} times {options.interval_seconds:g} s."
    )


CAUSE = described(
    __name__,
    family="timer",
    summary="an idle connection, a dead peer: probes end it, ETIMEDOUT",
    story=(
        "The client heard nothing for its keepalive idle time, sent its probes, heard nothing again, and its kernel gave "
        "the connection up: ETIMEDOUT for the program, and a RST towards the peer (RFC 9293 section 3.8.4; "
        "tcp_keepalive_timer()). A peer that missed that RST learns at its next write: the client's kernel no longer "
        "knows the connection and answers with another RST. With data unacknowledged no probe is sent at all; then only "
        "retransmission or TCP_USER_TIMEOUT ends it, and no RST is sent."
    ),
    variants=({"count": 1}, {"count": 1, "with_data": True}),
    after_idle=True,
    served={"": Served(lambda conn: conn.black_hole(), hangs=True)},
    lookalikes={
        "idle-firewall": "the same ETIMEDOUT, but the peer is alive and keeps retransmitting; ss -to there shows its timer",
        "linger": "ECONNRESET instead of ETIMEDOUT: the peer is there and says so",
    },
    met=(
        "a peer that lost power or its network, a suspended laptop, a virtual machine that was moved or frozen",
        "database and message-queue clients with keepalive on; without it they would wait for ever",
    ),
    remedy=(
        "keep keepalive on, and short enough for you: the kernel's default is 2 h + 9 × 75 s",
        "set TCP_USER_TIMEOUT too (to idle + interval × count): keepalive does nothing while data is unacknowledged",
        "an application heartbeat notices a peer whose kernel answers and whose program does not",
    ),
)
