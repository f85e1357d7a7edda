# The WebSocket server: it has news for its subscriber after three minutes.
import asyncio
import os

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

SECOND = float(os.environ.get("SECOND", "1"))  # a play's is shorter


async def news(websocket: ServerConnection) -> None:
    await websocket.send("subscribed")
    try:
        await asyncio.wait_for(websocket.recv(), 180 * SECOND)
    except TimeoutError:
        await websocket.send("news")
    except ConnectionClosedError as error:
        print(f"ConnectionClosedError: {error}; {error.__cause__!r}", flush=True)


async def main() -> None:
    async with serve(news, "127.0.0.1", 8090, ping_interval=None) as server:
        await server.serve_forever()


asyncio.run(main())
