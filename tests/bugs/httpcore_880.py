# /// bug
# field = "HTTP"
# library = "httpcore"
# buggy = "1.0.2"
# fixed = "1.0.3"
# report = "encode/httpcore#880"
# seen = "PoolTimeout"
# beside = ["httpx==0.26.0"]
# ///
"""A request that is cancelled while it connects keeps its place in the pool, and the next one waits for it in vain."""

import asyncio

import httpx
import pytest

from faultkit import FaultServer


async def test_a_cancelled_request_leaves_the_pool(fault_server: FaultServer) -> None:
    server = fault_server(plan=["stall", "ok"], at="accept", answer="http", tls=True)
    limits, trust = httpx.Limits(max_connections=1), server.client_context
    async with httpx.AsyncClient(limits=limits, verify=trust, timeout=3) as client:
        request = asyncio.create_task(client.get(server.url))
        await (await server.await_connection()).await_fired()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert (await client.get(server.url)).status_code == 200
