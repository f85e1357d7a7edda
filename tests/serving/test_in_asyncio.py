"""`in_asyncio(handler)`: the test's own handler in the test's own asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
from collections.abc import Awaitable, Callable, Iterator

import pytest

import faultkit
from faultkit import AsyncioLive, HandlerCrashed, Misuse, Server, in_asyncio, sockets
from faultkit.serving import supervised
from tests.serving.client import PATIENCE

Handler = Callable[[AsyncioLive], Awaitable[None]]


def played(scene: Callable[[], Awaitable[None]]) -> None:
    """In a loop that tells of what was never awaited."""

    async def within() -> None:
        async with asyncio.timeout(PATIENCE):
            await scene()

    asyncio.run(within(), debug=True)


async def asked(server: Server, said: bytes = b"hello") -> str:
    """One request, and what the client was told."""
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        writer.write(said)
        return (await reader.read(100)).decode() or "EOF"
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        writer.close()


async def shouts(conn: AsyncioLive) -> None:
    while data := await conn.receive():
        await conn.request()
        await asyncio.sleep(0)
        await conn.answer(data.upper())


def test_it_runs_in_the_loop_of_the_test() -> None:
    loops = []

    async def handler(conn: AsyncioLive) -> None:
        loops.append(asyncio.get_running_loop())
        await shouts(conn)

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(handler)) as server:
            told = await asyncio.gather(*(asked(server) for _ in range(30)))
            assert told == ["HELLO"] * 30
            assert {*loops} == {asyncio.get_running_loop()}

    played(scene)


@pytest.mark.parametrize("fault", ["linger", "unread", "truncate", "half-close"])
def test_faults_end_it(fault: str) -> None:
    told = {"truncate": "HE", "half-close": "EOF"}.get(fault, "ECONNRESET")

    async def scene() -> None:
        async with faultkit.serve(fault, answer=in_asyncio(shouts)) as server:
            for _ in range(20):
                assert await asked(server) == told
            for record in server.connections:
                await record.await_end()

    played(scene)


def test_the_verbs_are_done_when_they_are_awaited() -> None:
    seen: list[object] = []

    async def handler(conn: AsyncioLive) -> None:
        await conn.slices(size=1)
        await conn.send(b"ab")
        seen.extend([conn.record.sent, sockets.state(conn.sock)])
        await conn.half_close()
        seen.append(sockets.state(conn.sock))

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(handler)) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            assert await reader.read() == b"ab"
            writer.close()
            await server.connections[0].await_end()
            assert seen[:2] == [2, "ESTABLISHED"]
            assert seen[2] in ("FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED")

    played(scene)


def test_a_wait_of_its_own_can_be_cancelled_and_loses_nothing() -> None:
    async def impatient(conn: AsyncioLive) -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(conn.receive(), 0.02)
        await conn.send(b"now")
        await conn.send(await conn.receive())

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(impatient)) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            assert await reader.read(3) == b"now"
            writer.write(b"at last")
            assert await reader.read(100) == b"at last"
            writer.close()

    played(scene)


def test_what_waits_when_the_connection_ends_needs_not_be_caught() -> None:
    async def handler(conn: AsyncioLive) -> None:
        await conn.abort()
        await conn.receive()

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(handler)) as server:
            for _ in range(20):
                assert await asked(server) in ("ECONNRESET", "EPIPE")

    played(scene)


def test_a_crash_is_told_with_its_own_error() -> None:
    async def handler(conn: AsyncioLive) -> None:
        await conn.receive()
        raise ValueError("a mistake")

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(handler)) as server:
            await asked(server)

    with pytest.raises(HandlerCrashed, match=r"^connection 1: ValueError: a mistake$") as crash:
        played(scene)
    assert isinstance(crash.value.__cause__, ValueError)


def test_a_server_that_ends_before_its_handlers() -> None:
    """Nobody waits for a loop that stands still."""
    begun: list[int] = []
    cancelled: list[int] = []
    some = asyncio.Event()

    async def waits(conn: AsyncioLive) -> None:
        begun.append(conn.record.number)
        some.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(conn.record.number)
            some.set()
            raise

    async def three(seen: list[int]) -> None:
        while len(seen) < 3:
            some.clear()
            await some.wait()

    async def scene() -> None:
        writers = []
        async with faultkit.serve(answer=in_asyncio(waits)) as server:
            for number in (1, 2, 3):
                writers.append((await asyncio.open_connection(*server.address))[1])
                await server.await_connection(number)
            await three(begun)
        await three(cancelled)
        for writer in writers:
            writer.close()

    played(scene)
    assert sorted(cancelled) == [1, 2, 3]


def test_elsewhere_it_is_refused() -> None:
    with pytest.raises(Misuse, match=r"^in_asyncio\(handler\) is for tests in asyncio, whose loop it runs in"):
        in_asyncio(shouts)


async def test_in_trio_too() -> None:
    with pytest.raises(Misuse):
        in_asyncio(shouts)


def test_the_end_of_the_loop_is_no_crash() -> None:
    came = asyncio.Event()

    async def never(conn: AsyncioLive) -> None:
        came.set()
        await conn.receive()
        await asyncio.sleep(3600)

    async def scene(server: Server) -> None:
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(b"hello")
        await came.wait()
        writer.close()

    servers = []

    async def opens() -> None:
        servers.append(faultkit.serve(answer=in_asyncio(never)))
        await scene(servers[0].__enter__())

    asyncio.run(opens())  # it cancels what it still runs
    servers[0].__exit__(None, None, None)


came: asyncio.Queue[int]


async def swallows(conn: AsyncioLive) -> None:
    came.put_nowait(conn.record.number)
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(3600)


async def comes(server: Server) -> None:
    """A client, which hangs up when its handler has begun."""
    _, writer = await asyncio.open_connection(*server.address)
    await came.get()
    writer.close()
    await writer.wait_closed()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    global came
    came = asyncio.Queue()
    monkeypatch.setattr(supervised, "PATIENCE", 0.2)
    yield
    supervised.LEFT.clear()


STUCK = r"the handler swallows at test_in_asyncio.py:\d+ did not end within 0.2 s of being cancelled: let CancelledError pass"


@pytest.mark.usefixtures("impatient")
def test_one_that_swallows_its_cancellation_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(swallows)) as server:
            for _ in range(3):
                await comes(server)

    played(scene)
    assert len(supervised.LEFT) == 3
    for sentence in supervised.LEFT:
        assert re.fullmatch(STUCK, sentence)
    assert re.search(STUCK, caplog.text)


@pytest.mark.usefixtures("impatient")
def test_so_is_one_whose_loop_ends_before_its_server() -> None:
    servers = []

    async def opens() -> None:
        servers.append(faultkit.serve(answer=in_asyncio(swallows)))
        server = servers[0].__enter__()
        await comes(server)

    asyncio.run(opens())
    with pytest.raises(HandlerCrashed, match=f"^connection 1: Stuck: {STUCK}$"):
        servers[0].__exit__(None, None, None)


def test_one_that_cleans_up_after_its_cancellation_may(impatient: None) -> None:
    cleaned = []

    async def cleans(conn: AsyncioLive) -> None:
        try:
            came.put_nowait(conn.record.number)
            await asyncio.sleep(3600)
        finally:
            for _ in range(10):
                await asyncio.sleep(0.001)
            cleaned.append(conn.record.number)

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(cleans)) as server:
            await comes(server)

    played(scene)
    assert cleaned == [1]
    assert supervised.LEFT == []


@pytest.mark.parametrize("verb", ["send", "answer", "abort", "half_close", "receive"])
def test_what_is_not_awaited_ends_the_connection_and_is_told_of(verb: str) -> None:
    async def forgets(conn: AsyncioLive) -> None:
        await conn.receive()
        getattr(conn, verb)(*[b"x"] * (verb in ("send", "answer")))
        await asyncio.sleep(3600)

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(forgets)) as server:
            assert await asked(server) == "EOF"

    sentence = (
        rf"^connection 1: Misuse: conn\.{verb}\(\.\.\.\) at test_in_asyncio.py:\d+ was never awaited, so nothing was done: "
        "in asyncio every verb is awaited$"
    )
    with pytest.raises(HandlerCrashed, match=sentence):
        played(scene)


def test_it_is_told_of_where_the_handler_ends_too() -> None:
    async def forgets(conn: AsyncioLive) -> None:
        await conn.receive()
        conn.send(b"x")  # type: ignore[unused-coroutine]  # that is what is told of

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(forgets)) as server:
            await asked(server)

    with pytest.raises(HandlerCrashed, match=r"conn.send\(...\) at test_in_asyncio.py:\d+ was never awaited"):
        played(scene)


def test_what_is_awaited_in_any_way_is_awaited() -> None:
    async def handler(conn: AsyncioLive) -> None:
        task = asyncio.create_task(conn.receive())
        assert await asyncio.wait_for(task, PATIENCE) == b"hello"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(conn.receive(), 0)
        await asyncio.gather(conn.send(b"a"), conn.request())
        async with asyncio.TaskGroup() as group:
            group.create_task(conn.send(b"b"))
        later = conn.send(b"c")
        await later

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(handler)) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"hello")
            assert await reader.read() == b"abc"
            writer.close()

    played(scene)


async def sleeps(conn: AsyncioLive) -> None:
    await asyncio.sleep(1)


async def queues(conn: AsyncioLive) -> None:
    await asyncio.Queue[int]().get()


@pytest.mark.parametrize("handler", [sleeps, queues])
def test_who_forgets_in_asyncio_is_told_of_it(handler: Handler) -> None:
    async def scene() -> None:
        async with faultkit.serve(answer=handler) as server:  # type: ignore[arg-type]  # that is the mistake
            await asked(server)

    with pytest.raises(HandlerCrashed, match=r"; a handler in asyncio is answer=faultkit.in_asyncio\(handler\)$"):
        played(scene)


def test_what_asyncio_raises_there_is_no_such_mistake() -> None:
    async def impatient(conn: AsyncioLive) -> None:
        await asyncio.wait_for(asyncio.sleep(1), 0.01)

    async def scene() -> None:
        async with faultkit.serve(answer=in_asyncio(impatient)) as server:
            await asked(server)

    with pytest.raises(HandlerCrashed, match=r"^connection 1: TimeoutError$"):
        played(scene)
