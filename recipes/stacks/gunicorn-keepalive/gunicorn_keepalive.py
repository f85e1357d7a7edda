# nginx keeps an idle upstream connection for 65 s, gunicorn's gthread worker for `keepalive`, 2 s unless it is told
# otherwise. gunicorn closes first, by its own clock; what is forced is where its FIN is when nginx sends the next request:
#   in-flight    gunicorn's FIN does not reach nginx's socket, and the RST that answers nginx's request does
#                (sockets.whisper, sockets.hear_only_stack, set on the programs' own sockets)
#   unprocessed  nginx is stopped, as if it were busy: its kernel takes first a client's request, then the FIN, and epoll
#                tells nginx of them in this order
# There is no `unsent` here: a worker that finds a request asks for it before it looks at its timers.
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from faultkit import sockets
from faultkit.acting.exchange import Client
from faultkit.acting.program import Part
from faultkit.cause import option
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.options import duration
from faultkit.playing.stack import StackOptions, stack
from faultkit.witness.kernel import LOOK_AGAIN, tcp_state

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.acting.program import Program
    from faultkit.evidence.transcript import Exchange

# As in nginx.conf and gunicorn.conf.py.
NGINX, APP = Address("127.0.0.1", 8080), Address("127.0.0.1", 8081)
KEEPALIVE = 1
LOOKS = 1.0  # seconds: a gthread worker looks at its timers at least once in so many
PARTS = {"nginx": Part("nginx", "nginx", ("-v",)), "gunicorn": Part("gunicorn", "gunicorn")}
FINS = ("in-flight", "unprocessed")
METHODS = ("GET", "POST")
CLOSES = "before {} /{} gunicorn closes what is idle"
SEEN = {
    "in-flight": (
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "TCP_ABORT_ON_DATA",
    ),
    "unprocessed": (
        "upstream prematurely closed connection while reading response header from upstream",
        "TCP_TIMEWAIT_SOCKET",
    ),
}


@dataclass(frozen=True)
class GunicornKeepalive(StackOptions):
    fin: str = option("all", "where gunicorn's FIN is when nginx sends the next request", choices=("all", *FINS))
    keep_alive_seconds: float = duration(
        float(KEEPALIVE), "gunicorn's keepalive", least=1000, most=60000, multiple=1000, counted_by="gunicorn"
    )

    @property
    def fins(self) -> tuple[str, ...]:
        return FINS if self.fin == "all" else (self.fin,)

    @property
    def races(self) -> list[tuple[str, str]]:
        """Each place of the FIN with each method; fixed there is no FIN, and it is idle once for each method."""
        return [(fin, method) for fin in (("idle",) if self.fixed else self.fins) for method in METHODS]


async def script(play: Play) -> None:
    config = play.programs.directory / "gunicorn.conf.py"
    config.write_text(
        config.read_text().replace(f"keepalive = {KEEPALIVE}\n", f"keepalive = {play.options.keep_alive_seconds:g}\n")
    )
    play.programs.callers({NGINX: "client", APP: "nginx"})
    nginx = await play.programs.start("nginx", PARTS["nginx"], "-e", "stderr", "-p", ".", "-c", "nginx.conf")
    await nginx.listens(NGINX)
    app = await play.programs.start("app", PARTS["gunicorn"], "-c", "gunicorn.conf.py", "app")
    await app.listens(APP)
    client = Client(play, NGINX)
    longest = play.options.keep_alive_seconds + LOOKS
    play.notes.expect("end of the last idle time", ends=longest * len(play.options.races))
    for fin, method in play.options.races:
        primed = await client.request("GET", "/prime")
        if play.options.fixed:
            await trio.sleep(longest)
            await client.request(method, f"/{fin}", body=_body(method))
        else:
            await _race(play, nginx, app, client, fin, method, primed)


def _body(method: str) -> bytes:
    return b"once" if method == "POST" else b""


async def _race(
    play: Play, nginx: Program, app: Program, client: Client, fin: str, method: str, primed: Exchange
) -> None:
    """The request that meets gunicorn's close of the connection by which `primed` was answered."""
    end = Address(APP.host, int(primed.body))
    if fin == "in-flight":
        with app.borrowed(APP, end) as kept:
            sockets.whisper(kept)
        with nginx.borrowed(end, APP) as kept:
            sockets.hear_only_stack(kept)
        play.notes.step("network", "gunicorn's FIN will not arrive, and a RST that answers nginx will")
        # No end has an event for what the other's kernel does.
        while tcp_state(APP, end) != "FIN-WAIT-1":  # noqa: ASYNC110
            await trio.sleep(LOOK_AGAIN)
        _closed(play, primed, method, fin)
        await client.ask(method, f"/{fin}", body=_body(method))
    else:
        with nginx.stopped():
            await client.ask(method, f"/{fin}", body=_body(method))
            await client.socket.delivered()
            await play.fin_acknowledged(APP, end)
            _closed(play, primed, method, fin)
            if "nginx" in play.kept:
                play.kept.remove("nginx")
                play.cues[f"{method} meets a socket"].set()
    await client.answer("retried on a new connection" if method == "GET" else "not retried: it may have been done")


def _closed(play: Play, primed: Exchange, method: str, fin: str) -> None:
    play.notes.step(
        "app", f"was idle for {play.options.keep_alive_seconds:g} s: its timer has run out, and it has closed"
    )
    # From the request on: gunicorn winds its clock up before we have the answer.
    name, began_ns, ended_ns = CLOSES.format(method, fin), primed.began_ns, time.time_ns()
    play.notes.measure(
        name, predicted=play.options.keep_alive_seconds, began_ns=began_ns, ended_ns=ended_ns, slack=LOOKS
    )


def promise(options: GunicornKeepalive, play: Play) -> Promise:
    races = options.races
    status = {"GET": "200", "POST": "200" if options.fixed else "502"}
    lines, reasons = [], []
    for fin, method in () if options.fixed else races:
        line, reason = SEEN[fin]
        at_socket = fin == "unprocessed" and play.cues[f"{method} meets a socket"].is_set()
        lines.append(line)
        reasons.append("TCP_ABORT_ON_DATA" if at_socket else reason)
    n = len(reasons)
    return Promise(
        calls={},
        packets=None,
        resets=[Rst("app", reason) for reason in reasons],
        counters={
            "TcpExtTCPAbortOnData": reasons.count("TCP_ABORT_ON_DATA"),
            "TcpEstabResets": n,
            "TcpOutRsts": n,
        },
        measurements=[] if options.fixed else [CLOSES.format(method, fin) for fin, method in races],
        exchanges=[told for fin, method in races for told in ("GET /prime 200", f"{method} /{fin} {status[method]}")],
        lines={"nginx": lines, "app": ()},
        seconds=1.0 + (options.keep_alive_seconds + LOOKS) * len(races),
    )


def doing(options: GunicornKeepalive) -> str:
    gunicorn = 75 if options.fixed else f"{options.keep_alive_seconds:g}"
    return f"nginx keeps idle connections for 65 s to gunicorn, which closes them after {gunicorn} s."


def shows(options: GunicornKeepalive) -> tuple[str, ...]:
    return tuple(f"keepalive-race --fin {fin}" for fin in options.fins)


STACK = stack(
    __file__,
    shows=shows,
    parts=lambda options: tuple(PARTS.values()),
    doing=doing,
    script=script,
    promise=promise,
    options=GunicornKeepalive,
)
