"""What a healthy connection answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from faultkit import keywords
from faultkit.errors import Misuse
from faultkit.serving.connection import Live
from faultkit.serving.http1 import Http, InTurn
from faultkit.serving.http2 import Http2
from faultkit.serving.lines import Redis, Smtp
from faultkit.serving.websocket import WebSocket

Handler = Callable[[Live], Awaitable[None]]


async def echo(conn: Live) -> None:
    """Each bytes that come, back again."""
    while data := await conn.receive():
        await conn.request()
        await conn.answer(data)


@dataclass(frozen=True)
class Fixed:
    """The same bytes, whenever something comes."""

    body: bytes

    async def __call__(self, conn: Live) -> None:
        while await conn.receive():
            await conn.request()
            await conn.answer(self.body)


Answer = (
    Literal["echo", "http", "http2", "websocket", "redis", "smtp"]
    | bytes
    | Http
    | Http2
    | WebSocket
    | Redis
    | Smtp
    | Sequence[Http]
    | Handler
)

# By name, and which of them say nothing before the client does. What is not listed is the test's own.
NAMED: Mapping[str, Callable[[], Handler]] = {
    "echo": lambda: echo,
    "http": Http,
    "http2": Http2,
    "websocket": WebSocket,
    "redis": Redis,
    "smtp": Smtp,
}
WAITS = (Fixed, Http, InTurn, WebSocket, Redis)
OURS = (*WAITS, Http2, Smtp)


def chosen(answer: Answer) -> Handler:
    """The handler that this asks for. Raises `Misuse`, and `Unable` where a library is missing."""
    if isinstance(answer, str) and answer in NAMED:
        return NAMED[answer]()
    if isinstance(answer, bytes | bytearray):
        return Fixed(bytes(answer))
    if isinstance(answer, list | tuple):
        return InTurn(answer)
    if isinstance(answer, type):
        raise Misuse(f"answer={answer.__name__} is a class: make one of it, answer={answer.__name__}(...)")
    if callable(answer):
        if not is_ours(answer):
            check_handler("answer", answer)
        return answer
    raise Misuse(
        f"answer={answer!r} is nothing to answer: take {', '.join(map(repr, NAMED))}, faultkit.Http(...) or a list of them, "
        "bytes, or async def handler(conn)"
    )


def check_handler(name: str, handler: object) -> None:
    """Raise `Misuse` for what is no `async def handler(conn)`, nor such a method, a `functools.partial` of one, or a function
    that may give what it gives."""
    if not keywords.takes_one(handler) or not (keywords.is_async(handler) or keywords.may_give(handler)):
        raise Misuse(
            f"{name}={keywords.called(handler)} cannot handle a connection: take async def handler(conn), "
            "or functools.partial of one that takes more"
        )


def is_ours(handler: Handler) -> bool:
    """Is it none of the test's own?"""
    return handler is echo or isinstance(handler, OURS)


def speaks_first(handler: Handler) -> bool:
    """May it speak before the client does?"""
    return not (handler is echo or isinstance(handler, WAITS))


def protocol(handler: Handler) -> str:
    """The protocol that it speaks, "" for the test's own, for bytes and for an echo."""
    return next((name for name, kind in NAMED.items() if isinstance(kind, type) and isinstance(handler, kind)), "")
