# Of an answer that is in flight the segment is lost, and the reset behind it is not. Its sequence number lies beyond what the
# client has, so the client's kernel asks (challenge ACK, RFC 5961 section 3.2), and the server's, whose socket is gone and the
# answer with it, confirms: bare RST, reason TCP_FLAGS (the ACK meets the listener), or NO_SOCKET if nobody listens any more.
# Of one that was received Linux keeps the queue: a recv still finds it, after the ECONNRESET that the next send takes.
# The loss is produced by TTLs: the client takes nothing below 2 (IP_MINTTL), and the answer leaves with 1 (IP_TTL). The
# server then speaks up and closes in one breath, so that no retransmission can come in between. Linux 6.18.
from __future__ import annotations

import socket
from dataclasses import dataclass

import h11
import trio

from faultkit import sockets
from faultkit.acting.exchange import answer, next_event, written
from faultkit.cause import AtLeast, Options, Play, Promise, Rst, Served, Socket, described, option

LINGERING = 5.0  # seconds without data after which the server gives the client up: nginx's lingering_timeout
HEAD = 1024  # bytes that the server reads at first: enough for the head of the request, not for its body
PART = 8192  # bytes of the body that the client sends at a time


@dataclass(frozen=True)
class EarlyResponse(Options):
    answer: str = option("in-flight", "where the answer is when the server closes", choices=("in-flight", "received"))
    lingering: bool = option(False, "the remedy: shutdown(SHUT_WR), read the rest of the upload, then close()")

    @property
    def lost(self) -> bool:
        return self.answer == "in-flight"


async def fault(connection: Socket, play: Play) -> None:
    http = h11.Connection(h11.SERVER)
    assert isinstance(await next_event(connection, http, size=HEAD), h11.Request)
    await play.cues["sent"].wait()
    await connection.readable()
    connection.unread()
    if play.options.lost:
        sockets.whisper(connection)
    await connection.send(_refusal(http))
    play.cues["answered"].set()
    await play.cues["where"].wait()
    if play.options.lost:
        sockets.speak_up(connection)
    if play.options.lingering:
        connection.shutdown(socket.SHUT_WR)
        play.cues["closing"].set()
        with trio.move_on_after(LINGERING):
            await connection.drain()
    connection.close()
    play.cues["closed"].set()


def _refusal(http: h11.Connection | None = None) -> bytes:
    return answer(http or h11.Connection(h11.SERVER), b"", status=413, more=[("Connection", "close")])


async def script(play: Play) -> None:
    options: EarlyResponse = play.options
    address = await play.cues.serving()
    client = play.socket("client")
    http = h11.Connection(h11.CLIENT)
    await client.connect(address)
    headers = [("Host", str(address)), ("Content-Length", str(2 * PART))]
    head = h11.Request(method="POST", target="/upload", headers=headers)
    await client.send(written(http, head, h11.Data(bytes(PART))))
    await client.delivered()
    if options.lost:
        sockets.hear_only_stack(client)
    play.cues["sent"].set()
    await play.cues["answered"].wait()
    if options.lost:
        await client.dropped(1)
        play.notes.step("network", "the answer is lost on its way, and nothing after it")
    else:
        await client.readable()
    play.cues["where"].set()
    await play.cues["closing" if options.lingering else "closed"].wait()
    await (client.readable() if options.lingering else client.over())
    await client.send(written(http, h11.Data(bytes(PART))))
    await client.drain()
    client.close()


def promise(options: EarlyResponse, play: Play) -> Promise:
    wire = ["client SYN", "server SYN,ACK", "client PSH,ACK n", "server PSH,ACK n"]
    lost = options.lost
    if options.lingering:
        return Promise(
            calls={
                "client": ("connect ok", "send n", "send n", "recv n", "recv EOF", "close ok"),
                "server": ("accept ok", "recv n", "send n", "shutdown ok", "recv n +", "recv EOF", "close ok"),
            },
            # The lost answer comes again once the FIN behind it has arrived: a fast retransmission, or one by the timer.
            packets=[*wire, "server FIN,ACK", "server PSH,ACK n *", "client PSH,ACK n", "client FIN,ACK"],
            resets=(),
            counters={"TcpRetransSegs": AtLeast(1)} if lost else {},
            seconds=0.4 if lost else 0.1,
        )
    confirmed, got = ({"TcpExtTCPChallengeACK": 1}, []) if lost else ({}, ["recv n"])
    return Promise(
        calls={
            "client": ("connect ok", "send n", "send ECONNRESET", *got, "recv EOF", "close ok"),
            "server": ("accept ok", "recv n", "send n", "close ok"),
        },
        packets=[*wire, "server RST,ACK", *(["server RST"] if lost else [])],
        resets=(Rst("server", "TCP_ABORT_ON_CLOSE"), *([Rst("server", "TCP_FLAGS")] if lost else [])),
        counters={"TcpExtTCPAbortOnClose": 1, "TcpOutRsts": 2 if lost else 1, "TcpEstabResets": 2, **confirmed},
    )


def doing(options: EarlyResponse) -> str:
    where = "its answer is lost on the way" if options.lost else "its answer has arrived"
    close = "shuts down, reads the rest, then closes" if options.lingering else "closes with the upload unread"
    return f"The server answers an upload with 413 after the head and {close}; {where}."


CAUSE = described(
    __name__,
    family="application",
    summary="answered before the upload was read: RST eats the 413",
    story=(
        "A server that refuses an upload early answers, then closes with the rest of the body unread, and such a close is a "
        "reset (RFC 1122 section 4.2.2.13; tcp_close()). It destroys the answer: what is unacknowledged is never sent "
        "again, since the socket is gone, and the client, still writing, is told ECONNRESET by its send before it has read "
        "anything. RFC 9112 section 9.6 therefore asks for a close in two steps: stop writing, go on reading, then close."
    ),
    variants=({}, {"answer": "received"}, {"lingering": True}, {"answer": "received", "lingering": True}),
    served={"": Served(lambda conn: conn.early_response(_refusal()), unread=True, speaks_plain=True)},
    lookalikes={
        "unread": "the same reset, but no answer was sent before it",
        "keepalive-race": "the request was small and complete; here it is an upload, and fails every time",
        "crash": "the server's process is gone, and its log has no answer for that request",
    },
    met=(
        "413, 401 or 400 from an application server turned into 502 by the proxy before it, only for large bodies",
        '"connection reset by peer" while uploading, and a 413 for the same request in the server\'s access log',
        "curl: (55) Send failure or (56) Recv failure: Connection reset by peer, instead of the error page",
    ),
    remedy=(
        "lingering close: shutdown(SHUT_WR), read and discard with a time limit, close() (nginx: lingering_close always)",
        "clients: send Expect: 100-continue before a large body, so that the refusal comes before the upload",
        "clients: read on after a failed send; on Linux an answer that has arrived is still there",
    ),
)
