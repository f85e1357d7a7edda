"""A request is read to its end before it is answered: an earlier answer ends the connection, which clients keep."""

from __future__ import annotations

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faultkit.controlling import answers

PATIENCE = 15.0  # seconds for a request's body
LARGEST = 16 << 20  # bytes of it; arbitrary


class Whole:
    """The application, which is told a request when all of it is there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._reading: set[trio.CancelScope] = set()
        self._ended = False

    def end(self) -> None:
        """The server ends: no body is waited for any more."""
        self._ended = True
        for scope in self._reading:
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found: bytearray | None = None
        with trio.move_on_after(PATIENCE) as waiting:
            self._reading.add(waiting)
            try:
                found = await _read(receive)
            finally:
                self._reading.discard(waiting)
        if found is None and self._ended:
            await answers.error("the server ends", 503)(scope, receive, send)
        elif found is None:
            await answers.error("bad request body: i/o timeout", 400)(scope, receive, send)
        elif len(found) > LARGEST:
            await answers.error(f"bad request body: it is larger than {LARGEST} bytes", 413)(scope, receive, send)
        else:
            whole: list[Message] = [{"type": "http.request", "body": bytes(found), "more_body": False}]

            async def told() -> Message:
                return whole.pop() if whole else await receive()

            await self._app(scope, told, send)


async def _read(receive: Receive) -> bytearray:
    found = bytearray()
    while len(found) <= LARGEST:
        message = await receive()
        found += message.get("body", b"")
        if not message.get("more_body"):
            break
    return found
