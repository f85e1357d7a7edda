"""Handlers for protocols that faultkit has no `answer=` for, as far as the gallery's clients need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faultkit import Live


async def websocket(conn: Live, *, at_ping: Callable[[Live], None] | None) -> None:
    """RFC 6455: the handshake, and a pong for each ping, or what is to be done instead."""
    from wsproto import ConnectionType, WSConnection, events

    ws = WSConnection(ConnectionType.SERVER)
    while data := await conn.receive():
        ws.receive_data(data)
        for event in ws.events():
            if isinstance(event, events.Request):
                await conn.request()
                await conn.answer(ws.send(events.AcceptConnection()))
            elif isinstance(event, events.Ping):
                if at_ping:
                    at_ping(conn)
                else:
                    await conn.send(ws.send(event.response()))
            elif isinstance(event, events.CloseConnection):
                await conn.send(ws.send(event.response()))
                return


POSTGRES_READY = (
    b"R\0\0\0\x08\0\0\0\0"  # AuthenticationOk
    b"S\0\0\0\x18server_version\x0016.0\0"  # ParameterStatus
    b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02"  # BackendKeyData
    b"Z\0\0\0\x05I"  # ReadyForQuery
)

MYSQL_GREETING = (
    b"\x4a\0\0\0\x0a8.0.36\0"  # length 74, number 0; protocol 10, the server's version
    b"\x01\0\0\0abcdefgh\0\xff\xf7\x08\x02\0\xff\x81\x15\0\0\0\0\0\0\0\0\0\0"  # thread, salt, capabilities
    b"ijklmnopqrst\0mysql_native_password\0"  # the salt's rest, the plugin
)
