"""Which connection a fault is for, beside the order of arrival: by its first bytes, by its HTTP request, by its peer.

One notation for Python and the command line, `path=/upload*`, and in Python any function of an `Opening`.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from faultkit import keywords
from faultkit.errors import Misuse
from faultkit.evidence.transcript import Address
from faultkit.serving.plan import Plan

# RFC 9112 section 3: method, request-target.
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[01]\r?\n")
# What a part of one looks like: anything else is no HTTP/1, and is not waited for.
_BEGUN = re.compile(
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: (?:\S+(?: (?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01]\r?)?)?)?)?)?)?)?)?)?)?)?)?\Z"
)
LONGEST = 8192  # bytes of a request line that are waited for; what servers take


NO_HTTP1 = ("http2", "redis", "smtp")  # what is spoken there
PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 section 3.4


class More(Exception):
    """What was asked for is not whole yet."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a connection begins, as `when=` is asked about it: once, when its first bytes are there."""

    number: int  # the connection's, from 1 on
    peer: Address | None
    first: bytes  # what has come so far; of the application with TLS
    whole: bool = False  # nothing more will come

    @property
    def method(self) -> str:
        """Of an HTTP/1 request, "GET"; "" where it is none."""
        return self._request(1)

    @property
    def path(self) -> str:
        """The request's target, "/upload?id=1"; "" where it is none."""
        return self._request(2)

    def _request(self, group: int) -> str:
        line = REQUEST_LINE.match(self.first)
        if line is None:
            if _BEGUN.match(self.first) and len(self.first) < LONGEST and not self.whole:
                raise More
            return ""
        return line[group].decode("latin-1")


Which = Callable[[Opening], bool]


def chosen(when: str | Which | None) -> Which | None:
    """What this notation or this function says. Raises `Misuse`."""
    if when is None:
        return None
    if callable(when) and not isinstance(when, type):
        if keywords.is_async(when) or not keywords.takes_one(when):
            raise Misuse(
                f"when={keywords.called(when)} cannot be asked about a connection: "
                "take a function of one faultkit.Opening, no async def"
            )
        return when
    name, equals, value = when.partition("=") if isinstance(when, str) else ("", "", "")
    if equals and value:
        if name == "path" and not any(letter.isspace() or letter > "\xff" for letter in value):
            return lambda opening: fnmatch.fnmatchcase(opening.path, value)
        if name == "method" and re.fullmatch(TOKEN, value):
            return lambda opening: opening.method == value
        if name == "first" and not any("\ud800" <= letter <= "\udfff" for letter in value):
            start = value.encode()
            return lambda opening: _starts(opening, start)
        if name == "peer":
            return _from(value)
    raise Misuse(
        f"when={when!r} chooses no connection: take path=/upload*, method=POST, first=TEXT, peer=ADDRESS, "
        "or in Python a function of faultkit.Opening"
    )


def _starts(opening: Opening, start: bytes) -> bool:
    if len(opening.first) < len(start) and start.startswith(opening.first) and not opening.whole:
        raise More
    return opening.first.startswith(start)


def _from(host: str) -> Which:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise Misuse(f"when='peer={host}': {host} is no address") from None
    return lambda opening: opening.peer is not None and ipaddress.ip_address(opening.peer.host) == address


def check_spoken(when: str | Which | None, protocol: str, listens: str) -> None:
    """Raise `Misuse` for a notation that no client of that protocol, "" for any, at that address, "" for none, ever is."""
    name, _, value = when.partition("=") if isinstance(when, str) else ("", "", "")
    if name in ("path", "method") and protocol in NO_HTTP1:
        raise Misuse(f"when={when!r} is of HTTP/1, and answer={protocol!r} is none: take first=TEXT, or a function")
    if name == "first" and protocol == "http2" and not PREFACE.startswith(value):
        raise Misuse(
            f"when={when!r}: every client of HTTP/2 begins with 'PRI * HTTP/2.0': take peer=ADDRESS, or a function"
        )
    if name == "peer" and not listens:
        raise Misuse(f"when={when!r}: a client of a Unix socket has no address: take first=TEXT, or a function")
    if name == "peer":
        here, there = ipaddress.ip_address(listens), ipaddress.ip_address(value)
        if here.version != there.version and not (here.version == 6 and here.is_unspecified):
            raise Misuse(f"when={when!r}: the server is at {here}, where nobody comes from there: take another address")


def check(plan: Plan, *, tls: bool) -> None:
    """Raise `Misuse` where there is nothing to choose for, and for a fault that sets in before a connection says anything."""
    if not plan.armed:
        raise Misuse("when= chooses connections for a fault, and there is none: name one")
    if plan.seed is not None and not plan.named:
        raise Misuse(
            "when= with random and no fault: some of all set in before a connection says anything; name the fault"
        )
    for fault in plan.named:
        if fault.served.door:
            raise Misuse(f"{fault.name} is done before there is a connection, so `when` can choose none: leave one out")
        if fault.when.kind in ("accept", "client-hello", "handshake"):
            raise Misuse(
                f"{fault.name} `{fault.when}`: `when` is asked when the first bytes are there: take a later trigger"
            )
        if fault.served.unread and tls:
            raise Misuse(
                f"{fault.name} leaves bytes unread, and over TLS, and on a Unix socket, `when` has to read them: "
                "leave one of them out"
            )
