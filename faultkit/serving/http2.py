"""HTTP/2 for healthy connections (RFC 9113), by h2; and what a server may say at a moment: GOAWAY, RST_STREAM, SETTINGS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from faultkit import keywords
from faultkit.errors import Misuse
from faultkit.serving.http1 import check_header
from faultkit.serving.optional import needed

if TYPE_CHECKING:
    from h2 import connection, events

    from faultkit.serving.connection import Live


@dataclass(frozen=True)
class Http2:
    """Any request is answered with that status, these headers and that body, for `answer=`; with TLS by ALPN, without it by prior
    knowledge.

    What `goaway`, `rst-stream` and `settings` say at their triggers is said at once. Raises `Misuse` for a status that ends no
    request, for a body that is no bytes and for a header that cannot be sent, and `Unable` without h2.
    """

    body: bytes = b"hello from faultkit\n"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keywords.check_fields(self)
        if not 200 <= self.status <= 599:
            raise Misuse(f"Http2(status={self.status!r}): it is 200 to 599")
        needed("h2", "http2")
        for name, value in self.headers.items():
            _check_header(name, value)

    async def __call__(self, conn: Live) -> None:
        await _Spoken(self, conn).run()


def _check_header(name: str, value: str) -> None:
    """Raise `Misuse` for a header that HTTP/2 cannot have: it is sent to nobody."""
    from h2 import config, connection, events, exceptions

    written = f"Http2(headers={{{name!r}: {value!r}}})"
    if name.lower() == "content-length":
        raise Misuse(f"{written}: the frames of the body say it: leave it out")
    check_header(written, name, value)
    client = connection.H2Connection()
    server = connection.H2Connection(config.H2Configuration(client_side=False))
    client.initiate_connection()
    client.send_headers(1, [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "localhost")], True)
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    try:
        server.send_headers(1, [(":status", "200"), (name.lower(), value)])
        came = client.receive_data(server.data_to_send())
    except (exceptions.ProtocolError, ValueError) as error:
        raise Misuse(f"{written}: it cannot be sent ({error})") from error
    told = [len(event.headers or ()) for event in came if isinstance(event, events.ResponseReceived)]
    if told != [2]:  # h2 leaves out what is of a connection (RFC 9113 section 8.2.2)
        raise Misuse(f"{written}: HTTP/2 has no such header: leave it out")


class _Spoken:
    """HTTP/2 on one connection."""

    def __init__(self, answer: Http2, conn: Live) -> None:
        from h2 import config, connection

        self._answer = answer
        self._conn = conn
        self._http = connection.H2Connection(config.H2Configuration(client_side=False))
        self._saying = trio.Lock()  # a frame is whole before the next
        self._asked = self._processed = 0  # streams: of the last request that is whole, and that is or was answered
        self._left: dict[int, bytes] = {}  # of the body of each stream
        self._without_body: set[int] = set()  # streams of HEAD

    async def run(self) -> None:
        self._http.initiate_connection()
        await self._flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say)
            await self._hear()
            nursery.cancel_scope.cancel()

    async def _hear(self) -> None:
        from h2 import events, exceptions

        while data := await self._conn.receive():
            try:
                came = self._http.receive_data(data)
            except exceptions.ProtocolError:  # h2 has written the GOAWAY that tells of it
                await self._flush()
                self._conn.finish()
                return
            for event in came:
                await self._meet(event)
                if isinstance(event, events.ConnectionTerminated):
                    return
            await self._flush()

    async def _meet(self, event: events.Event) -> None:
        from h2 import events

        if isinstance(event, events.RequestReceived):
            if dict(event.headers).get(b":method") == b"HEAD":
                self._without_body.add(event.stream_id)
        elif isinstance(event, events.DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self._asked = event.stream_id
            await self._conn.request()
            await self._obey()
            if _open(self._http, event.stream_id):
                self._processed = event.stream_id
                await self._begin(event.stream_id)
        elif isinstance(event, events.StreamReset):
            self._left.pop(event.stream_id, None)
        elif isinstance(event, events.WindowUpdated):
            async with self._saying:
                for stream in [*self._left]:
                    if _open(self._http, stream):
                        await self._go_on(stream)

    async def _begin(self, stream: int) -> None:
        """Answer a request, unless it was reset."""
        async with self._saying:
            if not _open(self._http, stream):
                return
            body = b"" if stream in self._without_body else self._answer.body
            fields = [
                (":status", str(self._answer.status)),
                *((name.lower(), text) for name, text in self._answer.headers.items()),
                ("content-length", str(len(self._answer.body))),
            ]
            self._http.send_headers(stream, fields, end_stream=not body)
            head = self._http.data_to_send()
            if body:
                self._left[stream] = body
                await self._go_on(stream, head)
            else:
                await self._conn.answer(b"", head)

    async def _go_on(self, stream: int, head: bytes = b"") -> None:
        """Send of its body what the client's windows take."""
        while body := self._left.get(stream, b""):
            room = min(self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size)
            if room <= 0:
                break
            self._left[stream] = body[room:]
            self._http.send_data(stream, body[:room], end_stream=len(body) <= room)
        if self._left.get(stream):
            await self._conn.send(head + self._http.data_to_send())
        else:
            self._left.pop(stream, None)
            await self._conn.answer(self._http.data_to_send(), head)

    async def _flush(self) -> None:
        """Send what h2 has written."""
        async with self._saying:
            await self._conn.send(self._http.data_to_send())

    async def _say(self) -> None:
        """Say what a fault has put in, whenever it sets in."""
        while True:
            await self._conn.to_say.wait()
            await self._obey()

    async def _obey(self) -> None:
        """Say it, about the request that is there."""
        from h2.settings import SettingCodes

        said, self._conn.said = self._conn.said, []
        if self._conn.to_say.is_set():
            self._conn.to_say = trio.Event()
        for word, number in said:
            if _closed(self._http):  # one end has said its last word
                return
            if word == "goaway":
                self._http.close_connection(number, last_stream_id=self._processed)
                await self._flush()
                self._conn.finish()
                await trio.sleep_forever()  # what ends the connection ends its task
            elif word == "rst-stream":
                streams = [one for one in {*self._left, self._asked} if _open(self._http, one)]
                if not streams:  # it is for the next request
                    self._conn.said.append((word, number))
                for one in streams:
                    self._http.reset_stream(one, number)
                    self._left.pop(one, None)
            else:
                self._http.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: number})
            await self._flush()


def _open(http: connection.H2Connection, stream: int) -> bool:
    """May something be said on that stream?"""
    known = http.streams.get(stream)
    return not _closed(http) and known is not None and not known.closed


def _closed(http: connection.H2Connection) -> bool:
    from h2.connection import ConnectionState

    return http.state_machine.state is ConnectionState.CLOSED
