"""The peer in ordinary trio: a task for each connection, which reads a byte and resets. Prints its port. Ends by a signal."""

from __future__ import annotations

import socket
import struct

import trio


async def reset(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listener.socket.getsockname()[1], flush=True)
    await trio.serve_listeners(reset, [listener])


if __name__ == "__main__":
    trio.run(main)
