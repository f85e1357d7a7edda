"""ICMP errors as rows of text tell them: of which kind, and about which segment."""

from __future__ import annotations

import re

_HOST = r"(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}|[A-Za-z][\w.-]{0,120})"
# tcpdump: "a > b: ICMP host c unreachable - admin prohibited filter" and
# "a > b: ICMP6, destination unreachable, unreachable port, c tcp port 80".
ROW = re.compile(
    rf"(?<![\w.:%-])(?P<src>{_HOST}) > (?P<dst>{_HOST}): "
    r"ICMP(?P<told>6?,? (?:[^,\[\]>]{0,120})(?:, unreachable [^>]{0,90}?)?), length \d+"
)
_TARGET = re.compile(
    rf"(?:\A6?,? |host |net |port, |prohibited |route |address )(?!(?:host|net) )(?P<host>{_HOST})"
    r"(?: (?:tcp|udp) port (?P<port>\d+))?(?: unreachable|\Z|,| )"
)
# The first that fits; what is more special stands first.
_KINDS = (
    (r"time.to.live exceeded|time exceeded|hop limit exceeded", "time-exceeded"),
    (r"need to frag|fragmentation (?:is )?needed|packet too big", "fragmentation-needed"),
    (r"prohibited|administratively|filtered|failed policy", "admin-prohibited"),
    (r"unreachable port|port \d+ unreachable|port unreachable", "port-unreachable"),
    (r"net \S+ unreachable|network unreachable|unreachable route|no route|reject route", "net-unreachable"),
    (r"host \S+ unreachable|host unreachable|unreachable address|address unreachable", "host-unreachable"),
    (r"unreachable", "unreachable"),
)


def kind(told: str) -> str:
    """The kind of the error; "" where it is none, or one about another protocol."""
    words = told.lower()
    if "udp port" in words:
        return ""
    return next((name for pattern, name in _KINDS if re.search(pattern, words)), "")


def target(told: str) -> tuple[str, int]:
    """The host and the port that tcpdump names; "" and 0 where it names none."""
    for match in _TARGET.finditer(told):
        if match["host"].lower() not in ("host", "net", "time", "destination", "unreachable", "packet", "port"):
            return match["host"].lower(), int(match["port"] or 0)
    return "", 0
