"""Waiting for a connection: in a thread, in asyncio, in Trio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest
import trio

import faultkit
from faultkit import Misuse, Server
from tests.serving.client import client


def test_a_thread_waits_for_a_connection_and_gets_that_one() -> None:
    with faultkit.serve() as server:
        coming = threading.Timer(0.05, lambda: stack.enter_context(client(server)))
        with contextlib.ExitStack() as stack:
            stack.enter_context(client(server))
            coming.start()
            assert server.wait_for_connection(2).number == 2
            assert server.wait_for_connection().number == 1
            coming.join()


def test_a_wait_that_is_too_long_says_what_has_come_by_then() -> None:
    with faultkit.serve() as server, contextlib.ExitStack() as stack:
        for came in ("no connection", "1 connection", "2 connections"):
            with pytest.raises(TimeoutError) as waited:
                server.wait_for_connection(3, timeout_seconds=0.02)
            assert str(waited.value) == f"{came} came, not 3, after 0.02 s"
            stack.enter_context(client(server))
            server.wait_for_connection(len(server.connections) or 1)


def test_there_is_no_connection_0() -> None:
    with faultkit.serve() as server, pytest.raises(Misuse) as refused:
        server.wait_for_connection(0)
    assert str(refused.value) == "connection 0: the first one is 1"


def test_asyncio_waits() -> None:
    async def play() -> None:
        async with faultkit.serve("linger") as server:
            with pytest.raises(Misuse, match="this would block the asyncio loop"):
                server.wait_for_connection()
            waiting = asyncio.create_task(server.await_connection())
            reader, writer = await asyncio.open_connection(*server.address)
            record = await waiting
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert (await record.await_end()).ended == "abort"
            writer.close()

    asyncio.run(asyncio.wait_for(play(), 20))


async def test_trio_waits_for_a_server_in_its_own_loop() -> None:
    with trio.fail_after(20):
        async with faultkit.serve("linger") as server, trio.open_nursery() as nursery:
            records: list[faultkit.Connection] = []

            async def wait() -> None:
                records.append(await server.await_connection())

            nursery.start_soon(wait)
            stream = await trio.open_tcp_stream(*server.address)
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            [record] = server.connections
            assert (await record.await_end()).ended == "abort"
            await stream.aclose()
        assert records == [record]


def test_trio_waits_for_a_server_in_another_thread() -> None:
    async def play(server: Server) -> None:
        with trio.fail_after(20):
            stream = await trio.open_tcp_stream(*server.address)
            assert (await server.await_connection()).number == 1
            await stream.aclose()
            assert (await server.connections[0].await_end()).ended == "peer closed"

    with faultkit.serve() as server:
        trio.run(play, server)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_wait_that_was_given_up_does_not_trouble_the_server(loop: str) -> None:
    """Nor one whose loop has ended in the middle of it."""

    async def give_up(server: Server) -> None:
        if loop == "trio":
            with trio.move_on_after(0.01):
                await server.await_connection()
        else:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(server.await_connection(), 0.01)

    with faultkit.serve() as server:
        held = server._waiting._wakers
        kept: set[Callable[[], object]] = set()
        held_add = held.add

        class Keeping(set[Callable[[], object]]):
            def add(self, wake: Callable[[], object]) -> None:
                kept.add(wake)
                held_add(wake)

        server._waiting._wakers = Keeping()
        trio.run(give_up, server) if loop == "trio" else asyncio.run(give_up(server))
        assert len(kept) == 1
        server._waiting._wakers = kept  # as the engine's thread has it that looked just before
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"
