"""Paths with any name in them: %2F is a slash of the name, not of the path."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send


class Segments:
    """The application, whose paths are split at the slashes that were sent as such: %2F is one of a name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "raw_path" in scope:
            segments = map(unquote, scope["raw_path"].decode("ascii", "replace").split("/"))
            scope = {**scope, "path": "/".join(map(_kept, segments))}
        await self._app(scope, receive, send)


def _kept(segment: str) -> str:
    return segment.replace("%", "%25").replace("/", "%2F")


class Name(Convertor[str]):
    """A name in a path, as `Segments` leaves it."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """With its slashes."""
        return unquote(value)

    def to_string(self, value: str) -> str:
        """The other way."""
        return _kept(value)


register_url_convertor("name", Name())
