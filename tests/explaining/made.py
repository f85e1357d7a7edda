"""Captures made byte by byte, for what no kernel here sends and no tool writes."""

from __future__ import annotations

import struct
from collections.abc import Iterable

CLIENT, SERVER = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# (seconds, from the client?, flags, seq, ack, bytes of data)
Packet = tuple[float, bool, int, int, int, bytes]

# A request that meets a closed port; one that is answered and closed in order; a connection reset by its server.
REFUSED: tuple[Packet, ...] = ((0.0, True, SYN, 100, 0, b""), (0.001, False, RST | ACK, 0, 101, b""))
RESET: tuple[Packet, ...] = (
    (0.0, True, SYN, 100, 0, b""),
    (0.001, False, SYN | ACK, 500, 101, b""),
    (0.002, True, ACK, 101, 501, b""),
    (0.003, True, PSH | ACK, 101, 501, b"hello"),
    (0.004, False, ACK, 501, 106, b""),
    (0.005, False, RST | ACK, 501, 106, b""),
)


def tcp(packet: Packet, *, sport: int = 40000, dport: int = 8080) -> bytes:
    """The TCP segment, its checksum left out."""
    _, forth, flags, seq, ack, data = packet
    ports = (sport, dport) if forth else (dport, sport)
    window = 0 if (flags & RST and not flags & ACK) or (flags & RST and seq == 0) else 64000
    return struct.pack("!HHIIBBHHH", *ports, seq, ack, 0x50, flags, window, 0, 0) + data


def ipv4(packet: Packet, payload: bytes | None = None, protocol: int = 6, number: int = 0) -> bytes:
    """The IPv4 packet around it, or around another payload."""
    inside = tcp(packet) if payload is None else payload
    source, destination = (CLIENT, SERVER) if packet[1] else (SERVER, CLIENT)
    number = number or (packet[3] * 17 + packet[2] + (1000 if packet[1] else 40000)) & 0xFFFF  # no two alike
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inside), number, 0x4000, 64, protocol, 0)
    return head + source + destination + inside


def ipv6(packet: Packet, *extensions: bytes) -> bytes:
    """The IPv6 packet around it, with extension headers that begin with the number of the next one."""
    inside = tcp(packet)
    source, destination = (b"\xfe\x80" + bytes(13) + bytes([end]) for end in ((1, 2) if packet[1] else (2, 1)))
    body = b"".join(extensions) + inside
    first = 6 if not extensions else 0
    return struct.pack("!IHBB", 6 << 28, len(body), first, 64) + source + destination + body


def ethernet(packet: bytes, kind: int = 0x0800) -> bytes:
    """The frame around an IP packet."""
    return bytes(12) + struct.pack("!H", kind) + packet


def pcap(
    frames: Iterable[tuple[float, bytes]], *, link: int = 1, order: str = "<", nano: bool = False, snaplen: int = 262144
) -> bytes:
    """A pcap file."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    unit = 10**9 if nano else 10**6
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    for at, frame in frames:
        kept = frame[:snaplen]
        seconds, rest = divmod(round(at * unit), unit)
        out.append(struct.pack(order + "IIII", 1_700_000_000 + seconds, rest, len(kept), len(frame)) + kept)
    return b"".join(out)


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = 12 + len(body)
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def pcapng(frames: Iterable[tuple[float, bytes]], *, link: int = 1, order: str = "<", digits: int = 6) -> bytes:
    """A pcapng file of one section and one interface; `digits` is its if_tsresol."""
    out = [_block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))]
    options = struct.pack(order + "HHB3xHH", 9, 1, digits, 0, 0)
    out.append(_block(order, 1, struct.pack(order + "HHI", link, 0, 262144) + options))
    out.append(_block(order, 4, struct.pack(order + "HH", 0, 0)))  # names: nothing in them
    for at, frame in frames:
        units = 1_700_000_000 * 10**digits + round(at * 10**digits)
        head = struct.pack(order + "IIIII", 0, units >> 32, units & 0xFFFFFFFF, len(frame), len(frame))
        out.append(_block(order, 6, head + frame))
    return b"".join(out)


def framed(packets: Iterable[Packet]) -> list[tuple[float, bytes]]:
    """Ethernet frames with their times."""
    return [(packet[0], ethernet(ipv4(packet))) for packet in packets]
