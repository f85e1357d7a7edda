"""The stale keep-alive connection with a real server: uvicorn's `timeout_keep_alive` expires while a request arrives.

Left alone, uvicorn hardly ever loses that race: its loop looks at its sockets before it runs a timer that is due, so a
request that is there in time is read, and one that comes later meets a FIN that the client's kernel has already. What it
takes is a loop that is busy when the timer comes due, as it is in every program with a handler that blocks: here one that
blocks until the time is up, gives the loop one turn, in which it sees the timer and no request, and blocks again until the
request is in the kernel. Then the timer closes the connection over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn

from tests.real.clients import Client, Setting
from tests.real.play import PATIENCE, Seen, asked, dialled, good, lengths

KEEP_ALIVE = 1  # seconds; uvicorn takes whole ones


class Blocking:
    """An ASGI application that answers a path with itself, and blocks its loop at /busy."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.expired = threading.Event()  # the timer is due, and the loop is blocked
        self.stale = -1  # the descriptor of the server's end of the connection that is to be closed

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        while (await receive())["more_body"]:
            pass  # whoever answers before the body is there has no timer afterwards: data that comes stops it
        self.asked.append(scope["path"])
        if scope["path"] == "/busy":
            time.sleep(KEEP_ALIVE)  # noqa: ASYNC251
            await asyncio.sleep(0)
            self.expired.set()
            select.select([self.stale], [], [])
        body = scope["path"].encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(application: Blocking) -> Iterator[tuple[uvicorn.Server, tuple[str, int]]]:
    """uvicorn itself, as it comes, in a thread."""
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            loop="asyncio",
            http="h11",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE,
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield server, listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def play(client: Client, method: str) -> Seen:
    """One request that loses the race, and one afterwards."""
    length = lengths(client, method).first
    application = Blocking()
    with (
        serving(application) as (server, address),
        client.open(Setting(f"http://{address[0]}:{address[1]}", PATIENCE)) as ask,
    ):
        dialled[address] = 0
        good(ask(method, "/the/request/1"), "/the/request/1")
        [protocol] = server.server_state.connections
        end = protocol.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)  # readable when all of a request is there
        application.stale = end.fileno()
        with socket.create_connection(address) as other:
            other.sendall(b"GET /busy HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            application.expired.wait()
            what = asked(ask, method, "/the/request/2")
            while other.recv(4096):  # until it is answered and closed
                pass
        read = application.asked.count("/the/request/2")
        again = dialled[address] - 2  # without the client's first connection, and ours
        return Seen(what, again, read, False, asked(ask, method, "/the/request/3"))
