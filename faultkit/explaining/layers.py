"""From a frame to the TCP segment in it, through link layers and tunnels. What is not TCP is told apart and counted.

Link types: www.tcpdump.org/linktypes.html. Tunnels: RFC 2003 and 4213 (IP in IP), 2784 and 2890 (GRE), ERSPAN
(draft-foschiano-erspan), 7348 (VXLAN), 8926 (Geneve), 3GPP TS 29.281 (GTP-U), 4380 (Teredo), 3032 (MPLS), 2516 (PPPoE).
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

DATA = 96  # bytes of data that are kept of a segment; of a response of HTTP all that there are
TAIL = 8  # the last bytes of data that are kept besides, where they are there


class Other(Enum):
    """What a frame is that holds no whole TCP header."""

    NOT_TCP = "not TCP"
    FRAGMENT = "IP fragments"
    CUT = "cut before the end of the TCP header"
    BROKEN = "no valid header"
    LINK = "of a link type that is not known here"


# What a segment's frame told: the two ends as bytes (source and destination address, source and destination port), flags,
# sequence and acknowledgement number, window (-1: cut off), bytes of data, TTL or hop limit, IP ID (-1: IPv6 has none), the bytes
# behind the fixed TCP header (options, the beginning of the data and, of longer data, its last `TAIL`), and how many of them are
# options (more than there are bytes where the capture has cut them). No class: see `files.Frame`.
Segment = tuple[bytes, int, int, int, int, int, int, int, bytes, int]


class Unreachable(NamedTuple):
    """An ICMP error about a TCP segment: who says it, what, and the ends and the number of the segment that it
    is about."""

    ends: bytes
    by: bytes
    kind: str  # "port-unreachable", "host-unreachable", ... or "fragmentation-needed", "time-exceeded"
    seq: int


_IPV4, _IPV6, _MPLS = 0x0800, 0x86DD, 0x8847
_VLANS = (0x8100, 0x88A8, 0x9100, 0x9200)
_FIXED = struct.Struct("!HH2xBB2x8sHHIIBBH").unpack_from  # from an IPv4 header's total length to TCP's window
_TCP = struct.Struct("!HHIIBBH").unpack_from
_TO_FLAGS = struct.Struct("!HHIIBB").unpack_from
_DEEPEST = 10  # headers below headers; arbitrary: more is made up

ICMP4 = {
    0: "net-unreachable",
    1: "host-unreachable",
    3: "port-unreachable",
    4: "fragmentation-needed",
} | dict.fromkeys((9, 10, 13), "admin-prohibited")
ICMP6 = {
    0: "net-unreachable",
    1: "admin-prohibited",
    3: "host-unreachable",
    4: "port-unreachable",
    5: "admin-prohibited",
    6: "net-unreachable",
}


def read(link: int, data: bytes, length: int) -> Segment | Unreachable | Other:
    """The TCP segment in a frame, or the ICMP error about one, or what it is instead. `length` is the frame's on
    the wire."""
    # Nearly every packet of nearly every capture: Ethernet, IPv4 without options, whole, TCP.
    if link == 1 and data[12:15] == b"\x08\x00\x45" and data[23:24] == b"\x06" and len(data) >= 54:
        total, ip_id, ttl, _, _, _, _, seq, ack, offset, flags, window = _FIXED(data, 16)
        if not (data[20] & 0x3F or data[21]) and total >= 40:
            options = (offset >> 4) * 4 - 20
            size = total - 40 - options
            if options >= 0 and size >= 0 and len(data) >= 54 + options:
                flags |= (offset & 1) << 8
                end = 54 + options + DATA
                if len(data) <= end:
                    rest = data[54:]
                elif len(data) == 94 + DATA:  # as it was cut in a hurry, without its end or with it
                    rest = data[54:end]
                elif len(data) == 94 + DATA + TAIL:
                    rest = data[54:end] + data[-TAIL:]
                else:
                    rest = _shortened(data, 54, options, 14 + total)
                return data[26:38], flags, seq, ack, window, size, ttl, ip_id, rest, options
    return _slowly(link, data, length)


def _shortened(data: bytes, at: int, options: int, end: int) -> bytes:
    """What is kept of a segment whose options begin at `at` and whose data ends at `end`, of a frame that may be cut there, or in
    its middle, so that the last `TAIL` bytes of data are its own last ones."""
    first = at + options
    if len(data) <= first + DATA or data[first : first + 5] == b"HTTP/":
        return data[at:end]
    rest = data[at : first + DATA]
    if first + DATA + TAIL <= end and len(data) >= end:
        return rest + data[end - TAIL : end]
    return rest + data[-TAIL:] if len(data) == 94 + DATA + TAIL < end else rest


def _slowly(link: int, data: bytes, length: int) -> Segment | Unreachable | Other:
    found = _linked(link, data)
    if isinstance(found, Other):
        return found
    kind, at = found
    try:
        return _network(kind, at, data, length, 0)
    except (struct.error, IndexError):
        return Other.CUT if length > len(data) else Other.BROKEN


def _linked(link: int, data: bytes) -> tuple[int, int] | Other:
    """EtherType (0: look at the IP version) and where its header begins."""
    try:
        if link == 1:
            return _ethertype(data, 12)
        if link in (0, 108):  # a BSD address family, in the byte order of the machine or of the network
            family = int.from_bytes(data[:4], "little") if link == 0 and data[0] else int.from_bytes(data[:4], "big")
            return ({2: _IPV4}.get(family, _IPV6 if family in (10, 24, 28, 30) else 0)), 4
        if link in (12, 14, 101, 228, 229):
            return 0, 0
        if link == 113:
            return _ethertype(data, 14)
        if link == 276:
            return _tagged(int.from_bytes(data[:2], "big"), 20, data)
        if link in (9, 50):
            at = 2 if data[:2] == b"\xff\x03" else 0
            return {0x21: _IPV4, 0x57: _IPV6}[int.from_bytes(data[at : at + 2], "big")], at + 2
        if link == 51:
            return _pppoe(data, 0)
        if link == 104:
            return _ethertype(data, 2)
        if link == 109:
            return 0, 12
        if link == 117:
            return 0, (data[0] + 3) // 4 * 4
    except KeyError:
        return Other.NOT_TCP
    except (struct.error, IndexError):
        return Other.CUT
    return Other.LINK


def _ethertype(data: bytes, at: int) -> tuple[int, int]:
    return _tagged(int.from_bytes(data[at : at + 2], "big"), at + 2, data)


def _tagged(kind: int, at: int, data: bytes) -> tuple[int, int]:
    """Past VLAN tags, PPPoE and MPLS labels."""
    while kind in _VLANS:
        kind, at = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    if kind == 0x8909:  # Cisco MetaData: a version, a length and an option, and then the EtherType
        return _tagged(int.from_bytes(data[at + 6 : at + 8], "big"), at + 8, data)
    if kind == 0x8864:
        return _pppoe(data, at)
    if kind in (_MPLS, 0x8848):
        while not data[at + 2] & 1:  # the bottom of the stack
            at += 4
        at += 4
        if data[at] >> 4 in (4, 6):
            return 0, at
        return _ethertype(
            data, at + 4 + 12 if data[at] >> 4 == 0 else at + 12
        )  # a pseudowire, with a control word or not
    return kind, at


def _pppoe(data: bytes, at: int) -> tuple[int, int]:
    return {0x21: _IPV4, 0x57: _IPV6}[int.from_bytes(data[at + 6 : at + 8], "big")], at + 8


def _network(kind: int, at: int, data: bytes, length: int, depth: int) -> Segment | Unreachable | Other:
    if depth > _DEEPEST:
        return Other.BROKEN
    version = data[at] >> 4
    if kind not in (0, _IPV4, _IPV6) or version not in (4, 6) or (kind and version != (4 if kind == _IPV4 else 6)):
        return Other.NOT_TCP
    if version == 4:
        return _ipv4(at, data, length, depth)
    return _ipv6(at, data, length, depth)


def _ipv4(at: int, data: bytes, length: int, depth: int) -> Segment | Unreachable | Other:
    header = (data[at] & 0x0F) * 4
    if header < 20:
        return Other.BROKEN
    total, ip_id, fragment, ttl, protocol = struct.unpack_from("!HHHBB", data, at + 2)
    total = total or length - at  # 0 where the interface card was to cut it (TCP segmentation offload)
    if fragment & 0x3FFF:
        return Other.FRAGMENT if protocol == 6 else Other.NOT_TCP
    addresses = data[at + 12 : at + 20]
    return _transport(protocol, at + header, at + total, addresses, ttl, ip_id, data, length, depth)


def _ipv6(at: int, data: bytes, length: int, depth: int) -> Segment | Unreachable | Other:
    payload, protocol, hops = struct.unpack_from("!HBB", data, at + 4)
    end = at + 40 + payload if payload else length
    addresses = data[at + 8 : at + 40]
    at += 40
    while protocol in (0, 43, 60, 51, 135, 139, 140, 44):
        if protocol == 44:  # a fragment; one that is whole all the same (RFC 6946) is read
            if struct.unpack_from("!H", data, at + 2)[0] & 0xFFF9:
                return Other.FRAGMENT if data[at] == 6 else Other.NOT_TCP
            protocol, at = data[at], at + 8
        else:
            protocol, at = data[at], at + ((data[at + 1] + 2) * 4 if protocol == 51 else (data[at + 1] + 1) * 8)
    return _transport(protocol, at, end, addresses, hops, -1, data, length, depth)


def _transport(
    protocol: int, at: int, end: int, addresses: bytes, ttl: int, ip_id: int, data: bytes, length: int, depth: int
) -> Segment | Unreachable | Other:
    if protocol == 6:
        if len(data) < at + 14:
            return Other.CUT
        # A capture may end behind the flags (68 bytes of IPv6): then the window is not known.
        _, _, seq, ack, offset, flags, window = _TCP(data, at) if len(data) >= at + 16 else (*_TO_FLAGS(data, at), -1)
        options = (offset >> 4) * 4 - 20
        size = end - at - 20 - options
        if options < 0 or size < 0:
            return Other.BROKEN
        flags |= (offset & 1) << 8
        rest = _shortened(data, at + 20, options, end)
        return addresses + data[at : at + 4], flags, seq, ack, window, size, ttl, ip_id, rest, options
    if protocol in (4, 41):
        return _network(0, at, data, length, depth + 1)
    if protocol == 47:
        return _gre(at, data, length, depth)
    if protocol == 17:
        return _udp(at, data, length, depth)
    if protocol in (1, 58):
        return _icmp(protocol, at, addresses, data)
    return Other.NOT_TCP


def _gre(at: int, data: bytes, length: int, depth: int) -> Segment | Unreachable | Other:
    flags, kind = struct.unpack_from("!HH", data, at)
    at += 4 + 4 * bool(flags & 0x8000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
    if kind == 0x88BE:  # ERSPAN type II has a header if there is a sequence number, type I none
        at += 8 * bool(flags & 0x1000)
        kind, at = _ethertype(data, at + 12)
    elif kind == 0x22EB:  # type III
        at += 12 + 8 * (data[at + 11] & 1)
        kind, at = _ethertype(data, at + 12)
    elif kind == 0x6558:
        kind, at = _ethertype(data, at + 12)
    else:
        kind, at = _tagged(kind, at, data)
    return _network(kind, at, data, length, depth + 1)


def _udp(at: int, data: bytes, length: int, depth: int) -> Segment | Unreachable | Other:
    source, destination = struct.unpack_from("!HH", data, at)
    at += 8
    try:
        if destination in (4789, 8472) and data[at] & 0x08:
            kind, at = _ethertype(data, at + 8 + 12)
        elif destination == 6081 and data[at] >> 6 == 0:
            kind, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8 + (data[at] & 0x3F) * 4
            kind, at = _ethertype(data, start + 12) if kind == 0x6558 else _tagged(kind, start, data)
        elif 2152 in (source, destination) and data[at] >> 5 == 1 and data[at + 1] == 255:
            kind, at = 0, _gtp(at, data)
        elif 3544 in (source, destination):
            if data[at : at + 2] == b"\x00\x01":  # authentication before the packet
                at += 4 + data[at + 2] + data[at + 3] + 9
            if data[at : at + 2] == b"\x00\x00":  # where the packet came from
                at += 8
            kind = _IPV6
        else:
            return Other.NOT_TCP
    except (IndexError, KeyError):
        return Other.NOT_TCP
    return _network(kind, at, data, length, depth + 1)


def _gtp(at: int, data: bytes) -> int:
    following = data[at] & 0x07
    at += 8 + 4 * bool(following)
    if following & 0x04:
        kind = data[at - 1]
        while kind:  # extension headers, each ending in the kind of the next
            size = data[at] * 4
            if not size:
                raise IndexError
            at += size
            kind = data[at - 1]
    return at


def _icmp(protocol: int, at: int, addresses: bytes, data: bytes) -> Unreachable | Other:
    kind, code = data[at], data[at + 1]
    names = ICMP4 if protocol == 1 else ICMP6
    if kind == (3 if protocol == 1 else 1):
        told = names.get(code, "unreachable")
    elif kind == (11 if protocol == 1 else 3):
        told = "time-exceeded"
    elif (protocol, kind) == (58, 2):
        told = "fragmentation-needed"
    else:
        return Other.NOT_TCP
    inner = at + 8
    if protocol == 1:
        if data[inner] >> 4 != 4 or data[inner + 9] != 6:
            return Other.NOT_TCP
        about = data[inner + 12 : inner + 20]
        inner += (data[inner] & 0x0F) * 4
    else:
        if data[inner] >> 4 != 6 or data[inner + 6] != 6:
            return Other.NOT_TCP
        about = data[inner + 8 : inner + 40]
        inner += 40
    (seq,) = struct.unpack_from("!I", data, inner + 4)
    return Unreachable(about + data[inner : inner + 4], addresses[: len(addresses) // 2], told, seq)
