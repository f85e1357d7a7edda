"""How the sender of a RST stood with its peer at that moment, read off the captured segments alone. Pure.

What a segment does to an end is RFC 9293 section 3.10.7; which segment a stack's RST answers is in its own number
(section 3.10.7.1): it takes it from the acknowledgement that it refuses, or acknowledges what it refuses where that had none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faultkit.evidence.segments import form
from faultkit.evidence.transcript import Packet


@dataclass(slots=True)
class Standing:
    """One end of a connection, by what it sent and what it was sent before its RST, since its last SYN."""

    syn: Packet | None = None  # None: the capture began later
    crossed: bool = False  # its SYN was repeated with an ACK: a simultaneous open (RFC 9293 section 3.5)
    answered: bool = False  # that SYN was acknowledged
    spoke: bool = False  # it sent something that is neither SYN nor RST
    fin: Packet | None = None
    fin_acked_ns: int = 0  # 0: not so far
    peer_fin: bool = False
    peer_reset: bool = False
    stamps: frozenset[int] = frozenset()  # the timestamps that it sent
    trigger: Packet | None = None  # the segment that its RST answers, if it answers one
    goes_on: bool = (
        False  # after the RST it sent more on an established connection, which it has therefore not given up
    )
    repeats: bool = False  # after the RST it sent more with the same SYN: it had a socket for it all the time

    @property
    def established(self) -> bool:
        return self.spoke and self.answered and not self.fin


def standing(rst: Packet, packets: Sequence[Packet]) -> Standing:
    """Of the sender of `rst`; `packets` are those between its two ends, in order."""
    found = Standing()
    place = next(number for number, packet in enumerate(packets) if packet is rst)
    before = packets[:place]
    trigger = _trigger(rst, before) if form(rst) == "stack" else None
    for packet in before:
        if packet is trigger:
            break  # how it stood when that came
        if packet.source == rst.source:
            found = _sent(packet, found)
        else:
            _received(packet, found)
    found.trigger = trigger
    following = _following(rst, packets[place + 1 :])
    if following:
        found.goes_on = found.established and "SYN" not in following.flags and following.ttl == rst.ttl
        found.repeats = found.syn is not None and _same(found.syn, following)
    return found


def after(packet: Packet) -> int:
    """The sequence number after that segment: SYN and FIN count one each (RFC 9293 section 3.4)."""
    return (packet.seq + packet.payload + ("SYN" in packet.flags) + ("FIN" in packet.flags)) & 0xFFFFFFFF


def _trigger(rst: Packet, before: Sequence[Packet]) -> Packet | None:
    """The last segment of the other end whose number the RST carries; a RST is never answered."""
    for packet in reversed(before):
        if packet.source != rst.source and "RST" not in packet.flags:
            if "ACK" in rst.flags and "ACK" not in packet.flags and not rst.seq and rst.ack == after(packet):
                return packet
            if "ACK" not in rst.flags and "ACK" in packet.flags and rst.seq == packet.ack:
                return packet
    return None


def _sent(packet: Packet, found: Standing) -> Standing:
    if "RST" in packet.flags:
        return found
    if "SYN" in packet.flags:
        if found.syn is None or found.syn.seq != packet.seq:
            found = Standing(syn=packet)
        elif "ACK" in packet.flags and "ACK" not in found.syn.flags:
            found.crossed = True
    else:
        found.spoke = True
        if "FIN" in packet.flags and not found.fin:
            found.fin = packet
    stamp = next((value[0] for name, value in packet.options if name == "TS" and isinstance(value, tuple)), None)
    if stamp is not None:
        found.stamps |= {stamp}
    return found


def _received(packet: Packet, found: Standing) -> None:
    if "RST" in packet.flags:
        found.peer_reset = True
        return
    if "FIN" in packet.flags:
        found.peer_fin = True
    if "ACK" in packet.flags:
        if found.syn and packet.ack == after(found.syn):
            found.answered = True
        if found.fin and not found.fin_acked_ns and packet.ack == after(found.fin):
            found.fin_acked_ns = packet.time_ns


def _following(rst: Packet, later: Sequence[Packet]) -> Packet | None:
    """The next segment of its sender that is no RST. A router's is another's, and has been on its way for longer."""
    return next((packet for packet in later if packet.source == rst.source and "RST" not in packet.flags), None)


def _same(syn: Packet, packet: Packet) -> bool:
    """Is it of the connection that this SYN began?"""
    return packet.seq == (syn.seq if "SYN" in packet.flags else after(syn))
