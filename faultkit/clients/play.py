"""Plays the scenes for the clients: each cell on sockets of its own, several at once, because most of the time is waiting."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from faultkit.clients.message import general
from faultkit.clients.program import Ask, Call, Client
from faultkit.clients.scene import SYSCTLS, Ending, Scene
from faultkit.errors import Unable, exhausted
from faultkit.evidence.transcript import Address
from faultkit.serving.connection import Live
from faultkit.serving.entry import serve
from faultkit.serving.http1 import Http
from faultkit.serving.server import Server
from faultkit.stage import Stage
from faultkit.stage.scratch import scratch
from faultkit.stage.sysctl import Sysctls
from faultkit.witness.kernel import LOOK_AGAIN, tcp_state
from faultkit.witness.wire import Capture, Refused, decode

AT_ONCE = 12  # cells; arbitrary: they wait more than they work
TRIES = 5  # arbitrary: a busy machine may hold a client up for longer than scene.IDLE
PAUSE = (
    0.5  # seconds of a client that cannot be told to wait: more than scene.IDLE, less than `sockets.hold_back` holds
)


@dataclass(frozen=True)
class Seen:
    """What one client said to one fault."""

    client: str
    fault: str
    ending: Ending
    method: str
    lines: tuple[
        str, ...
    ]  # its message, without what belongs to the run; none where it got its answer, or said nothing
    code: int | None  # its exit status; None for one that is no command, or waits on
    answered: bool
    connections: tuple[int, ...]  # how often it connected, and what else was counted; none where nobody can tell
    met: bool  # it came to the fault

    @property
    def key(self) -> tuple[str, str, str]:
        """The scene's."""
        return self.fault, self.ending, self.method

    def document(self) -> dict[str, object]:
        """As it is kept."""
        return {
            "fault": self.fault,
            "ending": self.ending,
            "method": self.method,
            "client": self.client,
            "message": "\n".join(self.lines),
            "code": self.code,
            "answered": self.answered,
            "connections": list(self.connections),
            "met": self.met,
        }


def merged(seen: Sequence[Seen]) -> list[Seen]:
    """Each outcome once, with every number of connections that it came with."""
    found: dict[Seen, set[int]] = {}
    for one in seen:
        found.setdefault(replace(one, connections=()), set()).update(one.connections)
    return [replace(one, connections=tuple(sorted(counts))) for one, counts in found.items()]


class Dialled:
    """Counts connects by the port that they are made to, from the SYNs on the wire, where those may be seen."""

    def __init__(self) -> None:
        try:
            self._capture: Capture | None = Capture()
        except Refused:
            self._capture = None
        self._from: dict[int, set[int]] = {}
        self._lost = False  # the capture's buffer ran over: from then on nothing is counted

    def begin(self, port: int) -> None:
        """It may have been another server's."""
        self._read()
        self._from[port] = set()

    def count(self, port: int) -> int | None:
        self._read()
        return len(self._from[port]) if self._capture and not self._lost else None

    def _read(self) -> None:
        if self._capture is None:
            return
        frames, lost = self._capture.cut()
        self._lost = self._lost or bool(lost)
        for packet in filter(None, (decode(*frame) for frame in frames)):
            if "SYN" in packet.flags and "ACK" not in packet.flags:
                self._from.setdefault(packet.destination.port, set()).add(packet.source.port)

    def close(self) -> None:
        if self._capture:
            self._capture.close()


@contextlib.contextmanager
def timers(stage: Stage) -> Iterator[None]:
    """Short ones, in a namespace of our own."""
    if stage.namespace is None:
        yield
        return
    sysctls = Sysctls(stage.namespace)
    try:
        for name, value in SYSCTLS.items():
            sysctls.set(name, value)
        yield
    finally:
        sysctls.restore()


@contextlib.contextmanager
def directory_for(stage: Stage) -> Iterator[Path]:
    """For what the clients write; in a namespace of our own, one that not even kill -9 leaves behind.

    Must be called before threads start, which would not see it.
    """
    with contextlib.ExitStack() as stack:
        made = None
        if stage.namespace:
            with contextlib.suppress(OSError):  # mount namespaces may be forbidden
                made = scratch(stage.namespace)  # and not discarded: a browser's last children write when it has ended
        yield made or Path(stack.enter_context(_temporary()))


def _temporary() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="faultkit-")
    except OSError as error:
        raise exhausted(error) or Unable(
            f"clients: no temporary directory can be made ({error.strerror}): set TMPDIR to a directory of yours"
        ) from error


async def play(
    stage: Stage, made: Path, clients: Sequence[Client], scenes: Sequence[Scene], tell: Callable[[Seen], None]
) -> None:
    """Every scene for every client, with that directory for them. `tell` is called with each as it is seen."""
    with timers(stage), contextlib.closing(Dialled()) as dialled:
        places = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients):
                directory = made / str(number)
                await trio.Path(directory).mkdir()
                nursery.start_soon(_play_one, client, directory, scenes, dialled, places, tell)


async def _play_one(
    client: Client,
    directory: Path,
    scenes: Sequence[Scene],
    dialled: Dialled,
    places: trio.CapacityLimiter,
    tell: Callable[[Seen], None],
) -> None:
    mine = trio.CapacityLimiter(AT_ONCE // 4)  # so that none has to itself what all share
    async with client.open(directory) as ask, trio.open_nursery() as nursery:

        async def cell(scene: Scene) -> None:
            async with mine, places:
                tell(await _meet(client.name, ask, scene, dialled))

        for scene in sorted(scenes, key=lambda scene: scene.limit_seconds * (scene.ending != "fault"), reverse=True):
            nursery.start_soon(cell, scene)


async def _meet(client: str, ask: Ask, scene: Scene, dialled: Dialled) -> Seen:
    for _ in range(TRIES):
        seen = await _meet_once(client, ask, scene, dialled)
        if seen:
            return seen
    raise Unable(
        f"clients: on {TRIES} tries {client} was too slow to have an answer before {scene.typed} set in: try again when the "
        "machine is less busy"
    )


async def _meet_once(client: str, ask: Ask, scene: Scene, dialled: Dialled) -> Seen | None:
    """None where a connection was to be good at first, and the client was too slow for that: it was found idle before."""
    async with (
        serve(scene.fault, answer=Http(chunked=scene.chunked), must_be_met=False, **scene.when) as server,
        _gate(server, scene) as gate,
    ):
        dialled.begin(server.port)
        urls = (server.url, *([gate] if gate else []), server.url) if scene.reused else (server.url,)
        call = Call(urls, scene.limit_seconds, scene.upload, gate, PAUSE if gate else 0.0)
        said = await ask(call)
        fired = [connection for connection in server.connections if connection.fired]
        if scene.reused and fired and not any(connection.answers for connection in fired):
            return None
        counted = dialled.count(server.port)
        if counted is None and server.connections:  # else it was turned away at the door, and who knows how often
            counted = len(server.connections)
        made = () if counted is None else (counted,)
        met = bool(fired) or server.came
        lines = tuple(general(line, server.host, (server.port,)) for line in said.lines)
        return Seen(client, scene.typed, scene.ending, scene.method, lines, said.code, said.code == 0, made, met)


def _established(ours: Address, theirs: Address) -> bool:
    return "ESTABLISHED" in (tcp_state(ours, theirs), tcp_state(ours, theirs))


@contextlib.asynccontextmanager
async def _gate(server: Server, scene: Scene) -> AsyncIterator[str | None]:
    """A second server, which answers when the fault has set in, so that a client can wait for that."""
    if not scene.pause:
        yield None
        return

    async def answer(conn: Live) -> None:
        await conn.receive()
        connection = await (await server.await_connection()).await_fired()
        assert connection.peer
        here = Address(server.host, server.port)
        # A kernel's states are nobody's event; what the list does not name may have been passed over by the reader.
        while scene.arrives and _established(connection.peer, here):  # noqa: ASYNC110
            await trio.sleep(LOOK_AGAIN)
        await conn.request()
        await conn.answer(b"go on\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n")

    async with serve(answer=answer) as gate:
        yield gate.url
