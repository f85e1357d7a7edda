"""Which way the kernel would send to far away, by whatever table and rule (rtnetlink(7)). Nothing is sent."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

NETLINK_ROUTE = 0
RTM_NEWROUTE, RTM_GETROUTE, NLM_F_REQUEST = 24, 26, 1
RTA_DST, RTA_OIF, RTA_PREFSRC = 1, 4, 7
HEAD, ROUTE, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=8BI"), struct.Struct("=HH")
# Addresses that no host has (RFC 5737, RFC 3849), so that no route but the default one leads there.
FAR = {socket.AF_INET: "203.0.113.1", socket.AF_INET6: "2001:db8::1"}


def default(family: socket.AddressFamily) -> tuple[str, str | None] | None:
    """The interface, and the address that the kernel would send from, where it has one; None without a route.

    Raises `OSError` where rtnetlink is refused.
    """
    far = socket.inet_pton(family, FAR[family])
    asked = ROUTE.pack(family, 8 * len(far), 0, 0, 0, 0, 0, 0, 0) + ATTRIBUTE.pack(4 + len(far), RTA_DST) + far
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as link:
        link.send(HEAD.pack(HEAD.size + len(asked), RTM_GETROUTE, NLM_F_REQUEST, 1, 0) + asked)
        told = link.recv(65536)
    length, kind, *_ = HEAD.unpack_from(told)
    if kind != RTM_NEWROUTE:
        return None  # NLMSG_ERROR: no way, or one that is forbidden
    found = dict(_attributes(told[HEAD.size + ROUTE.size : length]))
    if RTA_OIF not in found:
        return None  # a route into nowhere
    try:
        interface = socket.if_indextoname(*struct.unpack("=I", found[RTA_OIF]))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None  # it went away between the two calls
        raise
    return interface, socket.inet_ntop(family, found[RTA_PREFSRC]) if RTA_PREFSRC in found else None


def _attributes(told: bytes) -> Iterator[tuple[int, bytes]]:
    while len(told) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(told)
        yield kind, told[ATTRIBUTE.size : length]
        told = told[(length + 3) & ~3 :]
