# HAProxy has two connections for each request, and closes them in different ways: towards the server nearly always with
# SO_LINGER {on, 0}, so with RST, towards the client with FIN, unless `option nolinger` says otherwise. Four resets, and
# which side resets whom (HAProxy 2.6):
#   idle            the upstream closes an idle connection while a request is on its way: the upstream resets HAProxy
#   nolinger        HAProxy resets its client, and what the client's kernel had no room for is lost
#   check           a health check that has its answer is over for HAProxy: it resets the upstream
#   timeout-server  HAProxy does not wait any longer: it resets the upstream, and the client gets 504, or half an answer
#                   and FIN
# On a client's connection that has carried a request before, HAProxy gives no 502: it closes without a word and logs
# nothing, so that the client may try again as with a server of its own (RFC 9112 section 9.3.1).
from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
import trio

from faultkit.acting.exchange import Client, answer, asked
from faultkit.acting.program import Part
from faultkit.cause import option
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.acting.program import Program
    from faultkit.witness.calls import Socket

HAPROXY = Part("haproxy", "haproxy", ("-v",))
# As in haproxy.cfg.
IDLE, LONG, SLOW = (Address("127.0.0.1", port) for port in (8080, 8081, 8082))
APP = Address("127.0.0.1", 8090)
CASES = ("idle", "nolinger", "check", "timeout-server")
PAUSE = 0.3  # seconds between two requests; as long as app.toml's idle_seconds
SILENCE = 0.8  # seconds; how long the upstream thinks
# More than a client's receive buffer takes (tcp_rmem: 128 KiB), less than it and HAProxy's send buffer together.
LARGE = bytes(300_000)
BODY = b"hello, haproxy\n"


@dataclass(frozen=True)
class HAProxy(StackOptions):
    reset: str = option("all", "which of the resets to meet", choices=("all", *CASES))

    @property
    def cases(self) -> tuple[str, ...]:
        return CASES if self.reset == "all" else (self.reset,)


class App:
    """The upstream of all four, an HTTP/1.1 server of our own: what it does depends on what it is asked for."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._expiry: float = tomllib.loads((play.programs.directory / "app.toml").read_text())["idle_seconds"]
        # Whose timer has run out after GET /prime is the script's to close.
        self._idle, self.idle = trio.open_memory_channel["Socket"](16)

    async def serve(self) -> None:
        listener = self._play.listen(APP.port, role="app")
        while (connection := await listener.accept()) is not None:
            self._play.beside.start_soon(self._serve_one, connection)

    async def _serve_one(self, connection: Socket) -> None:
        http = h11.Connection(h11.SERVER)
        target = b""
        while found := await asked(connection, http):
            target = found
            whole = answer(http, LARGE if target == b"/long" else BODY)
            before = {b"/wait": 0, b"/half": len(whole) - len(BODY) // 2}.get(target, len(whole))
            await _send(connection, whole[:before])
            if whole[before:]:
                if not await self._silent(connection, SILENCE):
                    await connection.recv(1)
                    break
                await _send(connection, whole[before:])
            if target == b"/health":
                # Whose end comes first is a race: this server's comes second.
                await connection.readable()
                await connection.recv(1)
            if http.our_state is h11.MUST_CLOSE:
                break
            http.start_next_cycle()
            if target == b"/prime" and await self._silent(connection, self._expiry):
                self._play.notes.step("app", f"idle for {self._expiry * 1000:g} ms: its timer has run out")
                await self._idle.send(connection)
                return
        connection.close()
        self._play.cues[f"{target.decode()} is over"].set()

    async def _silent(self, connection: Socket, seconds: float) -> bool:
        """Has nothing come from HAProxy, no request and no end, for so long?"""
        with trio.move_on_after(seconds) as waiting:
            await connection.readable()
        return waiting.cancelled_caught


async def _send(connection: Socket, data: bytes) -> None:
    while data:
        sent = await connection.send(data)
        if not sent.outcome.isdecimal():
            break
        data = data[int(sent.outcome) :]


async def script(play: Play) -> None:
    play.programs.callers({**dict.fromkeys((IDLE, LONG, SLOW), "client"), APP: "haproxy"})
    app = App(play)
    play.beside.start_soon(app.serve)
    await play.cues.serving()
    haproxy = await play.programs.start("haproxy", HAPROXY, "-f", "haproxy.cfg")
    for address in (IDLE, LONG, SLOW):
        await haproxy.listens(address)
    await play.cues["/health is over"].wait()
    if "idle" in play.options.cases:
        await _idle(play, app)
    if "nolinger" in play.options.cases:
        await _nolinger(play, haproxy)
    if "timeout-server" in play.options.cases:
        client = Client(play, SLOW)
        for target, note in ("/wait", "no answer in time"), ("/half", "half an answer, and silence"):
            await client.request("GET", target, note="" if play.options.fixed else note)
            if not play.options.fixed:
                await play.cues[f"{target} is over"].wait()


async def _idle(play: Play, app: App) -> None:
    """The race from the upstream's side: its timer has run out, and the request is there before it closes."""
    await Client(play, IDLE).request("GET", "/prime")
    client = Client(play, IDLE)
    await _race(play, app, client, "the first request on the client's connection")
    await client.request("GET", "/prime")
    await _race(play, app, client, "not the first: closed without a word, and nothing logged")


async def _race(play: Play, app: App, client: Client, note: str) -> None:
    if play.options.fixed:
        await trio.sleep(PAUSE)
        await client.request("GET", "/race", note="on the connection that was idle")
        return
    kept = await app.idle.receive()
    await client.ask("GET", "/race")
    await kept.readable()
    kept.unread()
    kept.close()
    await client.answer(note)


async def _nolinger(play: Play, haproxy: Program) -> None:
    """The client is busy until HAProxy is done with it."""
    client = Client(play, LONG)
    await client.ask("GET", "/long", last=True)
    await haproxy.said('"GET /long HTTP/1.1"')
    if not play.options.fixed:
        await client.socket.over()
    one = await client.answer()
    play.notes.step("client", f"{len(one.body)} of {len(LARGE)} bytes have arrived")


def promise(options: HAProxy, play: Play) -> Promise:
    # HAProxy's log: status, bytes, and the state at the end, which says who ended it (S: the server; s: its timeout) and
    # when (H: before the answer's head; D: in its body).
    requests: dict[str, list[tuple[str, str, str]]] = {
        "idle": [
            ("GET /prime", "200", " 200 63 - - ---- "),
            ("GET /race", "502", " 502 209 - - SH-- "),
            ("GET /prime", "200", " 200 63 - - ---- "),
            ("GET /race", "recv EOF", ""),
        ],
        "nolinger": [("GET /long", "200 then recv ECONNRESET", " 200 300052 - - ---- ")],  # HAProxy knows of nothing
        "check": [],
        "timeout-server": [
            ("GET /wait", "504", " 504 198 - - sH-- "),
            ("GET /half", "200 then recv EOF", " 200 56 - - sD-- "),
        ],
    }
    asked = [one for case in options.cases for one in requests[case]]
    if options.fixed:
        size = {"GET /long": 300052}
        return Promise(
            calls={},
            packets=None,
            exchanges=[f"{request} 200" for request, *_ in asked],
            lines={"haproxy": [f" 200 {size.get(request, 63)} - - ---- " for request, *_ in asked]},
            seconds=3.0,
        )
    # HAProxy checks in any case.
    cases = ["check", *(case for case in options.cases if case != "check")]
    aborts = Rst("haproxy", "TCP_STATE")
    resets = {
        "idle": [Rst("app", "TCP_ABORT_ON_CLOSE")] * 2,
        "nolinger": [aborts],
        "check": [aborts],
        "timeout-server": [aborts] * 2,
    }
    sent = [rst for case in cases for rst in resets[case]]
    return Promise(
        calls={},
        packets=None,
        resets=sent,
        counters={
            "TcpOutRsts": len(sent),
            # Who resets, and who is reset. With nolinger HAProxy is in FIN-WAIT-1 by then, which is not counted.
            "TcpEstabResets": 2 * len(sent) - cases.count("nolinger"),
            "TcpExtTCPAbortOnData": sent.count(aborts),
            "TcpExtTCPAbortOnClose": len(sent) - sent.count(aborts),
        },
        exchanges=[f"{request} {outcome}" for request, outcome, _ in asked],
        lines={"haproxy": [line for *_, line in asked if line]},
        seconds=3.0,
    )


def doing(options: HAProxy) -> str:
    return f"HAProxy between a client and a server, and the ends that it makes of them: {', '.join(options.cases)}."


def shows(options: HAProxy) -> tuple[str, ...]:
    causes = ("keepalive-race" if case == "idle" else "linger" for case in options.cases)
    return tuple(dict.fromkeys(causes))


def parts(options: HAProxy) -> tuple[Part, ...]:
    return (HAPROXY,)


STACK = stack(
    __file__,
    shows=shows,
    parts=parts,
    doing=doing,
    script=script,
    promise=promise,
    options=HAProxy,
)
