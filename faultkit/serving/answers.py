"""What a healthy connection answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from faultkit.errors import Misuse

if TYPE_CHECKING:
    import h11

    from faultkit.serving.connection import Live

Handler = Callable[["Live"], Awaitable[None]]


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


@dataclass(frozen=True)
class Http:
    """HTTP/1.1 with keep-alive, for `answer=`: any request is answered with that status and that body.

    Chunked: in one chunk (RFC 9112 section 7.1) instead of with its length; HTTP/1.0 knows none, so there its end is FIN.
    Raises `Misuse` for a status that ends no request, and for a body that is no bytes.
    """

    body: bytes = b"hello from faultkit\n"
    status: int = 200
    content_type: str = "text/plain"
    chunked: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.status, int) or not 200 <= self.status <= 599:
            raise Misuse(f"Http(status={self.status!r}): it is 200 to 599")
        if not isinstance(self.body, bytes):
            raise Misuse(f"Http(body={self.body!r}): it is bytes")

    async def __call__(self, conn: Live) -> None:
        import h11

        http = h11.Connection(h11.SERVER)
        try:
            while await self._answer(conn, http):
                http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                body = f"{error}\n".encode()
                fields = [*self._fields(body), ("Connection", "close")]
                await conn.answer(body, self._head(http, error.error_status_hint, fields))
                conn.finish()  # a close over what is still coming would reset the answer

    async def _answer(self, conn: Live, http: h11.Connection) -> bool:
        """Read one request and answer it. False where there is no further one."""
        import h11

        method = b"GET"
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                if http.they_are_waiting_for_100_continue:
                    going_on = http.send(h11.InformationalResponse(status_code=100, headers=[]))
                    await conn.send(going_on or b"")
                http.receive_data(await conn.receive())
            elif isinstance(event, h11.Request):
                method = event.method
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                return False
        await conn.request()
        fields = self._fields(self.body)
        if self.chunked:
            fields.pop()  # where no length is told, h11 takes chunks
        status = self.status if method != b"CONNECT" else 405  # a 200 would make a tunnel of it
        head = self._head(http, status, fields if status != 204 else [])
        body = b"" if method == b"HEAD" or status in (204, 304) else self.body  # RFC 9110 section 6.4.1
        framed = (http.send(h11.Data(body)) or b"") if body else b""
        await conn.answer(framed + (http.send(h11.EndOfMessage()) or b""), head)
        return http.our_state is h11.DONE and http.their_state is h11.DONE

    def _fields(self, body: bytes) -> list[tuple[str, str]]:
        return [("Content-Type", self.content_type), ("Content-Length", str(len(body)))]

    def _head(self, http: h11.Connection, status: int, fields: list[tuple[str, str]]) -> bytes:
        import h11

        return http.send(h11.Response(status_code=status, headers=fields)) or b""


Answer = Literal["echo", "http"] | bytes | Http | Handler


def chosen(answer: Answer) -> Handler:
    """The handler that this asks for. Raises `Misuse`."""
    if answer == "echo":
        return echo
    if answer == "http":
        return Http()
    if isinstance(answer, bytes | bytearray):
        return Fixed(bytes(answer))
    if isinstance(answer, Http):
        return answer
    if callable(answer):
        return answer
    raise Misuse(
        f"answer={answer!r} is nothing to answer: take 'echo', 'http', faultkit.Http(...), bytes, or async def handler(conn)"
    )


def speaks_first(handler: Handler) -> bool:
    """May it speak before the client does? Only what we wrote is known not to."""
    return not (handler is echo or isinstance(handler, Fixed | Http))
