# redis closes a client that has been idle for `timeout`: a FIN, and a line at loglevel verbose. The application, which does
# not look, has its socket in CLOSE-WAIT, and writes: the first write is fine, the answer is RST, and recv gives EOF, which
# redis-py calls "Connection closed by server."
# What a program sees of it depends on how it asks (redis-py 8.1): a pool looks for the EOF before it lends a connection; a
# retry (redis-py 6: 3 by default, 8.1: 10) asks again on a new connection; WATCH cannot be tried again by anybody else.
from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from faultkit.acting.exchange import Client
from faultkit.acting.program import Library, Part
from faultkit.errors import Unable
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack

if TYPE_CHECKING:
    from faultkit.acting.play import Play

# As in redis.conf and app.py.
APP, REDIS = Address("127.0.0.1", 8080), Address("127.0.0.1", 6379)
SERVER, DRIVER = Part("redis-server", "redis-server"), Library("redis", "redis")
SILENCE = 2.5  # seconds: redis counts whole ones, and closes what was idle for a second after one or two
BEFORE = ("/watch", "/pooled", "/single", "/once")  # each has a connection of its own
# What it comes to, and whether it writes to the connection that redis has closed, so that a RST answers.
AFTER = {
    "/pooled": ("200", False, "the pool saw the end, and connected anew"),
    "/single": ("200", True, "tried again on a new connection"),
    "/once": ("500", True, "not tried again"),
    "/execute": ("500", True, "nobody may try a transaction again but who began it"),
}
LOGGED = {
    "/once": "/once: redis.exceptions.ConnectionError: Connection closed by server.",
    "/execute": "/execute: redis.exceptions.WatchError: A ConnectionError occurred while watching one or more keys",
}
HELD = {"/execute": "/watch"}  # on whose connection


async def script(play: Play) -> None:
    play.programs.callers({APP: "client", REDIS: "app"})
    redis = await play.programs.start("redis", SERVER, "redis.conf")
    await redis.listens(REDIS)
    app = await play.programs.start("app", DRIVER, "app.py")
    await app.listens(APP)
    client = Client(play, APP)
    for path in BEFORE:
        await client.request("GET", path)
    if play.options.fixed:
        await trio.sleep(SILENCE)
    else:
        await _closed_by_redis(play)
    for path, (*_, note) in AFTER.items():
        await client.request("GET", path, note="" if play.options.fixed else note)


async def _closed_by_redis(play: Play) -> None:
    """Every connection has its FIN, and it is acknowledged. The application looks at none of them."""
    ends: list[Address] = []
    while len(ends) < len(BEFORE):  # who connects is read off the wire
        ends = [end for end, role in play.transcript.roles.items() if role == "app" and end != APP]
        await trio.sleep(0.002)
    if len(ends) > len(BEFORE):
        raise Unable(
            "redis-idle: this machine is so busy that redis closed a connection as idle before the application had made all of "
            "them: try again when it is less so"
        )
    play.notes.expect("redis closes what is idle", ends=SILENCE)
    for path, end in zip(BEFORE, ends, strict=True):
        play.kept.discard("app")
        await play.fin_acknowledged(REDIS, end)
        if "app" in play.kept:
            play.cues[f"{path} meets a socket"].set()


def promise(options: StackOptions, play: Play) -> Promise:
    before = [f"GET {path} 200" for path in BEFORE]
    begins = ["# | * +", *["- Accepted 127.0.0.1:"] * len(BEFORE)]
    if options.fixed:
        return Promise(
            calls={},
            packets=None,
            exchanges=[*before, *(f"GET {path} 200" for path in AFTER)],
            lines={"app": [], "redis": [*begins, "DB 0: *"]},
            seconds=1.0 + SILENCE,
        )
    resets = []
    for path, (_, writes, _) in AFTER.items():
        if writes:
            at_socket = play.cues[f"{HELD.get(path, path)} meets a socket"].is_set()
            resets.append(Rst("redis", "TCP_ABORT_ON_DATA" if at_socket else "TCP_TIMEWAIT_SOCKET"))
    anew = [path for path in AFTER if path != "/once"]  # the transaction too, before redis-py gives it up
    return Promise(
        calls={},
        packets=None,
        resets=resets,
        counters={
            "TcpOutRsts": len(resets),
            "TcpEstabResets": len(resets),
            "TcpExtTCPAbortOnData": sum(rst.reason == "TCP_ABORT_ON_DATA" for rst in resets),
        },
        exchanges=[*before, *(f"GET {path} {outcome}" for path, (outcome, *_) in AFTER.items())],
        lines={
            "app": list(LOGGED.values()),
            "redis": [*begins, *["- Closing idle client"] * len(BEFORE), *["- Accepted 127.0.0.1:"] * len(anew)],
        },
        seconds=1.0 + SILENCE,
    )


def doing(options: StackOptions) -> str:
    until = "keeps idle clients" if options.fixed else "closes what is idle for a second"
    return f"redis {until}, and a web application asks it again after a pause."


def shows(options: StackOptions) -> tuple[str, ...]:
    return ("keepalive-race --fin unprocessed",)


def parts(options: StackOptions) -> tuple[Part, ...]:
    return SERVER, DRIVER


STACK = stack(__file__, shows=shows, parts=parts, doing=doing, script=script, promise=promise)
