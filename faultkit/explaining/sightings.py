"""A connection's packets as they were sent: copies of a packet once, and what a RST has overtaken before it."""

from __future__ import annotations

from itertools import pairwise

from faultkit.explaining.flows import FIN, RST, SYN, Packet

OVERTAKEN = 0.05  # seconds within which one packet overtakes another on its way, or in a capture; arbitrary

_COPY_NS = 5_000_000  # the two sightings of one packet by a mirror, or by two interfaces, are closer; arbitrary


def as_sent(packets: list[Packet]) -> list[Packet]:
    """In the order of the capture, but for a last segment that a RST has overtaken: one that ends where the RST begins, and
    comes at once after it."""
    rst = next((p for p in packets if p.flags & RST), None)
    if rst is None or rst.seq is None:
        return packets
    place = packets.index(rst)
    before = [p for p in packets[:place] if p.side == rst.side and p.end is not None]
    after = [p for p in packets[place + 1 :] if p.side == rst.side and not p.flags & RST]
    if not before or not after or any(p.side != rst.side for p in packets[place + 1 : packets.index(after[0])]):
        return packets
    late = after[0]
    sent = max(p.end or 0 for p in before)
    fits = len(after) == 1 and late.size and late.seq == sent and late.end == rst.seq and late.ttl == rst.ttl
    apart = None if late.time_ns is None or rst.time_ns is None else late.time_ns - rst.time_ns
    if not fits or apart is None or not 0 <= apart <= OVERTAKEN * 1e9:
        return packets
    if late.ip_id and rst.ip_id and (late.ip_id - rst.ip_id) & 0xFFFF < 0x8000:
        return packets
    rest = [p for p in packets[place:] if p is not late]
    return [*packets[:place], late, *rest]


def once(packets: list[Packet]) -> tuple[list[Packet], int]:
    """Each packet once, where a mirror or several interfaces have shown it several times (same IP ID, numbers
    and data)."""
    kept: list[Packet] = []
    copies: list[tuple[Packet, Packet]] = []
    stamped: dict[tuple[object, ...], Packet] = {}
    # A file appended to itself has all its packets twice, far from each other.
    appended = any((b.time_ns or 0) < (a.time_ns or 0) for a, b in pairwise(packets))
    for packet in packets:
        if appended and packet.ip_id and packet.time_ns is not None and packet.ttl is not None:
            stamp = (packet.time_ns, packet.ip_id, *packet[2:7])
            same = stamped.setdefault(stamp, packet)
            if same is not packet and _same(same, packet):
                copies.append((same, packet))
                continue
        for other in reversed(kept[-6:]):
            if _same(other, packet):
                copies.append((other, packet))
                break
        else:
            kept.append(packet)
    # Two RSTs without an IP ID may be two answers. Unless nearly everything was shown twice, they are.
    sure = [pair for pair in copies if pair[1].ip_id]
    if not sure and not _doubled(kept, copies):
        return packets, 0
    if len(copies) < len(kept) * 0.3 and len(copies) > len(sure):
        dropped = {pair[1].number for pair in sure}
        return [p for p in packets if p.number not in dropped], len(sure)
    return kept, len(copies)


def _same(a: Packet, b: Packet) -> bool:
    if a[2:7] != b[2:7] or a.size != b.size or a.ip_id != b.ip_id or a.options != b.options or a.options is None:
        return False
    if a.time_ns is None or b.time_ns is None or abs(b.time_ns - a.time_ns) > _COPY_NS:
        return False
    if a.ttl is None or b.ttl is None:
        return a.ttl is b.ttl and a.raw_seq == b.raw_seq
    return abs(a.ttl - b.ttl) <= 2


def _doubled(kept: list[Packet], copies: list[tuple[Packet, Packet]]) -> bool:
    """Without IP IDs: was nearly everything of one side shown twice, its SYN or its data included?"""
    if all(packet.ttl is not None for packet, _ in copies):
        return True
    for side in (0, 1):
        own = [p for p in kept if p.side == side]
        twice = [packet for packet, _ in copies if packet.side == side]
        if len(own) > 2 and len(twice) >= len(own) * 0.8 and any(p.size or p.flags & (SYN | FIN) for p in twice):
            return True
    return False
