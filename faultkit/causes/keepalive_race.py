# Where the FIN is when the request is sent decides which error the client sees; each place is produced by events, not by timing:
#   unsent       the request is in the server's receive buffer when it closes: RST,ACK, reason TCP_ABORT_ON_CLOSE
#   in-flight    the FIN is sent and not there yet: the request meets FIN-WAIT, bare RST, reason TCP_ABORT_ON_DATA
#   unprocessed  the FIN is in the client's kernel, the program has not looked: reason TCP_TIMEWAIT_SOCKET
# Unprocessed needs the FIN acknowledged before the request goes out, else it would be TCP_ABORT_ON_DATA. The kernel delays
# that acknowledgement by 40 ms, and TCP_QUICKACK does nothing while the FIN sits in the receive queue. Where close() took those
# 40 ms the reason is TCP_ABORT_ON_DATA all the same (Play.fin_acknowledged()).
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import h11
import trio

from faultkit import sockets
from faultkit.acting.dialogue import FOUND_OUT, ask
from faultkit.acting.exchange import answer, asked, next_event, written
from faultkit.cause import Misuse, Options, Play, Promise, Rst, Served, Socket, Trigger, described, option
from faultkit.evidence.transcript import Call
from faultkit.options import duration


@dataclass(frozen=True)
class KeepaliveRace(Options):
    timeout_seconds: float = duration(0.5, "the server's idle keep-alive timeout", most=3600000)
    fin: str = option(
        "unsent", "where the server's FIN is when the request is sent", choices=("unsent", "in-flight", "unprocessed")
    )
    sweep: str | None = option(
        None, "hunt the race by timing instead: intervals in ms, e.g. 501:450", metavar="FROM:TO"
    )

    def check(self) -> None:
        if self.sweep is not None:
            intervals(self.sweep)


def intervals(sweep: str) -> list[int]:
    """The intervals of a sweep in ms, by steps of 1, downwards or upwards."""
    first, colon, last = sweep.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and 0 < int(first) <= 60000 and 0 < int(last) <= 60000):
        raise Misuse(f"--sweep {sweep} is not FROM:TO in milliseconds, each 1 to 60000: take 501:450")
    down = -1 if int(first) > int(last) else 1
    return list(range(int(first), int(last) + down, down))


async def server(play: Play) -> None:
    listener = play.listen()
    if play.options.sweep is None:
        await fault(await play.accept(listener), play)
        return
    async with trio.open_nursery() as nursery:

        async def accept_all() -> None:
            while (connection := await listener.accept()) is not None:
                nursery.start_soon(fault, connection, play)

        nursery.start_soon(accept_all)
        await play.cues["swept"].wait()
        nursery.cancel_scope.cancel()


async def fault(connection: Socket, play: Play) -> None:
    """HTTP/1.1 until the client has been idle for the timeout, then the close."""
    http = h11.Connection(h11.SERVER)
    while await asked(connection, http):
        await connection.send(answer(http, b"hello\n"))
        http.start_next_cycle()
        with trio.move_on_after(play.options.timeout_seconds) as idle:
            await connection.readable()
        if idle.cancelled_caught:
            break
    if play.options.sweep is None:
        play.notes.step("server", f"idle for {play.options.timeout_seconds * 1000:g} ms: closes the connection")
        if play.options.fin == "unsent":
            play.cues["expired"].set()
            await connection.readable()
            connection.unread()
        elif play.options.fin == "in-flight":
            sockets.whisper(connection)
    connection.close()
    play.cues["closed"].set()


def _request(http: h11.Connection, host: str) -> bytes:
    return written(http, h11.Request(method="GET", target="/", headers=[("Host", host)]), h11.EndOfMessage())


async def _exchange(client: Socket, http: h11.Connection, host: str) -> str:
    """One request and its answer. Gives "answered", or what the failing call was told."""
    sent = await client.send(_request(http, host))
    if not sent.outcome.isdecimal():
        return sent.told
    while not isinstance(event := await next_event(client, http), h11.EndOfMessage):
        if isinstance(event, Call):
            return event.told
    http.start_next_cycle()
    return "answered"


async def script(play: Play) -> None:
    if play.options.sweep is not None:
        await _sweep(play)
        return
    address = await play.cues.serving()
    client = play.socket("client")
    http = h11.Connection(h11.CLIENT)
    await client.connect(address)
    await _exchange(client, http, str(address))
    if play.options.fin == "unsent":
        await play.cues["expired"].wait()
    else:
        if play.options.fin == "in-flight":
            sockets.hear_only_stack(client)
        await play.cues["closed"].wait()
        if play.options.fin == "unprocessed":
            await client.readable()
            await play.fin_acknowledged(address, client.address)
            play.notes.step("client", "its kernel has taken and acknowledged the FIN; the program has not looked")
    request = _request(http, str(address))
    await ask(client, request)
    if play.options.fin != "unprocessed":
        await client.recv(65536)
    await client.send(request)


async def _sweep(play: Play) -> None:
    """The classic hunt: reuse one connection at intervals around the server's timeout, and hope.

    The client looks before it reuses, as the pools of HTTP clients do: what it finds closed it does not use.
    """
    address = await play.cues.serving()
    tried = intervals(play.options.sweep)
    play.notes.expect("end of the sweep", tick="request", ticks=(), ends=sum(tried) / 1000)
    client: Socket | None = None
    for milliseconds in tried:
        if client is None:
            client, http = play.socket("client"), h11.Connection(h11.CLIENT)
            await client.connect(address)
            await _exchange(client, http, str(address))
        await trio.sleep(milliseconds / 1000)
        outcome = "closed already" if client.ready() else await _exchange(client, http, str(address))
        play.notes.tally(f"{milliseconds} ms", outcome)
        if outcome != "answered":
            client.close()
            client = None
    play.cues["swept"].set()


def promise(options: KeepaliveRace, play: Play) -> Promise:
    if options.sweep is not None:
        seconds = (sum(intervals(options.sweep)) / 1000 + options.timeout_seconds) * 1.2
        return Promise(calls={}, packets=None, resets=None, counters=None, seconds=seconds)
    told: Sequence[str] = FOUND_OUT
    wire: tuple[str, ...] = ("server FIN,ACK", "client PSH,ACK n", "server RST")
    reason, resets, counters = "TCP_ABORT_ON_DATA", 1, {"TcpExtTCPAbortOnData": 1}
    if options.fin == "unsent":
        wire = ("client PSH,ACK n", "server RST,ACK")
        reason, resets, counters = "TCP_ABORT_ON_CLOSE", 2, {"TcpExtTCPAbortOnClose": 1}
    elif options.fin == "unprocessed":
        told, (reason, counters) = FOUND_OUT[1:], play.refusal()
    return Promise(
        calls={
            "client": ("connect ok", "send n", "recv n", "send n", *told),
            "server": ("accept ok", "recv n", "send n", "close ok"),
        },
        packets=("client SYN", "server SYN,ACK", "client PSH,ACK n", "server PSH,ACK n", *wire),
        resets=(Rst("server", reason),),
        counters={**counters, "TcpEstabResets": resets, "TcpOutRsts": 1},
        seconds=options.timeout_seconds,
    )


def doing(options: KeepaliveRace) -> str:
    limit = f"{options.timeout_seconds * 1000:g} ms"
    if options.sweep is not None:
        tried = intervals(options.sweep)
        return (
            f"A client reuses its connection every {tried[0]} to {tried[-1]} ms; the server closes after {limit} idle."
        )
    where = {
        "unsent": "the next request is already in its buffer",
        "in-flight": "the next request crosses its FIN",
        "unprocessed": "its FIN is in the client's kernel, and the client sends without looking",
    }
    return f"An HTTP server closes a connection idle for {limit} while {where[options.fin]}."


CAUSE = described(
    __name__,
    family="application",
    summary="HTTP idle expiry: a request crosses the server's close",
    story=(
        "The server's idle timer closes the connection at the moment in which the client reuses it (RFC 9112 section "
        "9.5). A request that finds the server's socket closing or gone is answered with RST. Before the FIN has reached "
        "the client its recv fails with ECONNRESET; once the FIN is there the client is in CLOSE-WAIT, and the kernel "
        'turns the same reset into EOF, then EPIPE (tcp_reset()). nginx logs the one as "recv() failed (104: Connection '
        'reset by peer)", the other as "upstream prematurely closed connection".'
    ),
    variants=(
        {"timeout_seconds": 0.05},
        {"timeout_seconds": 0.05, "fin": "in-flight"},
        {"timeout_seconds": 0.05, "fin": "unprocessed"},
        {"timeout_seconds": 0.05, "sweep": "53:48"},
    ),
    after_idle=True,
    served={
        "unsent": Served(lambda conn: conn.close_unread(), when=Trigger("requests", 2), unread=True),
        "in-flight": Served(lambda conn: conn.close_held(), when=Trigger("answers", 1), holds_fin=True),
        "unprocessed": Served(lambda conn: conn.close(), when=Trigger("answers", 1), ends_answer=True),
    },
    lookalikes={
        "unread": "the same RST,ACK on a first request: no idle time before it",
        "idle-firewall": "also after an idle time, but the request waits for seconds before it fails",
    },
    met=(
        "502s from nginx, HAProxy or a cloud load balancer in front of Node (5 s), gunicorn (2 s) or uvicorn (5 s)",
        '"socket hang up" and ECONNRESET in HTTP clients with a connection pool, on the first request after a pause',
    ),
    remedy=(
        "let timeouts nest: the one who sends requests gives an idle connection up before the one who answers them does",
        "retry an idempotent request once on a fresh connection when a reused one fails before any answer",
    ),
)
