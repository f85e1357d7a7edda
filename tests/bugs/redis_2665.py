# /// bug
# field = "Redis"
# library = "redis"
# buggy = "4.5.3"
# fixed = "4.5.4"
# report = "redis/redis-py#2665"
# seen = "b'slow' == b'quick'"
# ///
"""A command that is cancelled leaves its answer behind, and the next command takes it for its own."""

import asyncio

import pytest
import redis.asyncio

from faultkit import FaultServer, Live


async def test_each_command_has_its_own_answer(fault_server: FaultServer) -> None:
    async def late(conn: Live) -> None:
        if b"slow" in await conn.receive():
            await conn.receive()  # the next command, or the end
            await conn.send(b"+slow\r\n")
        await conn.send(b"+quick\r\n")

    server = fault_server(answer=late)
    client = redis.asyncio.Redis(host=server.host, port=server.port)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.get("slow"), 0.2)
    assert await client.get("quick") == b"quick"
