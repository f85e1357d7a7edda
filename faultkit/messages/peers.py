"""Whom a line names: the server or upstream, and the client."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HOST = r"(?:\[[0-9a-fA-F:.%]{2,60}\]|[A-Za-z0-9](?:[\w.-]{0,200}\w)?)"
_ADDRESS = rf"{_HOST}(?::\d{{1,5}})?"

_PORT = r"\d{1,5}"
_TOWARDS = r"while (?:reading from|writing to)|from remote server|connecting to|connect to|connect \w{1,20}"
_CALLED = r"upstream|upstream_addr|upstream_host|server|backend|address|addr|remote|peer"

# In this order: what says most clearly who it is.
_SERVERS = [
    re.compile(rf"upstream: \"(?:\w{{1,12}}://)?(?P<peer>{_ADDRESS}|unix:[^\s\"]{{1,200}})"),
    re.compile(rf"->(?P<peer>{_HOST}:{_PORT})"),
    re.compile(rf"\bdial tcp[46]? (?P<peer>{_HOST}:{_PORT})"),
    re.compile(rf"\bR:(?:[\w.-]{{1,200}})?/(?P<peer>{_HOST}:{_PORT})"),
    re.compile(rf"\b(?:connect|connected) to (?P<host>{_HOST}),? port (?P<port>{_PORT})", re.IGNORECASE),
    re.compile(rf"\bhost=['\"]?(?P<host>{_HOST})(?:/{_HOST})?['\"]?,? ?port=['\"]?(?P<port>{_PORT})"),
    re.compile(rf"\b(?:{_TOWARDS}) (?P<peer>{_HOST}:{_PORT})", re.IGNORECASE),
    re.compile(rf"\b(?:{_CALLED})[\"']?[:=] ?[\"']?(?:\w{{1,12}}://)?(?P<peer>{_HOST}:{_PORT})", re.IGNORECASE),
    re.compile(rf"\w{{1,12}}://(?:[^\s/@\"]{{1,100}}@)?(?P<peer>{_ADDRESS})"),
]
_PROXIED = re.compile(r"\] (?P<front>[\w.~-]{1,100}) (?P<peer>[\w.-]{1,100}/[\w.<>-]{1,100}) [-\d]{1,10}/[-\d]{1,10}/")
_CLIENTS = [
    re.compile(rf"\bclient: (?P<peer>{_HOST})"),
    re.compile(rf"\[client (?P<peer>{_ADDRESS})\]"),
    re.compile(rf"\bhaproxy\[\d{{1,10}}\]: (?P<peer>{_HOST}):\d{{1,5}} "),
    re.compile(rf"\b(?:client_ip|remote_ip|remote_addr|client|remoteAddress)[\"']?[:=] ?[\"']?(?P<peer>{_HOST})"),
    re.compile(rf"\bhost=(?P<peer>{_HOST})\(\d{{1,5}}\)|\bfrom (?P<other>{_HOST}):\d{{1,5}}\b"),
]
_BARE = re.compile(r"(?<![\w.])(?P<peer>\d{1,3}(?:\.\d{1,3}){3}:\d{1,5})(?![\w.])")


@dataclass(frozen=True, slots=True)
class Peers:
    """What the line calls them; "" where it does not."""

    server: str = ""
    client: str = ""

    def of(self, writer: str) -> str:
        """The other end, of who wrote it."""
        return self.client if writer in ("server", "downstream") else self.server


NOBODY = Peers()


def _first(patterns: list[re.Pattern[str]], text: str) -> str:
    for pattern in patterns:
        if found := pattern.search(text):
            groups = found.groupdict()
            if groups.get("host"):
                return f"{groups['host']}:{groups['port']}"
            return str(groups.get("peer") or groups.get("other"))
    return ""


def named(text: str) -> Peers:
    """Those that a text names."""
    proxied = _PROXIED.search(text)
    client = _first(_CLIENTS, text)
    server = proxied["peer"] if proxied else _first(_SERVERS, text)
    if not server and (bare := _BARE.search(text)) and not client:
        server = bare["peer"]
    return Peers(server, client)
