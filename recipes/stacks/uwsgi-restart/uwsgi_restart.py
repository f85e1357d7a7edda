# What a request that a uWSGI worker is working on sees of three ends of that worker. The application says when it has a
# request and answers when it is told to, so each end comes in the middle. uWSGI reads the head of a request and what
# of its body comes along, the rest when the application wants it: what ends the worker before that makes its kernel send
# RST (crash), else FIN (crash --request read).
#   kill   SIGKILL to the worker, as the OOM killer does it, in a GET
#   hup    SIGHUP to the master, a graceful reload: the worker has worker-reload-mercy to answer, here a POST, and then gets
#          SIGKILL
#   term   SIGTERM to the master, which is not what it seems: a reload without grace. The worker exits in its signal
#          handler, in the middle of a GET
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

# As in nginx.conf and uwsgi.ini.
NGINX, APP = Address("127.0.0.1", 8080), Address("127.0.0.1", 8081)
MERCY = 1.0
PARTS = {"nginx": Part("nginx", "nginx", ("-v",)), "uwsgi": Part("uwsgi", "uwsgi-plugin-python3")}
WAYS = ("kill", "hup", "term")
REQUESTS = {"kill": "GET /kill", "hup": "POST /hup", "term": "GET /term"}
BODY = bytes(12 * 1024)  # more than uWSGI reads ahead, buffer-size 4 KiB
RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
CLOSED = "upstream prematurely closed connection while reading response header from upstream"
# uWSGI's own words for each end, and that it goes on.
KILLED = "died, killed by signal 9 :( trying respawn ..."
RESPAWNED = "Respawned uWSGI worker 1"
HUP, NO_MERCY = "...gracefully killing workers...", "NO MERCY"
GRACEFUL = "graceful shutdown triggered..."
TERM = "...brutally killing workers..."
READY = "spawned uWSGI worker 1"
ANYTHING = " *"


@dataclass(frozen=True)
class UwsgiRestart(StackOptions):
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
    app = await play.programs.start("app", PARTS["uwsgi"], "--ini", "uwsgi.ini")
    await app.listens(APP)
    await app.said(READY)
    client, fixed = Client(play, NGINX), play.options.fixed
    for way in play.options.ways:
        method, _, target = REQUESTS[way].partition(" ")
        await client.ask(method, target, body=BODY if method == "POST" else b"")
        await app.said(REQUESTS[way])
        said = len(app.lines)
        if way == "kill":
            [worker] = app.children()
            app.signal(signal.SIGKILL, worker)
            await app.said(RESPAWNED, since=said)
            if fixed:
                await app.said(REQUESTS[way], since=said)
        else:
            app.signal(signal.SIGHUP if way == "hup" else signal.SIGTERM)
            if fixed:
                await trio.sleep(1.5 * MERCY)  # the request takes longer than it was given
        if fixed:
            play.notes.step("app", f"has what it needs to answer {REQUESTS[way]}")
            os.write(go, b".")
        await client.answer(_note(way, fixed=fixed))
        if way == "term" and fixed:
            await app.ended()
        elif way != "kill":
            await app.said(READY, since=said)


def _note(way: str, *, fixed: bool) -> str:
    return {
        "kill": "nginx asked again, and the next worker answered" if fixed else "the worker is dead, and nginx tells",
        "hup": "answered within worker-reload-mercy" if fixed else "the master's mercy is over first: SIGKILL",
        "term": "the worker answers, then uWSGI ends" if fixed else "SIGTERM is a reload without grace",
    }[way]


def promise(options: UwsgiRestart, play: Play) -> Promise:
    status = 200 if options.fixed else 502
    resets = 0 if options.fixed else options.ways.count("hup")
    lines, said = [], [ANYTHING]
    for way in options.ways:
        said += [f"{REQUESTS[way]} is being worked on", ANYTHING, *_words(way, fixed=options.fixed), ANYTHING]
        if way == "kill" or not options.fixed:
            lines.append(RESET if way == "hup" else CLOSED)
    return Promise(
        calls={},
        packets=None,
        resets=[Rst("app", "TCP_ABORT_ON_CLOSE")] * resets,
        counters={"TcpExtTCPAbortOnClose": resets, "TcpOutRsts": resets, "TcpEstabResets": 2 * resets},
        exchanges=[f"{REQUESTS[way]} {status}" for way in options.ways],
        lines={"nginx": lines, "app": said},
        seconds=2.0 + 4.0 * len(options.ways),  # uWSGI's master looks at its workers once a second
    )


def _words(way: str, *, fixed: bool) -> tuple[str, ...]:
    if way == "kill":
        return (KILLED, RESPAWNED)
    if way == "hup":
        return (HUP, ANYTHING, READY) if fixed else (HUP, ANYTHING, NO_MERCY, ANYTHING, READY)
    return (GRACEFUL,) if fixed else (TERM, ANYTHING, READY)


def doing(options: UwsgiRestart) -> str:
    ways = {
        "kill": "its worker gets SIGKILL",
        "hup": f"uWSGI gets SIGHUP, worker-reload-mercy {60 if options.fixed else MERCY:g} s",
        "term": "uWSGI gets SIGTERM",
    }
    return f"In the middle of a request {'; '.join(ways[way] for way in options.ways)}."


def shows(options: UwsgiRestart) -> tuple[str, ...]:
    return tuple(dict.fromkeys("crash" if way == "hup" else "crash --request read" for way in options.ways))


STACK = stack(
    __file__,
    shows=shows,
    parts=lambda options: tuple(PARTS.values()),
    doing=doing,
    script=script,
    promise=promise,
    options=UwsgiRestart,
)
