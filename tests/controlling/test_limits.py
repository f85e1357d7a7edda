"""What takes too long is answered, and what is too large is not kept: by a clock that jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from trio.testing import MockClock

from faultkit.controlling import answers, reading
from faultkit.controlling.journal import Journal
from faultkit.controlling.reading import Whole
from faultkit.controlling.routes import HANDLING, ByMethod

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [],
    "client": None,
    "server": None,
}

Receive = Callable[[], Awaitable[dict[str, Any]]]


async def answered(app: Any, receive: Receive) -> tuple[int, bytes]:
    """The status and the body of its answer."""
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    await app(SCOPE, receive, send)
    return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:])


async def nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_a_handler_has_25_seconds(autojump_clock: MockClock) -> None:
    async def slow(_: Request) -> Response:
        await trio.sleep(HANDLING + 1)
        return answers.nothing()

    path = ByMethod("/", {"GET": slow}, Journal(lambda line: None), page=False)
    began = trio.current_time()
    status, body = await answered(path, nothing)
    assert (status, trio.current_time() - began) == (503, 25)
    assert body.startswith(b"<html>")


async def test_a_body_has_15_seconds(autojump_clock: MockClock) -> None:
    async def slow() -> dict[str, Any]:
        await trio.sleep(5)
        return {"type": "http.request", "body": b"{", "more_body": True}

    began = trio.current_time()
    status, body = await answered(Whole(answers.nothing()), slow)
    assert (status, trio.current_time() - began) == (400, 15)
    assert b"timeout" in body


async def test_a_body_that_is_too_large_is_not_kept() -> None:
    read = 0

    async def much() -> dict[str, Any]:
        nonlocal read
        read += 1 << 20
        return {"type": "http.request", "body": b" " * (1 << 20), "more_body": True}

    status, body = await answered(Whole(answers.nothing()), much)
    assert (status, read) == (413, reading.LARGEST + (1 << 20))
    assert b"larger than" in body


async def test_what_nobody_foresaw_is_an_answer_and_a_line(autojump_clock: MockClock) -> None:
    async def broken(_: Request) -> Response:
        raise ValueError("x")

    lines: list[str] = []
    status, body = await answered(ByMethod("/", {"GET": broken}, Journal(lines.append), page=False), nothing)
    assert status == 500
    assert b"ValueError" in body
    assert "Traceback" in lines[0]
