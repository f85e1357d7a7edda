# What a request that a gunicorn worker is working on sees of three ends of that worker. The application says when it has a
# request and answers when it is told to, so each end comes in the middle:
#   kill   SIGKILL to the worker, as the OOM killer does it: crash --request read. It had read the GET, so its kernel
#          sends FIN
#   hup    SIGHUP to the arbiter: it starts a new worker and sends SIGTERM to the old one, which answers first
#   term   SIGTERM to the arbiter, as systemctl restart and docker stop do it: SIGTERM to the worker, and after
#          graceful_timeout SIGKILL. Of the POST it has not read all (gunicorn reads 8 KiB at a time, the body when the
#          application wants it), so its kernel sends RST: crash
from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from faultkit.acting.exchange import Client
from faultkit.acting.program import Part
from faultkit.cause import option
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.acting.program import Program

# As in nginx.conf and gunicorn.conf.py.
NGINX, APP = Address("127.0.0.1", 8080), Address("127.0.0.1", 8081)
GRACEFUL_TIMEOUT = 1.0
PARTS = {"nginx": Part("nginx", "nginx", ("-v",)), "gunicorn": Part("gunicorn", "gunicorn")}
WAYS = ("kill", "hup", "term")
REQUESTS = {"kill": "GET /kill", "hup": "GET /hup", "term": "POST /term"}
BODY = bytes(12 * 1024)  # more than gunicorn reads at once, 8 KiB
RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
CLOSED = "upstream prematurely closed connection while reading response header from upstream"
# gunicorn 21 and later | before that
KILLED = "was sent SIGKILL! Perhaps out of memory? | was terminated due to signal 9"
# Before version 21 the arbiter says SIGTERM to a worker that is on its way out again, which may end it.
LEFT = "was terminated due to signal 15 *"


@dataclass(frozen=True)
class GunicornRestart(StackOptions):
    by: str = option("all", "what ends the worker in the middle of a request", choices=("all", *WAYS))

    @property
    def ways(self) -> tuple[str, ...]:
        return WAYS if self.by == "all" else (self.by,)


async def script(play: Play) -> None:
    play.programs.callers({NGINX: "client", APP: "nginx"})
    nginx = await play.programs.start("nginx", PARTS["nginx"], "-e", "stderr", "-p", ".", "-c", "nginx.conf")
    await nginx.listens(NGINX)
    os.mkfifo(play.programs.directory / "go")
    go = os.open(play.programs.directory / "go", os.O_RDWR)  # so that neither end waits for the other to open it
    play.leaving.callback(os.close, go)
    app = await play.programs.start("app", PARTS["gunicorn"], "-c", "gunicorn.conf.py", "app")
    await app.listens(APP)
    await app.said("ready")
    client = Client(play, NGINX)
    for way in play.options.ways:
        method, _, target = REQUESTS[way].partition(" ")
        await client.ask(method, target, body=BODY if method == "POST" else b"")
        await app.said(REQUESTS[way])
        said = len(app.lines)
        if way == "kill":
            [worker] = app.children()
            app.signal(signal.SIGKILL, worker)
            if play.options.fixed:
                await app.said(REQUESTS[way], since=said)
        elif way == "hup":
            app.signal(signal.SIGHUP)
            await app.said("ready", since=said)
        else:
            app.signal(signal.SIGTERM)
            if play.options.fixed:
                await trio.sleep(1.5 * GRACEFUL_TIMEOUT)  # the request takes longer than it was given
        if play.options.fixed or way == "hup":
            play.notes.step("app", f"has what it needs to answer {REQUESTS[way]}")
            os.write(go, b".")
        await client.answer(_note(way, fixed=play.options.fixed))
        await _over(play, app, way, said)


async def _over(play: Play, app: Program, way: str, said: int) -> None:
    """Wait for what follows the answer, so that the next request meets a worker that stays."""
    if way == "kill":
        await app.said("ready", since=said)
    elif way == "term":
        await app.ended()


def _note(way: str, *, fixed: bool) -> str:
    return {
        "kill": "nginx asked again, and the next worker answered" if fixed else "the worker is dead, and nginx tells",
        "hup": "the old worker answers, then goes",
        "term": "answered within graceful_timeout" if fixed else "the arbiter's patience is over first: SIGKILL",
    }[way]


def promise(options: GunicornRestart, play: Play) -> Promise:
    lines: list[str] = []
    told, said, resets = [], ["ready"], 0
    for way in options.ways:
        failed = way != "hup" and not options.fixed
        told.append(f"{REQUESTS[way]} {502 if failed else 200}")
        said.append(f"{REQUESTS[way]} is being worked on")
        if way == "term":
            said.append(LEFT)
        if way == "kill":
            lines.append(CLOSED)
            said += [KILLED, "ready", *([said[-1]] if options.fixed else [])]
        elif way == "hup":
            said += ["ready", LEFT]
        elif failed:
            resets = 1
            lines.append(RESET)
            said.append(f"{KILLED} *")  # said only if it is dead by the time that the arbiter itself ends
    return Promise(
        calls={},
        packets=None,
        resets=[Rst("app", "TCP_ABORT_ON_CLOSE")] * resets,
        counters={"TcpExtTCPAbortOnClose": resets, "TcpOutRsts": resets, "TcpEstabResets": 2 * resets},
        exchanges=told,
        lines={"nginx": lines, "app": said},
        seconds=2.0 + ("term" in options.ways) * 1.5 * GRACEFUL_TIMEOUT,  # Python starts several times
    )


def doing(options: GunicornRestart) -> str:
    ways = {
        "kill": "its worker gets SIGKILL",
        "hup": "gunicorn gets SIGHUP",
        "term": f"gunicorn gets SIGTERM, graceful_timeout {30 if options.fixed else GRACEFUL_TIMEOUT:g} s",
    }
    return f"In the middle of a request {'; '.join(ways[way] for way in options.ways)}."


def shows(options: GunicornRestart) -> tuple[str, ...]:
    seen = {"term": "crash", "kill": "crash --request read", "hup": ""}
    return tuple(filter(None, (seen[way] for way in options.ways))) or ("crash",)


STACK = stack(
    __file__,
    shows=shows,
    parts=lambda options: tuple(PARTS.values()),
    doing=doing,
    script=script,
    promise=promise,
    options=GunicornRestart,
)
