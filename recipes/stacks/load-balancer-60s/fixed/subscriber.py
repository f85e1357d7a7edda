# The WebSocket client: it waits for news.
import asyncio
import os

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

SECOND = float(os.environ.get("SECOND", "1"))  # a play's is shorter


async def main() -> None:
    async with connect("ws://127.0.0.1:8080", ping_interval=20 * SECOND) as websocket:
        try:
            async for message in websocket:
                print(message, flush=True)
        except ConnectionClosedError as error:
            print(f"ConnectionClosedError: {error}; {error.__cause__!r}", flush=True)


asyncio.run(main())
