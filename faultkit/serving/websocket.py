"""WebSocket for healthy connections (RFC 6455), by wsproto."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit import keywords
from faultkit.serving.optional import needed

if TYPE_CHECKING:
    from wsproto import WSConnection, events

    from faultkit.serving.connection import Live


@dataclass(frozen=True)
class WebSocket:
    """An echo of messages, for `answer=`. The handshake counts as the first request, and each message as another.

    Pongs: pings are answered. Raises `Unable` without wsproto.
    """

    pongs: bool = True

    def __post_init__(self) -> None:
        keywords.check_fields(self)
        needed("wsproto", "websocket")

    async def __call__(self, conn: Live) -> None:
        from wsproto import ConnectionType, WSConnection
        from wsproto.utilities import RemoteProtocolError

        spoken = WSConnection(ConnectionType.SERVER)
        while data := await conn.receive():
            try:
                spoken.receive_data(data)
            except RemoteProtocolError as error:
                if error.event_hint:
                    await conn.answer(spoken.send(error.event_hint))
                conn.finish()
            for event in spoken.events():
                if not await self._met(conn, spoken, event):
                    return

    async def _met(self, conn: Live, spoken: WSConnection, event: events.Event) -> bool:
        """Answer what has come. False where nothing is said after that."""
        from wsproto import events

        if isinstance(event, events.Request):
            await conn.request()
            chosen = event.subprotocols[0] if event.subprotocols else None
            await conn.answer(spoken.send(events.AcceptConnection(subprotocol=chosen)))
        elif isinstance(event, events.Ping):
            if self.pongs:
                await conn.send(spoken.send(event.response()))
        elif isinstance(event, events.Message):
            if event.message_finished:
                await conn.request()
            framed = spoken.send(type(event)(data=event.data, message_finished=event.message_finished))
            if event.message_finished:
                await conn.answer(framed)
            else:
                await conn.send(framed)
        elif isinstance(event, events.CloseConnection):
            await conn.send(spoken.send(event.response()))
            conn.finish()
            return False
        return True
