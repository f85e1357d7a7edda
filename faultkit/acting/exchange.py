"""HTTP/1.1 on recorded sockets: a client, for requests to real programs, whose answers are kept, and a server's reading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import h11

from faultkit.evidence.transcript import Address, Call, Exchange

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.witness.calls import Socket

# Loopback is all of 127.0.0.0/8 (RFC 6890): an end of our own is told from the programs', which connect from 127.0.0.1.
HOST = "127.0.0.10"


Next: TypeAlias = "h11.Event | type[h11.NEED_DATA | h11.PAUSED] | Call"


class Client:
    """One connection, kept open from request to request; a new one where the last was closed."""

    def __init__(self, play: Play, server: Address, *, role: str = "client", host: str = HOST) -> None:
        self._play = play
        self._server = server
        self._role = role
        self._host = host
        self._socket: Socket | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._asked = ("", 0)
        self._failed = ""

    @property
    def socket(self) -> Socket:
        """The connection's, to wait for what happens to it."""
        assert self._socket is not None, "only once something was asked"
        return self._socket

    async def request(self, method: str, target: str, *, body: bytes = b"", note: str = "") -> Exchange:
        """Ask, and take the answer."""
        await self.ask(method, target, body=body)
        return await self.answer(note)

    async def ask(self, method: str, target: str, *, body: bytes = b"", last: bool = False) -> None:
        """Send a request, all of it; with `last` it says that none will follow (Connection: close)."""
        self._asked, self._failed = (f"{method} {target}", time.time_ns()), ""
        if self._socket is None:
            self._http = h11.Connection(h11.CLIENT)
            self._socket = self._play.socket(self._role)
            self._socket.bind(Address(self._host, 0))
            connected = await self._socket.connect(self._server)
            if connected.outcome != "ok":
                self._failed = connected.told
                return
        headers = [("Host", str(self._server))]
        if body or method != "GET":
            headers.append(("Content-Length", str(len(body))))
        if last:
            headers.append(("Connection", "close"))
        request = h11.Request(method=method, target=target, headers=headers)
        data = written(self._http, request, *([h11.Data(body)] if body else []), h11.EndOfMessage())
        sent = await self._socket.send_all(data)
        if not sent.outcome.isdecimal():
            self._failed = sent.told

    async def answer(self, note: str = "") -> Exchange:
        """Take the answer to what was asked, whole.

        The outcome is its status, what the call that failed was told, or both: "200 then recv ECONNRESET".
        """
        status, body = await self._receive()
        request, began_ns = self._asked
        if self._failed or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self.close()
        else:
            self._http.start_next_cycle()
        outcome = " then ".join(filter(None, (status, self._failed)))
        exchange = Exchange(self._role, request, outcome, began_ns, time.time_ns(), note, body)
        self._play.transcript.exchanges.append(exchange)
        return exchange

    async def _receive(self) -> tuple[str, bytes]:
        status, body = "", b""
        while not self._failed:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:  # also an end in the middle of the answer
                self._failed = "recv EOF" if self._http.trailing_data[1] else f"not HTTP: {error}"
                break
            if event is h11.NEED_DATA:
                told = await self.socket.recv(65536)
                if told.data or told.outcome == "EOF":
                    self._http.receive_data(told.data)
                else:
                    self._failed = told.told
            elif isinstance(event, h11.Response):
                status = str(event.status_code)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                self._failed = "recv EOF"
        return status, body

    def close(self) -> None:
        """Give the connection up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def written(http: h11.Connection, *events: h11.Event) -> bytes:
    """The bytes of these events."""
    return b"".join(http.send(event) or b"" for event in events)


def answer(http: h11.Connection, body: bytes, *, status: int = 200, more: Sequence[tuple[str, str]] = ()) -> bytes:
    """An answer, whole."""
    head = h11.Response(status_code=status, headers=[("Content-Length", str(len(body))), *more])
    return written(http, head, h11.Data(body), h11.EndOfMessage())


async def next_event(end: Socket, http: h11.Connection, *, size: int = 65536) -> Next:
    """What comes next, read as far as that takes; where the connection has ended instead, what that recv was told."""
    while (event := http.next_event()) is h11.NEED_DATA:
        told = await end.recv(size)
        if not told.data:
            return told
        http.receive_data(told.data)
    return event


async def asked(connection: Socket, http: h11.Connection) -> bytes:
    """Read one request, for a server of our own. Gives its target; nothing where the connection ended instead."""
    target = b""
    while not isinstance(event := await next_event(connection, http), h11.EndOfMessage):
        if isinstance(event, Call):
            return b""
        if isinstance(event, h11.Request):
            target = event.target
    return target
