# nginx keeps an idle upstream connection for 60 s (keepalive_timeout of the upstream block), its upstream for 500 ms.
# The three places that the upstream's FIN can be in when nginx sends the next request are met from the upstream's side,
# because nginx's socket is nginx's own:
#   unsent       the timer has run out, the program closes when the request is in its receive buffer
#   in-flight    close() is done, the FIN held back by TCP's own pacing (sockets.hold_back)
#   unprocessed  nginx is stopped, as if it were busy: its kernel takes first a client's request, then the FIN. epoll tells
#                of them in this order (ep_poll_callback() appends to the ready list), so nginx reuses the connection
#                before it looks at it. nginx.conf runs one process, so that the one that is stopped is the one that works.
from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
import trio

from faultkit import sockets
from faultkit.acting.exchange import Client, asked
from faultkit.acting.program import Part
from faultkit.cause import option
from faultkit.causes.keepalive_race import intervals
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.acting.program import Program
    from faultkit.witness.calls import Socket

# As in nginx.conf and app.js.
NGINX, APP = Address("127.0.0.1", 8080), Address("127.0.0.1", 8081)
IDLE = 0.5
PARTS = {"nginx": Part("nginx", "nginx", ("-v",)), "node": Part("node", "nodejs")}
FINS = ("unsent", "in-flight", "unprocessed")
METHODS = ("GET", "POST")
RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
CLOSED = "upstream prematurely closed connection while reading response header from upstream"
SEEN = {
    "unsent": (RESET, "TCP_ABORT_ON_CLOSE", {"TcpExtTCPAbortOnClose": 1, "TcpEstabResets": 2}),
    "in-flight": (RESET, "TCP_ABORT_ON_DATA", {"TcpExtTCPAbortOnData": 1, "TcpEstabResets": 1}),
    "unprocessed": (CLOSED, "TCP_TIMEWAIT_SOCKET", {"TcpEstabResets": 1}),
}
# Instead, where close() has kept its socket: see Play.fin_acknowledged().
SEEN_BY_A_SOCKET = (CLOSED, "TCP_ABORT_ON_DATA", {"TcpExtTCPAbortOnData": 1, "TcpEstabResets": 1})
# What `sockets.hold_back` wants: more than ten segments before the last, whose bytes are the seconds of the hold.
PIECE, BODY = 3, b"hello, nginx\n"


@dataclass(frozen=True)
class NginxKeepalive(StackOptions):
    fin: str = option("all", "where the upstream's FIN is when nginx sends the request", choices=("all", *FINS))
    upstream: str = option("faultkit", "faultkit's own server, or Node's, which is swept", choices=("faultkit", "node"))
    sweep: str = option(
        "501:450",
        "the intervals in ms at which Node's connection is reused",
        metavar="FROM:TO",
        only_with=("upstream", "node"),
    )

    def check(self) -> None:
        intervals(self.sweep)

    @property
    def fins(self) -> tuple[str, ...]:
        return FINS if self.fin == "all" else (self.fin,)


class Upstream:
    """faultkit's own HTTP/1.1 server behind nginx. It closes what was idle for `IDLE`, in the way the script wants it."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._over, self.over = trio.open_memory_channel[tuple["Socket", bool]](16)
        self.held = False  # the answer to GET /prime is to be followed by a FIN that is held back

    async def serve(self) -> None:
        listener = self._play.listen(APP.port, role="app")
        while (connection := await listener.accept()) is not None:
            self._play.beside.start_soon(self._serve_one, connection)

    async def _serve_one(self, connection: Socket) -> None:
        """Tell, through `over`, who ended it: the idle timer (True), and then it is the script's to close, or nginx."""
        http = h11.Connection(h11.SERVER)
        while target := await asked(connection, http):
            await self._answer(connection, http, held=self.held and target == b"/prime")
            http.start_next_cycle()
            with trio.move_on_after(IDLE) as idle:
                await connection.readable()
            if idle.cancelled_caught:
                self._play.notes.step("app", f"idle for {IDLE * 1000:g} ms: its timer has run out")
                await self._over.send((connection, True))
                return
        connection.close()
        await self._over.send((connection, False))

    async def _answer(self, connection: Socket, http: h11.Connection, *, held: bool) -> None:
        head = http.send(h11.Response(status_code=200, headers=[("Content-Length", str(len(BODY)))])) or b""
        data = head + (http.send(h11.Data(BODY)) or b"") + (http.send(h11.EndOfMessage()) or b"")
        if not held:
            await connection.send(data)
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each piece a segment
        for at in range(0, len(data) - PIECE, PIECE):
            await connection.send(data[at : min(at + PIECE, len(data) - PIECE)])
        sockets.hold_back(connection)
        await connection.send(data[-PIECE:])


async def script(play: Play) -> None:
    play.programs.callers({NGINX: "client", APP: "nginx"})
    nginx = await play.programs.start("nginx", PARTS["nginx"], "-e", "stderr", "-p", ".", "-c", "nginx.conf")
    await nginx.listens(NGINX)
    client = Client(play, NGINX)
    if play.options.upstream == "node":
        node = await play.programs.start("app", PARTS["node"], "app.js")
        await node.listens(APP)
        await _sweep(play, client)
        return
    upstream = Upstream(play)
    play.beside.start_soon(upstream.serve)
    await play.cues.serving()
    for fin in play.options.fins:
        for method in METHODS:
            await _race(play, nginx, client, upstream, fin, method)


async def _race(play: Play, nginx: Program, client: Client, upstream: Upstream, fin: str, method: str) -> None:
    """One request to prime the connection, and one that meets its close."""
    upstream.held = fin == "in-flight"
    await client.request("GET", "/prime")
    kept, expired = await upstream.over.receive()
    body = b"once" if method == "POST" else b""
    if not expired:
        await client.request(method, f"/{fin}", body=body, note="nginx had closed the idle connection itself")
        return
    if fin == "unsent":
        await client.ask(method, f"/{fin}", body=body)
        await kept.readable()
        kept.unread()
        kept.close()
    elif fin == "in-flight":
        kept.close()
        await client.ask(method, f"/{fin}", body=body)
    else:
        with nginx.stopped():
            await client.ask(method, f"/{fin}", body=body)
            await client.socket.delivered()
            [end] = play.transcript.connections[kept.role, kept.number] - {APP}
            kept.close()
            await play.fin_acknowledged(APP, end)
            if "nginx" in play.kept:
                play.kept.remove("nginx")
                play.cues[f"{method} meets a socket"].set()
    await client.answer("retried on a new connection" if method == "GET" else "not retried: it may have been done")


async def _sweep(play: Play, client: Client) -> None:
    """The classic hunt: one request after the other at intervals around the server's timeout, and hope."""
    direct = Client(play, APP)
    await direct.request("GET", "/direct")
    began_ns = time.time_ns()
    await direct.socket.readable()
    ended_ns = time.time_ns()
    buffer = " (about a second later: keepAliveTimeoutBuffer)" if ended_ns - began_ns > (IDLE + 1) * 1e9 else ""
    play.notes.measure(f"Node closes what is idle{buffer}", predicted=IDLE, began_ns=began_ns, ended_ns=ended_ns)
    direct.close()
    tried = intervals(play.options.sweep)
    play.notes.expect("end of the sweep", tick="request", ticks=(), ends=sum(tried) / 1000)
    last = await client.request("GET", "/prime")
    for milliseconds in tried:
        await trio.sleep(milliseconds / 1000)
        one = await client.request("POST", "/sweep", body=b"once")
        if one.outcome != "200":
            outcome = one.outcome
        elif one.body == last.body:
            outcome = "answered"
        else:
            outcome = "answered on a new connection, the old one was closed already"
        play.notes.tally(f"{milliseconds} ms", outcome)
        last = one


def promise(options: NginxKeepalive, play: Play) -> Promise:
    if options.upstream == "node":
        tried = intervals(options.sweep)
        seconds = sum(tried) / 1000 + 5 * IDLE
        if not options.fixed:
            return Promise(calls={}, packets=None, resets=None, counters=None, seconds=seconds)
        told = ["GET /direct 200", "GET /prime 200", *["POST /sweep 200"] * len(tried)]
        return Promise(calls={}, packets=None, exchanges=told, lines={"nginx": ()}, seconds=seconds)
    races = [(fin, method) for fin in options.fins for method in METHODS]
    status = {"GET": "200", "POST": "200" if options.fixed else "502"}
    told = [line for fin, method in races for line in ("GET /prime 200", f"{method} /{fin} {status[method]}")]
    seen = []
    for fin, method in () if options.fixed else races:
        at_socket = fin == "unprocessed" and play.cues[f"{method} meets a socket"].is_set()
        seen.append(SEEN_BY_A_SOCKET if at_socket else SEEN[fin])
    counters = {name: sum(moved.get(name, 0) for *_, moved in seen) for _, _, one in seen for name in one}
    return Promise(
        calls={},
        packets=None,
        resets=[Rst("app", reason) for _, reason, _ in seen],
        counters={**counters, "TcpOutRsts": len(seen)},
        exchanges=told,
        lines={"nginx": [line for line, *_ in seen]},
        seconds=IDLE * 1.2 * len(races),
    )


def doing(options: NginxKeepalive) -> str:
    nginx = "200 ms" if options.fixed else "60 s"
    who = (
        "a Node server with keepAliveTimeout = 500"
        if options.upstream == "node"
        else "an upstream that closes after 500 ms"
    )
    return f"nginx keeps idle connections for {nginx} to {who}."


def shows(options: NginxKeepalive) -> tuple[str, ...]:
    if options.upstream == "node":
        return (f"keepalive-race --sweep {options.sweep}",)
    return tuple("keepalive-race" + ("" if fin == "unsent" else f" --fin {fin}") for fin in options.fins)


def parts(options: NginxKeepalive) -> tuple[Part, ...]:
    return tuple(PARTS[name] for name in ("nginx", "node") if name == "nginx" or options.upstream == "node")


STACK = stack(
    __file__,
    shows=shows,
    parts=parts,
    doing=doing,
    script=script,
    promise=promise,
    options=NginxKeepalive,
    variants=(
        {},
        {"fixed": True},
        {"upstream": "node", "sweep": "501:496"},
        {"upstream": "node", "sweep": "501:496", "fixed": True},
    ),
)
