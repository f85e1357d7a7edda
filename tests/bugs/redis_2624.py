# /// bug
# field = "Redis"
# library = "redis"
# buggy = "4.5.1"
# fixed = "4.5.3"
# report = "redis/redis-py#2624"
# seen = "b'slow' == b'quick'"
# ///
"""A pipeline that is cancelled leaves its answers behind, and the next command takes the first for its own."""

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
    pipeline = client.pipeline(transaction=False)
    pipeline.get("slow")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pipeline.execute(), 0.5)
    assert await asyncio.wait_for(client.get("quick"), 3) == b"quick"
