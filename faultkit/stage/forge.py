"""Forged TCP segments, inside our own namespace only: what a middlebox or an attacker puts on the wire in another's name.

The builder is pure. The sender refuses wherever faultkit did not make the network namespace that it is in.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from faultkit.errors import Unable
from faultkit.evidence.transcript import Address
from faultkit.stage.namespace import Namespace

IPV6_HDRINCL = 36  # linux/in6.h; not in Python's socket module

# Sequence numbers, for what is forged.
ISN = 1000  # arbitrary: where a forged end begins
NEAR = 100  # within any window
FAR = 1 << 30  # farther than any window, and less than half of the circle

_FLAGS = {name: 1 << bit for bit, name in enumerate(("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"))}
_DONT_FRAGMENT = 0x4000

Option = tuple[str, int | tuple[int, ...] | bytes | None]


@dataclass(frozen=True, slots=True)
class Forgery:
    """One TCP segment as it is to be (RFC 9293 section 3.1), in the words of a captured `Packet`.

    `options` are a `Packet`'s ("MSS", "WS", "SACK_PERM", "TS") or ("opt30", bytes) for any other kind.
    """

    source: Address
    destination: Address
    flags: tuple[str, ...]
    seq: int
    ack: int = 0
    window: int = 512
    payload: bytes = b""
    options: tuple[Option, ...] = ()
    ttl: int = 64  # IPv6: hop limit
    ip_id: int = 0  # IPv4 only; the kernel fills a 0 in (ip_select_ident() in raw_send_hdrinc())


def build(forgery: Forgery) -> bytes:
    """The IP packet, checksums included."""
    v6 = ":" in forgery.source.host
    family = socket.AF_INET6 if v6 else socket.AF_INET
    source, destination = (socket.inet_pton(family, end.host) for end in (forgery.source, forgery.destination))
    tcp = _tcp(forgery, source + destination)
    if v6:
        return struct.pack("!IHBB", 6 << 28, len(tcp), socket.IPPROTO_TCP, forgery.ttl) + source + destination + tcp
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(tcp),
        forgery.ip_id,
        _DONT_FRAGMENT,
        forgery.ttl,
        socket.IPPROTO_TCP,
        0,
        source,
        destination,
    )
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + tcp


def _tcp(forgery: Forgery, ends: bytes) -> bytes:
    options = b"".join(map(_option, forgery.options))
    options += b"\1" * (-len(options) % 4)
    if len(options) > 40:
        raise ValueError(f"forge: {len(options)} bytes of TCP options, and a header has room for 40")
    head = struct.pack(
        "!HHIIBBHHH",
        forgery.source.port,
        forgery.destination.port,
        forgery.seq & 0xFFFFFFFF,
        forgery.ack & 0xFFFFFFFF,
        (20 + len(options)) // 4 << 4,
        sum(_FLAGS[flag] for flag in forgery.flags),
        forgery.window,
        0,
        0,
    )
    segment = head + options + forgery.payload
    # The pseudo-header: IPv4's (RFC 9293 section 3.1) and IPv6's (RFC 8200 section 8.1) add up to the same sum.
    pseudo = ends + struct.pack("!II", len(segment), socket.IPPROTO_TCP)
    return segment[:16] + struct.pack("!H", _checksum(pseudo + segment)) + segment[18:]


def relayed(packet: bytes, ttl: int) -> bytes:
    """The IP packet that a capture shows, a TCP segment, with another TTL or hop limit. The checksums are new: over loopback
    TCP's is not made (CHECKSUM_PARTIAL)."""
    v6 = packet[0] >> 4 == 6
    size = 40 if v6 else (packet[0] & 15) * 4
    head, tcp = bytearray(packet[:size]), bytearray(packet[size:])
    head[7 if v6 else 8] = ttl
    if not v6:
        head[10:12] = bytes(2)
        head[10:12] = struct.pack("!H", _checksum(bytes(head)))
    tcp[16:18] = bytes(2)
    ends = head[8:40] if v6 else head[12:20]
    tcp[16:18] = struct.pack(
        "!H", _checksum(bytes(ends) + struct.pack("!II", len(tcp), socket.IPPROTO_TCP) + bytes(tcp))
    )
    return bytes(head + tcp)


def _option(option: Option) -> bytes:
    name, value = option
    if name == "MSS" and isinstance(value, int):
        return struct.pack("!BBH", 2, 4, value)
    if name == "WS" and isinstance(value, int):
        return bytes((3, 3, value))
    if name == "SACK_PERM" and value is None:
        return bytes((4, 2))
    if name == "TS" and isinstance(value, tuple):
        return struct.pack("!BBII", 8, 10, *(stamp & 0xFFFFFFFF for stamp in value))
    if name.startswith("opt") and isinstance(value, bytes):
        return bytes((int(name[3:]), 2 + len(value))) + value
    raise ValueError(f"forge: option {name} with {value!r} cannot be written")


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Forger:
    """Sends forged segments on the loopback of a namespace that faultkit made."""

    def __init__(self, namespace: Namespace, family: int) -> None:
        """Raises `Unable` outside that namespace."""
        self._namespace = namespace
        self._check()
        self._socket = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)

    def _check(self) -> None:
        if not self._namespace.holds():
            raise Unable("no segment was forged: this process is not inside a namespace that faultkit made")

    def send(self, forgery: Forgery) -> None:
        """Put it on the wire now. Raises `Unable` outside our namespace, even if this process was in it before."""
        self.put(build(forgery), forgery.destination.host)

    def put(self, packet: bytes, host: str) -> None:
        """Put a packet for that address on the wire now. Raises as `send` does."""
        self._check()
        self._socket.sendto(packet, (host, 0))

    def close(self) -> None:
        self._socket.close()
