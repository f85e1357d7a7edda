# The WebSocket client: it waits for news.
import asyncio

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


async def main() -> None:
    async with connect("ws://127.0.0.1:8080", ping_interval=None) as websocket:
        try:
            async for message in websocket:
                print(message, flush=True)
        except ConnectionClosedError as error:
            print(f"ConnectionClosedError: {error}; {error.__cause__!r}", flush=True)


asyncio.run(main())
