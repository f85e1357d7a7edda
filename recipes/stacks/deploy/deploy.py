# Two instances behind nginx are restarted one after the other, each in the middle of a POST:
#   kill   SIGKILL to all processes of the instance. The worker had not read all of the body: RST (crash)
#   term   SIGTERM to all of them, as systemd does it. The worker answers first. But it has the listening socket too, so
#          the kernel goes on completing handshakes until it is gone, nobody accepts them any more, and it resets what
#          has queued up there meanwhile (listener-closed)
# With the fix nginx is told first: its new worker asks the other instance only, its old one waits for the answer.
from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit.acting.exchange import Client
from faultkit.acting.program import Part
from faultkit.cause import option
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.acting.program import Program

# As in nginx.conf.
NGINX = Address("127.0.0.1", 8080)
INSTANCES = {"app-1": Address("127.0.0.1", 8081), "app-2": Address("127.0.0.1", 8082)}
PARTS = {"nginx": Part("nginx", "nginx", ("-v",)), "gunicorn": Part("gunicorn", "gunicorn")}
SHELL = Part("sh", "dash")
BODY = bytes(12 * 1024)  # more than gunicorn reads at once, 8 KiB
RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
# What nginx says beside. initgroups: in an ordinary user's namespace nobody may change groups.
BESIDE = "[notice] | [warn] | initgroups(root, 0) failed *"
# Before version 21 the arbiter says SIGTERM to a worker that is on its way out again, which may end it.
LEFT = "was terminated due to signal 15 *"
REASONS = {"kill": "TCP_ABORT_ON_CLOSE", "term": "TCP_STATE"}
DRAINED = "gracefully shutting down"  # nginx's old worker, once the new one is there


@dataclass(frozen=True)
class Deploy(StackOptions):
    by: str = option("kill", "how an instance is stopped where nginx is not told", choices=("kill", "term"))


async def script(play: Play) -> None:
    play.programs.callers({NGINX: "client", **dict.fromkeys(INSTANCES.values(), "nginx")})
    os.mkfifo(play.programs.directory / "go")
    go = os.open(play.programs.directory / "go", os.O_RDWR)  # so that neither end waits for the other to open it
    play.leaving.callback(os.close, go)
    nginx = await play.programs.start("nginx", PARTS["nginx"], "-e", "stderr", "-p", ".", "-c", "nginx.conf")
    await nginx.listens(NGINX)
    running = {name: await _start(play, name) for name in INSTANCES}
    for name in INSTANCES:
        await _next_is(play, name)
        slow = Client(play, NGINX)
        await slow.ask("POST", "/slow", body=BODY)
        await running[name].said("POST /slow")
        await _stop(play, nginx, running[name], slow, go)
        await running[name].ended()
        running[name] = await _start(play, name)
        if play.options.fixed:
            await _tell(play, nginx, "undrain.sh", name)


async def _start(play: Play, name: str) -> Program:
    app = await play.programs.start(
        name, PARTS["gunicorn"], "-c", "gunicorn.conf.py", "-b", str(INSTANCES[name]), "app"
    )
    await app.listens(INSTANCES[name])
    return app


async def _next_is(play: Play, name: str) -> None:
    """Ask until the other one has answered: nginx takes them in turns."""
    while await _ask(play, "GET", "/turn") == str(INSTANCES[name].port).encode():
        pass


async def _ask(play: Play, method: str, target: str) -> bytes:
    client = Client(play, NGINX)
    one = await client.request(method, target)
    client.close()
    return one.body


async def _stop(play: Play, nginx: Program, app: Program, slow: Client, go: int) -> None:
    """Stop an instance in the middle of `slow`'s request, with one more on its way."""
    if play.options.fixed:
        await _tell(play, nginx, "drain.sh", app.name)
    elif play.options.by == "kill":
        _signal(app, signal.SIGKILL)
        await slow.answer("its worker is dead; not retried: it may have been done")
        return
    else:
        await _next_is(play, app.name)
    _signal(app, signal.SIGTERM)
    tap = play.scenery.tap()
    heard = len(tap.listen())
    late = Client(play, NGINX)
    await late.ask("POST", "/late", body=b"once")
    await tap.hear(lambda packet: packet.destination in INSTANCES.values() and packet.payload > 0, since=heard)
    if play.options.fixed:
        await late.answer("by the other instance")
    os.write(go, b".")
    await slow.answer("the worker answers, then goes")
    if not play.options.fixed:
        await late.answer("was in the accept queue of a worker that accepts no more")
    slow.close()
    late.close()


def _signal(app: Program, number: signal.Signals) -> None:
    """To all of an instance: systemd's KillMode=control-group, its default."""
    for pid in (app.pid, *app.children()):
        app.signal(number, pid)


async def _tell(play: Play, nginx: Program, file: str, name: str) -> None:
    """Run one of the fix's files, and wait until nginx has done what it says."""
    said = len(nginx.lines)
    play.notes.step(name, f"sh {file} {INSTANCES[name].port}")
    await play.programs.start(file, SHELL, file, str(INSTANCES[name].port))
    await nginx.said(DRAINED, since=said)


def promise(options: Deploy, play: Play) -> Promise:
    each = {
        "kill": ("POST /slow 502",),
        "term": ("GET /turn 200", "POST /slow 200", "POST /late 502"),
        "fixed": ("POST /late 200", "POST /slow 200"),
    }["fixed" if options.fixed else options.by]
    resets = [] if options.fixed else [Rst(name, REASONS[options.by]) for name in INSTANCES]
    n = len(resets)
    return Promise(
        calls={},
        packets=None,
        resets=resets,
        counters={
            "TcpOutRsts": n,
            "TcpEstabResets": 2 * n,
            "TcpExtTCPAbortOnClose": n if options.by == "kill" else 0,
        },
        exchanges=("GET /turn 200 +", *each) * 2,
        lines={
            "nginx": (BESIDE, *(RESET, BESIDE) * n),
            **dict.fromkeys(INSTANCES, ("POST /slow is being worked on", LEFT)),
        },
        seconds=4.0,  # Python starts several times
    )


def doing(options: Deploy) -> str:
    how = {"kill": "with SIGKILL", "term": "with SIGTERM, and nginx is not told"}
    told = "with SIGTERM, once nginx asks them no more" if options.fixed else how[options.by]
    return f"Two instances behind nginx are restarted one after the other, {told}."


def shows(options: Deploy) -> tuple[str, ...]:
    return ("listener-closed --connections 1",) if options.by == "term" else ("crash",)


STACK = stack(
    __file__,
    shows=shows,
    parts=lambda options: tuple(PARTS.values()),
    doing=doing,
    script=script,
    promise=promise,
    options=Deploy,
    variants=({}, {"by": "term"}, {"fixed": True}),
)
