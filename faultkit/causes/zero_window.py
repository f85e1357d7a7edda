# TCP_USER_TIMEOUT (RFC 6429) counts from the first probe, 0.2 s after the window closed. Counter TCPAbortOnTimeout. Linux 6.18
# answers out-of-window segments at most every 0.5 s (tcp_invalid_ratelimit), so the second probe goes unanswered.
from __future__ import annotations

import math
import socket
import time
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.cause import AtLeast, Options, Play, Promise, Rst, Served, Socket, described, option
from faultkit.evidence import timers
from faultkit.options import duration, user_timeout


@dataclass(frozen=True)
class ZeroWindow(Options):
    ended_by: str = option(
        "user-timeout",
        "what ends the wait: the client's TCP_USER_TIMEOUT, or the server, which reads again",
        choices=("user-timeout", "reading"),
    )
    user_timeout_seconds: float = user_timeout(1.0, " of the client", only_with=("ended_by", "user-timeout"))
    stall_seconds: float = duration(2.0, "how long the server does not read", only_with=("ended_by", "reading"))
    # Arbitrary, but small: the kernel doubles both, and grows neither once it was set (socket(7)).
    receive_buffer: int = option(8192, "SO_RCVBUF of the server", unit="bytes", least=4096, most=1048576)

    @property
    def total(self) -> int:
        """Bytes that the client wants to send: more than both buffers hold."""
        return self.receive_buffer * 16

    @property
    def due(self) -> tuple[str, float]:
        """What is measured, and its length in seconds."""
        if self.ended_by == "reading":
            return "client's send, until the server reads again", self.stall_seconds
        return "client's TCP_USER_TIMEOUT expiry", timers.RTO_MIN + self.user_timeout_seconds


async def server(play: Play) -> None:
    listener = play.listen()
    # Before the handshake, which advertises the first window.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, play.options.receive_buffer)
    await fault(await play.accept(listener), play)


async def fault(connection: Socket, play: Play) -> None:
    """Read one byte, then nothing for as long as it takes."""
    await connection.recv(1)
    play.cues["idle"].set()
    stalls, left = play.options.ended_by == "reading", play.options.total
    play.notes.step("server", f"does not read{f' for {play.options.stall_seconds:g} s' if stalls else ''}")
    with trio.move_on_after(play.options.stall_seconds if stalls else math.inf):
        await play.cues["expired"].wait()
    play.notes.step("server", f"reads again; {connection.unread()} bytes are waiting")
    while left and (told := await connection.recv(65536)).data:
        left -= len(told.data)
    if stalls:
        await connection.send(b"answer")
        await connection.recv(65536)


async def script(play: Play) -> None:
    options: ZeroWindow = play.options
    client = play.socket("client")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.receive_buffer)
    if options.ended_by == "user-timeout":
        sockets.user_timeout(client, seconds=options.user_timeout_seconds)
    await client.connect(await play.cues.serving())
    await client.send(b"x")
    await play.cues["idle"].wait()
    began_ns = time.time_ns()
    name, due = options.due
    play.notes.expect(name, ends=due)
    told = await client.send_all(bytes(options.total))
    if options.ended_by == "user-timeout":
        play.notes.measure(name, predicted=due, began_ns=began_ns, ended_ns=told.ended_ns)
        await client.recv(65536)
        await client.send(b"x")
        play.cues["expired"].set()
    else:
        await client.recv(65536)
        stopped = play.transcript.calls_of("server", "recv")[0]
        waited = max(play.transcript.calls_of("client", "send"), key=lambda call: call.ended_ns - call.began_ns)
        play.notes.measure(name, predicted=due, began_ns=stopped.ended_ns, ended_ns=waited.ended_ns)
        client.close()


def promise(options: ZeroWindow, play: Play) -> Promise:
    name, due = options.due
    client, server = ["send ETIMEDOUT", "recv EOF", "send EPIPE"], ["recv ECONNRESET"]
    wire, resets = ["client RST"], [Rst("client", "NO_SOCKET")]
    counters = {"TcpExtTCPAbortOnTimeout": 1, "TcpEstabResets": 2, "TcpOutRsts": 1}
    if options.ended_by == "reading":
        client, server = ["recv 6", "close ok"], ["send 6", "recv EOF"]
        wire, resets, counters = ["server PSH,ACK 6", "client FIN,ACK"], [], {}
    probes = AtLeast(0 if options.ended_by == "reading" and due <= 0.5 else 1)
    return Promise(
        calls={
            "client": ["connect ok", "send 1", "send n +", *client],
            "server": ["accept ok", "recv 1", "recv n +", *server],
        },
        packets=["client SYN", "server SYN,ACK", "client PSH,ACK 1", "client ACK n | client PSH,ACK n +", *wire],
        resets=resets,
        counters={"TcpExtTCPWinProbe": probes, **counters},
        measurements=[name],
        seconds=due,
    )


def doing(options: ZeroWindow) -> str:
    if options.ended_by == "reading":
        return f"The server does not read for {options.stall_seconds:g} s, the client's send waits, and nothing dies."
    limit = f"TCP_USER_TIMEOUT = {options.user_timeout_seconds * 1000:g} ms"
    return f"The server does not read, the client's send waits, and {limit} ends it."


CAUSE = described(
    __name__,
    family="timer",
    summary="the peer does not read: send() waits, if need be for ever",
    story=(
        "The receiver's buffer is full, and its kernel advertises window 0. The sender may not send, so it probes the "
        "window with doubling pauses (RFC 9293 section 3.8.6.1; tcp_probe_timer()). The peer's kernel answers, so the "
        "connection is not dead, and by default the wait never ends: no keepalive and no retry limit applies. "
        "TCP_USER_TIMEOUT ends it although the probes are answered: ETIMEDOUT, and no RST. The receiver learns when it "
        "reads at last: the window that it then offers is answered with RST, behind the data that it already has."
    ),
    variants=({}, {"ended_by": "reading", "stall_seconds": 0.6}),
    served={"": Served(lambda conn: conn.stop_reading(), hangs=True)},
    lookalikes={
        "retransmit-timeout": "nothing comes back at all: ss -to shows timer:(on,...) instead of timer:(persist,...)",
        "keepalive-timeout": "the sender was idle: nothing was waiting to be sent (ss: Send-Q 0)",
        "idle-firewall": "the peer reads, but nothing gets there",
    },
    met=(
        "a consumer that is stuck in a lock, a debugger, SIGSTOP or a long garbage collection while a producer writes",
        "a client that pauses a download: the server's worker hangs in send() for hours",
        "two programs that both write before they read: both windows close, a deadlock",
    ),
    remedy=(
        "ss -tmo on the sender: Send-Q full, timer:(persist,...); on the receiver Recv-Q full: look at that program",
        "TCP_USER_TIMEOUT, or a write timeout of the program (nginx send_timeout), on whoever serves slow readers",
        "read and write at the same time, or bound what is sent before an answer is read",
    ),
)
