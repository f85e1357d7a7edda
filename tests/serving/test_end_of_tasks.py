"""The end of a server waits for its connections' tasks."""

from __future__ import annotations

import trio
import trio.testing

import faultkit


async def test_a_handler_that_takes_its_time_to_end_is_waited_for() -> None:
    ended = []

    async def handler(conn: faultkit.Live) -> None:
        try:
            await conn.receive()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()  # the server's end among them
            ended.append(conn.record.number)

    async with faultkit.serve(answer=handler) as server:
        client = await trio.open_tcp_stream(*server.address)
        await server.await_connection()
        await trio.testing.wait_all_tasks_blocked()  # the handler has begun
    assert ended == [1]
    await client.aclose()


async def test_servers_that_are_cancelled_together_end_quietly() -> None:
    for _ in range(10):  # which of their tasks is told first is by chance
        with trio.CancelScope() as scope:
            async with faultkit.serve("stall", must_be_met=False) as first, faultkit.serve("linger", must_be_met=False):
                client = await trio.open_tcp_stream(*first.address)
                await first.await_connection()
                scope.cancel()
                await client.receive_some()
        await trio.aclose_forcefully(client)


async def test_a_fault_that_sets_in_is_waited_for() -> None:
    async with faultkit.serve("linger", at="fire") as server:
        client = await trio.open_tcp_stream(*server.address)
        connection = await server.await_connection()
        seen = []

        async def wait() -> None:
            seen.append((await connection.await_fired()).ended)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert seen == []
            server.fire()
        assert seen == ["abort"]
        await client.aclose()
