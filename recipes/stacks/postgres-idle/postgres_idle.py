# PostgreSQL says why it ends a session (FATAL, with its own SQLSTATE) and sends FIN behind that. A client that does not look
# writes its next query first, which the server's kernel answers with RST, and then reads the words that came before: so
# psycopg raises IdleSessionTimeout or AdminShutdown, and not "connection reset". From then on the connection is closed, and
# psycopg does not open another.
# With tcp_keepalives_* it is the server's kernel that ends the connection: ETIMEDOUT for the server, a RST for the client,
# and no words at all. The firewall is that of node-keepalive: it forgets after `FORGETS` and lets a RST through.
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from faultkit.acting.exchange import Client
from faultkit.acting.program import Library, Part
from faultkit.cause import option
from faultkit.causes.firewall_reset import STEPS
from faultkit.errors import Unable
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack
from faultkit.stage import conntrack

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.acting.program import Program

# As in postgresql.conf and app.py.
APP, POSTGRES = Address("127.0.0.1", 8080), Address("127.0.0.1", 5432)
EXPIRES = 3 + 1 * 2  # seconds: tcp_keepalives_idle, _interval, _count
FORGETS = 2  # seconds: nf_conntrack_tcp_timeout_established
SILENCE = 3.5  # seconds; longer than the firewall remembers, and than the session may be idle
DEBIAN = "/usr/lib/postgresql/*/bin"
SERVER, INITDB = (Part(command, "postgresql", places=DEBIAN) for command in ("postgres", "initdb"))
DRIVER = Library("psycopg", "psycopg[binary]")
# PostgreSQL does not run as root, which a namespace's first user is: in a user namespace within it is somebody else. In an
# IPC namespace of its own, because a killed server would leave its System V segment to the host.
UNSHARE = Part("unshare", "util-linux")
SOMEBODY = ("--user", "--map-user=1000", "--ipc")
CASES = ("terminate", "idle", "keepalive")
EXPIRY = "PostgreSQL's keepalive expiry"


@dataclass(frozen=True)
class PostgresIdle(StackOptions):
    by: str = option("all", "what ends the connection", choices=("all", *CASES))

    @property
    def cases(self) -> tuple[str, ...]:
        return CASES if self.by == "all" else (self.by,)


async def script(play: Play) -> None:
    options: PostgresIdle = play.options
    cases = options.cases
    play.programs.callers({APP: "client", POSTGRES: "app"})
    if "keepalive" in cases:
        await _raise_firewall(play)
    postgres = await _postgres(play)
    app = await play.programs.start("app", DRIVER, "app.py")
    await app.listens(APP)
    client = Client(play, APP)
    held_ns = (await client.request("GET", "/hold")).ended_ns if "keepalive" in cases else 0
    if "terminate" in cases:
        await client.request("GET", "/report")
        await client.request("GET", "/terminate")
        await _ended(play, postgres, "due to administrator command", "/report")
        await client.request("GET", "/report")
    if "idle" in cases:
        await client.request("GET", "/kept")
        if not options.fixed:
            await _ended(play, postgres, "due to idle-session timeout", "/kept")
            await client.request("GET", "/kept")
            await client.request("GET", "/kept", note="psycopg does not open another")
    if options.fixed and cases != ("terminate",):
        play.notes.expect("the silence", ends=SILENCE)
        await trio.sleep(SILENCE)
        for case, path in ("idle", "/kept"), ("keepalive", "/hold"):
            if case in cases:
                await client.request("GET", path)
    elif "keepalive" in cases:
        line = await postgres.said("Connection timed out")
        play.notes.measure(EXPIRY, predicted=EXPIRES, began_ns=held_ns, ended_ns=line.time_ns)
        await client.request("GET", "/hold")


async def _raise_firewall(play: Play) -> None:
    assert play.stage.namespace is not None
    await play.scenery.need_tool("auto")
    await play.scenery.apply("stateful-firewall", STEPS.index("drop") + 1, port=POSTGRES.port)
    conntrack.flush(play.stage.namespace)  # of what an earlier play left
    play.scenery.sysctl("netfilter.nf_conntrack_tcp_loose", 0)
    play.scenery.sysctl("netfilter.nf_conntrack_tcp_timeout_established", FORGETS)


async def _postgres(play: Play) -> Program:
    made = ("initdb", "--pgdata=data", "--no-sync", "--auth=trust", "--username=app", "--no-locale", "--encoding=UTF8")
    quiet = ("sh", "-c", 'exec "$@" >initdb.log', "sh")
    initdb = await play.programs.start("initdb", UNSHARE, *SOMEBODY, *quiet, *INITDB.line(made[1:]))
    if await initdb.ended():
        last = initdb.lines[-1].text if initdb.lines else (play.programs.directory / "initdb.log").read_text()[-200:]
        raise Unable(f"{play.name}: initdb failed: {last.strip()}")
    server = SERVER.line(("-D", "data", "-c", "config_file=postgresql.conf"))
    postgres = await play.programs.start("postgres", UNSHARE, *SOMEBODY, *server)
    await postgres.listens(POSTGRES)
    await postgres.said("ready to accept connections")
    return postgres


def _opened(options: PostgresIdle) -> list[str]:
    """Who connects to PostgreSQL, in this order."""
    paths = {"keepalive": ["/hold"], "terminate": ["/report", "/terminate"], "idle": ["/kept"]}
    return [path for case, found in paths.items() if case in options.cases for path in found]


async def _ended(play: Play, postgres: Program, words: str, path: str) -> None:
    """PostgreSQL has ended that connection, and its FIN is acknowledged. The application does not look."""
    await postgres.said(words)
    number, ends = _opened(play.options).index(path), list[Address]()
    while len(ends) <= number:  # who connects is read off the wire
        await trio.sleep(0.002)
        ends = [end for end, role in play.transcript.roles.items() if role == "app" and end != APP]
    play.kept.discard("app")
    await play.fin_acknowledged(POSTGRES, ends[number])
    if "app" in play.kept:
        play.cues[f"{path} meets a socket"].set()


def promise(options: PostgresIdle, play: Play) -> Promise:
    cases = options.cases
    asked, said = [], ["LOG: +"]
    resets: list[Rst] = []
    told: list[str] = []
    outcome = "200" if options.fixed else "500"
    if "keepalive" in cases:
        asked.append("GET /hold 200")
    for case, path, words in (
        ("terminate", "/report", "administrator command"),
        ("idle", "/kept", "idle-session timeout"),
    ):
        if case not in cases:
            continue
        asked.append(f"GET {path} 200")
        if case == "terminate":
            asked += ["GET /terminate 200", f"GET {path} {outcome}"]
        if case == "idle" and not options.fixed:
            asked += [f"GET {path} 500"] * 2
        if case == "terminate" or not options.fixed:
            said.append(f"FATAL:  terminating connection due to {words}")
        if not options.fixed:
            kind = "AdminShutdown" if case == "terminate" else "IdleSessionTimeout"
            told.append(f"{path}: psycopg.errors.{kind}: terminating connection due to {words}")
            at_socket = play.cues[f"{path} meets a socket"].is_set()
            resets.append(Rst("postgres", "TCP_ABORT_ON_DATA" if at_socket else "TCP_TIMEWAIT_SOCKET"))
        if case == "idle" and not options.fixed:
            told.append(f"{path}: psycopg.OperationalError: the connection is closed")
    if options.fixed:
        asked += [f"GET {path} 200" for case, path in (("idle", "/kept"), ("keepalive", "/hold")) if case in cases]
    elif "keepalive" in cases:
        asked.append("GET /hold 500")
        said.append("LOG:  could not receive data from client: Connection timed out")
        told.append(
            "/hold: psycopg.OperationalError: consuming input failed: server closed the connection unexpectedly"
        )
        resets.append(Rst("postgres", "TCP_KEEPALIVE_TIMEOUT"))
    expired = sum(rst.reason == "TCP_KEEPALIVE_TIMEOUT" for rst in resets)
    return Promise(
        calls={},
        packets=None,
        resets=resets,
        counters={
            "TcpOutRsts": len(resets),
            "TcpEstabResets": len(resets) + expired,  # who gives up, too
            "TcpExtTCPAbortOnTimeout": expired,
            "TcpExtTCPAbortOnData": sum(rst.reason == "TCP_ABORT_ON_DATA" for rst in resets),
        },
        measurements=[EXPIRY] * expired,
        exchanges=asked,
        lines={"postgres": said, "app": told, "initdb": []},
        seconds=3.0 + EXPIRES,
    )


def doing(options: PostgresIdle) -> str:
    told = {
        "terminate": "by pg_terminate_backend",
        "idle": "by idle_session_timeout",
        "keepalive": "by tcp_keepalives_* behind a firewall that forgets",
    }
    return f"PostgreSQL ends connections of a web application, {', '.join(told[case] for case in options.cases)}."


def shows(options: PostgresIdle) -> tuple[str, ...]:
    found = (
        "keepalive-timeout" if case == "keepalive" else "keepalive-race --fin unprocessed" for case in options.cases
    )
    return tuple(dict.fromkeys(found))


def parts(options: PostgresIdle) -> tuple[Part, ...]:
    return SERVER, INITDB, UNSHARE, DRIVER


STACK = stack(
    __file__,
    shows=shows,
    parts=parts,
    doing=doing,
    script=script,
    promise=promise,
    options=PostgresIdle,
)
