"""Whom a line names: the server or upstream, and the client."""

from __future__ import annotations

import re
from dataclasses import dataclass

_IP4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_IP6 = r"(?=[0-9a-fA-F:.]{0,40}::|(?:[0-9a-fA-F]{1,4}:){7})[0-9a-fA-F:.]{2,45}"
_NAME = r"[A-Za-z0-9](?:[\w.-]{0,200}\w)?"
_HOST = rf"(?:\[[0-9a-fA-F:.%]{{2,60}}\]|{_NAME})"
_DOTTED = (
    r"(?:\[[0-9a-fA-F:.%]{2,60}\]|localhost|[A-Za-z0-9][\w-]{0,60}(?:\.[\w-]{1,60}){1,10})"  # no word of a sentence
)
_ADDRESS = rf"{_HOST}(?::\d{{1,5}})?"
_PORT = r"\d{1,5}"
_PATH = r"[/@][^\s\"':;,()]{1,200}"
_SOURCE = "java|kt|scala|groovy|js|mjs|ts|go|py|rb|rs|c|cc|cpp|h|cs|php|ex|exs|erl|pl|lua|swift"  # a file and its line
_TOWARDS = (
    r"while (?:reading from|writing to)|from remote server|connecting to|TCP connection to|connect to|connect \w{1,20}"
)
# nginx's ", server: " is its own name.
_CALLED = r"upstream|upstream_addr|upstream_host|(?<!, )server|backend|address|addr|remote|peer"

# In this order: what says most clearly who it is. "path" is that of a Unix socket.
_SERVERS = [
    re.compile(rf"upstream: \"(?:\w{{1,12}}://)?(?:unix:(?://)?(?P<path>{_PATH})|(?P<peer>{_ADDRESS}))"),
    re.compile(
        r"\b(?:(?:dial|read|write) unix (?:@?->)?|connect E[A-Z]{1,20} |socket:? ['\"]?|unix:(?://)?)"
        r"(?P<path>/[^\s\"':;,()]{1,200})"
    ),
    re.compile(rf"->(?P<peer>{_HOST}:{_PORT})"),
    re.compile(rf"\({_HOST}:{_PORT} -> (?P<peer>{_HOST}:{_PORT})"),
    re.compile(rf"\bdial tcp[46]? (?P<peer>{_HOST}:{_PORT})"),
    re.compile(rf"\bR:(?:[\w.-]{{1,200}})?/(?P<peer>{_HOST}:{_PORT})"),
    re.compile(rf"\b(?:connect|connected) to (?:host )?(?P<host>{_HOST}),? port (?P<port>{_PORT})", re.IGNORECASE),
    re.compile(rf"\bserver at \"(?P<host>{_HOST})\"(?: \([^\s()]{{1,60}}\))?, port (?P<port>{_PORT})"),
    re.compile(
        rf"\bhost \"(?P<host>{_HOST})\"(?: \([^\s()]{{1,60}}\))?"
        rf"(?: and accepting\s{{1,9}}TCP/IP connections on port |, port )(?P<port>{_PORT})"
    ),
    re.compile(rf"\bhost=['\"]?(?P<host>{_HOST})(?:/{_HOST})?['\"]?,? ?port=['\"]?(?P<port>{_PORT})"),
    re.compile(rf"\b(?:My|Maria)\w{{2,3}} server on '(?P<peer>{_ADDRESS})'", re.IGNORECASE),
    re.compile(rf"\bconnect E[A-Z]{{1,20}} (?P<peer>{_IP6}:{_PORT})\b"),
    re.compile(rf"\b(?:{_TOWARDS}) (?P<peer>{_HOST}:{_PORT})", re.IGNORECASE),
    re.compile(rf"\b(?:by|from) (?P<host>{_DOTTED}) port (?P<port>{_PORT})\b"),
    re.compile(rf"\b(?:{_CALLED})[\"']?[:=] ?[\"']?(?:\w{{1,12}}://)?(?P<peer>{_HOST}:{_PORT})", re.IGNORECASE),
    re.compile(rf"\bHIER_\w{{1,30}}/(?P<peer>{_HOST})|\bFIRSTUP_PARENT/(?P<other>{_HOST})"),
    re.compile(rf"\w{{1,12}}://(?:[^\s/@\"]{{1,100}}@)?(?P<peer>{_ADDRESS})"),
    re.compile(rf"\((?P<peer>(?![\w.]*\.(?:{_SOURCE}):|[\w.]*\b[A-Z]\w*:){_DOTTED}:{_PORT})\)"),
    re.compile(
        rf"(?<![\w.-])(?P<peer>(?![\w.]*\.(?:{_SOURCE}):){_DOTTED}:{_PORT}): (?:\[Errno|timed out|connection|Connect)"
    ),
]
_PROXIED = re.compile(r"\] (?P<front>[\w.~-]{1,100}) (?P<peer>[\w.-]{1,100}/[\w.<>-]{1,100}) [-\d]{1,10}/[-\d]{1,10}/")
# AWS: the client, the target, three times, a status.
_BALANCED = re.compile(
    rf" (?P<client>{_IP4}|\[[0-9a-fA-F:.]{{2,60}}\]):{_PORT} (?P<server>{_ADDRESS}|-)(?: -?\d[\d.]{{0,12}}){{3}} (?:\d{{3}}|-) "
)
_CLIENTS = [
    re.compile(rf"\bclient: (?P<peer>{_IP4}|{_IP6}|unix:)"),
    re.compile(rf"\[client (?P<peer>{_ADDRESS})\]"),
    re.compile(rf"\bhaproxy\[\d{{1,10}}\]: (?P<peer>{_IP4}|[0-9a-fA-F:.]{{2,45}}?):\d{{1,5}} \["),
    re.compile(
        rf"\b(?:client_ip|remote_ip|remote_addr|client|remoteAddress)[\"']?[:=][\"' ]{{0,2}}(?P<peer>{_DOTTED}|{_IP6})"
    ),
    re.compile(rf"\bhost=(?P<peer>{_HOST})\(\d{{1,5}}\)|\bfrom (?P<other>{_HOST}):\d{{1,5}}\b"),
    re.compile(rf"(?<![\w.])(?P<peer>{_IP4})\(\d{{1,5}}\)"),
    re.compile(rf"\((?P<peer>{_HOST}):{_PORT} -> {_HOST}:{_PORT}"),
    re.compile(rf"\bhost: '(?P<peer>{_HOST})' \("),
    re.compile(rf"\"c\": ?\"NETWORK\".{{0,300}}\"remote\": ?\"(?P<peer>{_HOST}:{_PORT})\""),
    re.compile(rf"\d {{1,6}}\d{{1,9}} (?P<peer>{_IP4}|{_IP6}) (?:TCP|UDP|NONE)_?\w{{0,30}}/\d{{3}} "),
]
_SSHD = re.compile(rf"\b(?:by|from|user \S{{1,60}}) (?P<peer>{_DOTTED}) port {_PORT}")
_BARE = re.compile(r"(?<![\w.])(?P<peer>\d{1,3}(?:\.\d{1,3}){3}:\d{1,5})(?![\w.])")
# Pages that were asked for are at other servers.
_ASKED = re.compile(
    r"\[v[\d.]{1,20} try [^\]\n]{1,200}\]|\b(?:request|subrequest|referr?er)\"?(?:: ?|=)\"[^\"\n]{0,4000}\""
)


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
            if groups.get("path"):
                return f"unix:{groups['path']}"
            if groups.get("host"):
                return f"{groups['host']}:{groups['port']}"
            return str(groups.get("peer") or groups.get("other"))
    return ""


def named(text: str) -> Peers:
    """Those that a text names."""
    text = _ASKED.sub("", text)
    if balanced := _BALANCED.search(text):
        return Peers(balanced["server"].removeprefix("-"), balanced["client"])
    if ("sshd" in text or "[preauth]" in text) and (sshd := _SSHD.search(text)):
        return Peers(client=sshd["peer"])
    proxied = _PROXIED.search(text)
    client = _first(_CLIENTS, text)
    server = proxied["peer"] if proxied else _first(_SERVERS, text)
    if client and client in (server, server.rpartition(":")[0]):
        server = ""
    if not server and (bare := _BARE.search(text)) and not client:
        server = bare["peer"]
    return Peers(server, client)
