"""Who may ask: no web page of another origin, whatever its name resolves to (DNS rebinding), and nobody without the token."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from faultkit.controlling import answers
from faultkit.errors import one_line

OWN = ("same-origin", "none")  # a page of ours, or an address that somebody typed (Fetch Metadata, Sec-Fetch-Site)


class Guard:
    """The application behind its checks."""

    def __init__(self, app: ASGIApp, *, names: Collection[str], token: str | None) -> None:
        """`names`: what the server may be called beside its addresses and localhost."""
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if not scope["http_version"].startswith("1."):
            await answers.plain("HTTP/1.1 only\n", 505)(scope, receive, send)
            return
        refused = self._refused(Headers(scope=scope))
        await (refused or self._app)(scope, receive, send)

    def _refused(self, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) > 1 or not all(self._is_ours(host) for host in hosts):
            return answers.plain(
                f"Host not allowed: {one_line(', '.join(hosts))}: use an address or localhost, "
                "or start the server with --allow-host NAME\n",
                403,
            )
        for origin in headers.getlist("origin"):
            if not hosts or origin.lower() != f"http://{hosts[0].lower()}":
                return answers.plain(f"Origin not allowed: {one_line(origin)}\n", 403)
        if headers.get("sec-fetch-site", "none") not in OWN:
            return answers.plain("Origin not allowed: the request comes from another site's page\n", 403)
        if self._token is not None and not self._is_right(headers.get("authorization", "")):
            refused = answers.error("token missing or wrong: send Authorization: Bearer TOKEN", 401)
            refused.headers["WWW-Authenticate"] = 'Basic realm="faultkit: any user, the token as password"'
            return refused
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = parts.hostname or ""
        except ValueError:
            return False
        if parts.netloc != host or "@" in host:
            return False
        if name.rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True

    def _is_right(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        assert self._token is not None
        return hmac.compare_digest(given.strip().encode(), self._token.encode())
