# /// bug
# field = "WebSocket"
# library = "aiohttp"
# buggy = "3.10.0"
# fixed = "3.10.1"
# report = "aio-libs/aiohttp#8540"
# seen = "TimeoutError"
# ///
"""No pong comes, the heartbeat gives up, and receive() waits on for ever."""

import asyncio

import aiohttp

from faultkit import FaultServer


async def test_receive_ends_with_the_heartbeat(fault_server: FaultServer) -> None:
    server = fault_server("black-hole", after_answers=1, answer="websocket", tls=True)
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(server.url, heartbeat=0.2, ssl=server.client_context)
        assert (await asyncio.wait_for(ws.receive(), 3)).type is aiohttp.WSMsgType.ERROR
