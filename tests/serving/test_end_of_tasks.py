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
