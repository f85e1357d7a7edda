# How an orphan's FIN-WAIT-2 ends, Linux 6.18:
#   expired   the time runs out in silence (tcp_time_wait()). The client hears nothing, and its next write is answered by
#             a host that has forgotten: bare RST, reason TCP_FLAGS (the write meets the port's listener, which has no use
#             for an ACK), or NO_SOCKET if nobody listens any more
#   skipped   TCP_LINGER2 = -1 and close(): the ACK of the FIN ends it, and is itself answered with a bare RST, reason
#             TCP_ABORT_ON_DATA though no data came (tcp_rcv_state_process())
#   aborted   TCP_LINGER2 = -1, shutdown(SHUT_WR), and close() in FIN-WAIT-2: RST,ACK, reason TCP_ABORT_ON_LINGER
#   lowered   the timer of a timeout above 60 s finds the sysctl lowered: RST,ACK, reason TCP_STATE (tcp_keepalive_timer())
# An orphan that runs out in silence is a bucket. close() may also leave a socket (Play.fin_acknowledged()), which goes as in
# "lowered" when its time is over; close() in FIN-WAIT-2 does not, so with "expired" shutdown(SHUT_WR) comes first.
# A client that received the FIN is in CLOSE-WAIT: in all four recv gives EOF, never ECONNRESET, and send EPIPE.
# Above 60 s (TCP_TIMEWAIT_LEN) the kernel waits twice for what exceeds it: 61 s are 2 s, 62 s are 4 s (measured).
from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit.acting.dialogue import ask
from faultkit.cause import Misuse, Options, Play, Promise, Rst, Served, Socket, described, option
from faultkit.options import duration
from faultkit.witness.kernel import when_listed

TIMEWAIT = 60  # seconds: TCP_TIMEWAIT_LEN in include/net/tcp.h
SPARE = 2  # seconds above that, in which the sysctl is lowered again; arbitrary: time enough on a busy machine
ORPHAN = "the orphan's time in FIN-WAIT-2"
SYSCTL = "ipv4.tcp_fin_timeout"
HALF_CLOSED = ("expired", "aborted")  # the ends for which close() must find the FIN acknowledged

if TYPE_CHECKING:
    from faultkit.served import End


@dataclass(frozen=True)
class FinWaitTimeout(Options):
    end: str = option(
        "expired",
        "how FIN-WAIT-2 ends: in silence, at once, by close() after shutdown(), or by a sysctl lowered meanwhile",
        choices=("expired", "skipped", "aborted", "lowered"),
    )
    timeout_seconds: float = duration(
        1.0, "with expired: how long the orphan may wait", least=1000, most=120000, multiple=1000
    )
    by: str = option(
        "linger2", "with expired: TCP_LINGER2 of the socket, or net.ipv4.tcp_fin_timeout", choices=("linger2", "sysctl")
    )

    def check(self) -> None:
        if self.end != "expired" and (self.timeout_seconds, self.by) != (1.0, "linger2"):
            raise Misuse(f"--timeout and --by decide nothing with --end {self.end}: leave them out")

    @property
    def lasts(self) -> float:
        """Seconds for which the orphan is there after its FIN is acknowledged; 0 where it may not wait at all."""
        if self.end == "expired":
            over = self.timeout_seconds - TIMEWAIT
            return float(2 * over if over > 0 else self.timeout_seconds)
        return float(SPARE) if self.end == "lowered" else 0.0


async def fault(connection: Socket, play: Play) -> None:
    options: FinWaitTimeout = play.options
    await connection.recv(65536)
    if options.end == "lowered":
        play.scenery.sysctl(SYSCTL, TIMEWAIT + SPARE)
    elif options.by == "sysctl":
        play.scenery.sysctl(SYSCTL, int(options.timeout_seconds))
    else:
        seconds = int(options.timeout_seconds) if options.end == "expired" else -1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, seconds)
    if options.end in HALF_CLOSED:
        connection.shutdown(socket.SHUT_WR)
        await connection.delivered()
    connection.close()
    play.cues["closed"].set()


async def script(play: Play) -> None:
    options: FinWaitTimeout = play.options
    client = await play.connect()
    await ask(client, b"hello")
    await play.fin_acknowledged(await play.cues.serving(), client.address)
    await play.cues["closed"].wait()
    if options.lasts:
        await _outlast(client, play)
    if options.end == "expired":
        await client.send(b"late")
    await client.over()
    await client.recv(65536)
    await client.send(b"x")


async def _outlast(client: Socket, play: Play) -> None:
    """Wait until the kernel has let the orphan go, and measure that."""
    options: FinWaitTimeout = play.options
    address = await play.cues.serving()
    [closed] = play.transcript.calls_of("server", "close")
    play.notes.step(
        "server", f"its kernel holds the connection in {play.listed(address, client.address).state}, no program does"
    )
    if options.end == "lowered":
        play.scenery.sysctl(SYSCTL, TIMEWAIT)
    play.notes.expect("the end of FIN-WAIT-2", ends=options.lasts)
    if options.end == "expired":
        await when_listed(address, client.address, lambda end: not end.state, play.listed)
        play.notes.step("server", "its kernel has forgotten the connection")
    else:
        await client.over()
    gone = time.time_ns()
    play.notes.measure(ORPHAN, predicted=options.lasts, began_ns=closed.ended_ns, ended_ns=gone)


def promise(options: FinWaitTimeout, play: Play) -> Promise:
    late, reason, counters = ENDS[options.end]
    closing = ("shutdown ok", "close ok") if options.end in HALF_CLOSED else ("close ok",)
    rst = Rst("server", reason)
    return Promise(
        calls={
            "client": ("connect ok", "send 5", "recv EOF", *(["send 4"] if late else []), "recv EOF", "send EPIPE"),
            "server": ("accept ok", "recv 5", *closing),
        },
        packets=(
            "client SYN",
            "server SYN,ACK",
            "client PSH,ACK 5",
            "server FIN,ACK",
            *(["client PSH,ACK 4"] if late else []),
            "server RST,ACK" if rst.form == "active" else "server RST",
        ),
        resets=(rst,),
        counters={**counters, "TcpOutRsts": 1, "TcpEstabResets": 1},
        measurements=(ORPHAN,) if options.lasts else (),
        seconds=options.lasts + 0.2,
    )


# Does the client have to write first, the reset's reason, the counter that gives it away.
ENDS: dict[str, tuple[bool, str, dict[str, int]]] = {
    "expired": (True, "TCP_FLAGS", {}),
    "skipped": (False, "TCP_ABORT_ON_DATA", {"TcpExtTCPAbortOnData": 1}),
    "aborted": (False, "TCP_ABORT_ON_LINGER", {"TcpExtTCPAbortOnLinger": 1}),
    "lowered": (False, "TCP_STATE", {}),
}


def doing(options: FinWaitTimeout) -> str:
    if options.end == "expired":
        what = "TCP_LINGER2" if options.by == "linger2" else "tcp_fin_timeout"
        return (
            f"The server shuts down its half and closes, with {what} = {options.timeout_seconds:g} s; the client keeps its "
            "end open for longer, then writes."
        )
    return {
        "skipped": "The server closes with TCP_LINGER2 = -1: nothing of the connection is to stay.",
        "aborted": "The server sets TCP_LINGER2 = -1, shuts down its half, and closes once its FIN is acknowledged.",
        "lowered": "The server closes with tcp_fin_timeout = 62 s, which is lowered to 60 s while the client waits.",
    }[options.end]


def _forget_soon(conn: End) -> None:
    conn.shorten_fin_wait(seconds=1)
    conn.close()


CAUSE = described(
    __name__,
    family="application",
    summary="an orphan in FIN-WAIT-2 is dropped before the peer closes",
    seldom=True,
    story=(
        "After close() the kernel waits in FIN-WAIT-2 for the peer's FIN, but for an orphan, a connection that no program "
        "holds any more, only as long as TCP_LINGER2 or net.ipv4.tcp_fin_timeout allows (60 s; tcp(7)). RFC 9293 knows no "
        "such limit. The peer is not told: it sits in CLOSE-WAIT, and when it writes, a host that has forgotten the "
        "connection answers RST. A negative TCP_LINGER2 allows no wait at all: the reset follows the FIN at once."
    ),
    variants=({}, {"end": "skipped"}, {"end": "aborted"}, {"end": "lowered"}, {"by": "sysctl"}),
    served={"": Served(_forget_soon, ends_answer=True)},
    lookalikes={
        "late-write": "the same for the client, but sooner after the FIN: reason TCP_TIMEWAIT_SOCKET",
        "half-open": "no FIN on the wire before the write; recv then gives ECONNRESET, not EOF",
        "linger": "no FIN before the RST; recv gives ECONNRESET",
    },
    met=(
        "a client that leaks sockets: thousands in CLOSE-WAIT on its side, nothing on the server's",
        "a long download or push over a half-closed connection whose other program closed instead of shutting down",
        "servers tuned with tcp_fin_timeout = 5 or less, or with TCP_LINGER2, to save memory",
        "a firewall drops the late reset: then the client waits for a retransmission timeout instead",
    ),
    remedy=(
        "close when recv gives EOF: CLOSE-WAIT is the program's own state, no timer ends it (ss -tn state close-wait)",
        "whoever still wants to read calls shutdown(SHUT_WR), not close(): a socket that a program holds is no orphan",
        "leave tcp_fin_timeout at 60: above it the kernel waits not longer but shorter, 61 s are 2 s",
    ),
)
