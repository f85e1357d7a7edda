"""HTTP/1.1 for healthy connections, by h11."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faultkit import keywords
from faultkit.errors import Misuse

if TYPE_CHECKING:
    import h11

    from faultkit.serving.connection import Live


@dataclass(frozen=True)
class Http:
    """HTTP/1.1 with keep-alive, for `answer=`: any request is answered with that status, these headers and that body.

    Chunked: in one chunk (RFC 9112 section 7.1) instead of with its length; HTTP/1.0 knows none, so there its end is FIN.
    Early: as soon as the request's head is there, without the body, and without a 100 that is waited for (RFC 9110 section
    10.1.1); FIN follows, and what is still coming is read and thrown away, so that no reset takes the answer with it.
    Raises `Misuse` for a status that ends no request, for a body that is no bytes, and for a header that cannot be sent.
    """

    body: bytes = b"hello from faultkit\n"
    status: int = 200
    content_type: str = "text/plain"
    chunked: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    early: bool = False

    def __post_init__(self) -> None:
        keywords.check_fields(self)
        if not 200 <= self.status <= 599:
            raise Misuse(f"Http(status={self.status!r}): it is 200 to 599")
        check_header(f"Http(content_type={self.content_type!r})", "Content-Type", self.content_type)
        for name, value in self.headers.items():
            check_header(f"Http(headers={{{name!r}: {value!r}}})", name, value)
            if name.lower() == "content-length" and int(value) != len(self.body) and self.status != 304:
                raise Misuse(
                    f"Http(headers={{{name!r}: {value!r}}}): the body has {len(self.body)} bytes: leave it out, "
                    "or write such an answer as bytes, answer=b'...'"
                )

    async def __call__(self, conn: Live) -> None:
        await serve(conn, lambda: self)

    def fields(self, body: bytes) -> list[tuple[str, str]]:
        """The header fields of an answer with that body."""
        own = {name.lower() for name in self.headers}
        ours = [] if "content-type" in own else [("Content-Type", self.content_type)]
        length = (
            []
            if self.chunked or own & {"content-length", "transfer-encoding"}
            else [("Content-Length", str(len(body)))]
        )
        return [*ours, *self.headers.items(), *length]


@dataclass
class InTurn:
    """Each request, on whichever connection, has the next of these answers, and those after the last have that."""

    answers: Sequence[Http]
    taken: int = 0

    def __post_init__(self) -> None:
        if not self.answers or not all(isinstance(one, Http) for one in self.answers):
            raise Misuse(f"answer={self.answers!r}: a list is of faultkit.Http(...), one at least")

    async def __call__(self, conn: Live) -> None:
        await serve(conn, self._next)

    def _next(self) -> Http:
        self.taken += 1
        return self.answers[min(self.taken, len(self.answers)) - 1]

    def begin_anew(self) -> None:
        """The next request has the first again."""
        self.taken = 0


def check_header(written: str, name: str, value: str) -> None:
    """Raise `Misuse` for a header that cannot be sent, as it is written there."""
    import h11

    try:
        h11.Response(status_code=200, headers=[(name, value)])
    except (h11.LocalProtocolError, UnicodeEncodeError) as error:
        raise Misuse(f"{written}: it cannot be sent ({error})") from error


async def serve(conn: Live, turn: Callable[[], Http]) -> None:
    """Answer each request on a connection, with whose turn it is."""
    import h11

    http = h11.Connection(h11.SERVER)
    try:
        while await _answer(conn, http, turn):
            http.start_next_cycle()
    except h11.RemoteProtocolError as error:
        if http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = f"{error}\n".encode()
            fields = [*Http().fields(body), ("Connection", "close")]
            await conn.answer(body, _head(http, error.error_status_hint, fields))
            conn.finish()  # a close over what is still coming would reset the answer


async def _answer(conn: Live, http: h11.Connection, turn: Callable[[], Http]) -> bool:
    """Read one request and answer it. False where there is no further one."""
    import h11

    method, answer = b"GET", None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                going_on = http.send(h11.InformationalResponse(status_code=100, headers=[]))
                await conn.send(going_on or b"")
            http.receive_data(await conn.receive())
        elif isinstance(event, h11.Request):
            method, answer = event.method, turn()
            if answer.early:
                break
        elif isinstance(event, h11.EndOfMessage):
            break
        elif isinstance(event, h11.ConnectionClosed):
            return False
    assert answer
    await conn.request()
    fields = answer.fields(answer.body)
    status = answer.status if method != b"CONNECT" else 405  # a 200 would make a tunnel of it
    if answer.early:
        fields.append(("Connection", "close"))
    head = _head(http, status, fields if status != 204 else [*answer.headers.items()])
    body = b"" if method == b"HEAD" or status in (204, 304) else answer.body  # RFC 9110 section 6.4.1
    framed = (http.send(h11.Data(body)) or b"") if body else b""
    await conn.answer(framed + (http.send(h11.EndOfMessage()) or b""), head)
    if answer.early:
        conn.finish()
        return False
    return http.our_state is h11.DONE and http.their_state is h11.DONE


def _head(http: h11.Connection, status: int, fields: list[tuple[str, str]]) -> bytes:
    import h11

    return http.send(h11.Response(status_code=status, headers=fields)) or b""
