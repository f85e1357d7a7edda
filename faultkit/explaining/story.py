"""What a connection's packets tell before anybody asks why it ended: who sent what, what answers what, what is
missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

from faultkit.explaining.diagnosis import Sender
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Connection, Packet
from faultkit.explaining.sightings import as_sent, once

SIDES: tuple[Sender, Sender] = ("client", "server")

# How a RST looks. "answer": the stack answers a segment (no ACK flag, window 0, no options). "abort": a socket aborts, Linux
# and BSD (RST,ACK with a window or options). "bare abort": RST,ACK with window 0 and no options: a socket of Windows, or a box
# in between. "refusal": RST,ACK to a SYN.
Form = Literal["answer", "abort", "bare abort", "refusal"]


@dataclass(slots=True)
class Side:
    """One end's packets, in order."""

    packets: list[Packet] = field(default_factory=list)

    @property
    def data(self) -> list[Packet]:
        return [p for p in self.packets if p.size]

    def first(self, flag: int) -> Packet | None:
        """Its first packet with that flag, resets aside."""
        return next((p for p in self.packets if p.flags & flag and not p.flags & RST), None)

    @property
    def ttls(self) -> Counter[int]:
        return Counter(p.ttl for p in self.packets if p.ttl is not None and not p.flags & RST)


class Story:
    """One connection, read. Copies of a packet are taken once; `copies` counts what was left out for that."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._seen, self.copies = once(connection.packets)
        self.packets = as_sent(self._seen)
        self.sides = (Side(), Side())
        for packet in self.packets:
            self.sides[packet.side].packets.append(packet)
        self._place = {packet.number: place for place, packet in enumerate(self.packets)}

    @cached_property
    def resets(self) -> list[Packet]:
        return [p for p in self.packets if p.flags & RST]

    @cached_property
    def syn(self) -> Packet | None:
        return next((p for p in self.sides[0].packets if p.flags & (SYN | ACK | RST) == SYN), None)

    @cached_property
    def answer(self) -> Packet | None:
        """The SYN,ACK."""
        return next((p for p in self.sides[1].packets if p.flags & (SYN | ACK | RST) == SYN | ACK), None)

    @cached_property
    def established(self) -> bool:
        """Was the handshake completed, or does the capture begin after it?"""
        if self.answer is None:
            return self.answer_missing or (self.syn is None and any(p.size or p.flags & FIN for p in self.packets))
        return any(p.flags & ACK and not p.flags & (SYN | RST) for p in self.after(self.answer) if p.side == 0)

    @cached_property
    def midway(self) -> bool:
        """Does the capture begin in the middle of it?"""
        return self.syn is None and self.answer is None

    @cached_property
    def deaf(self) -> int | None:
        """The side of which nothing was captured although it must have spoken; None where both were heard, or need not have.

        Only one who acknowledges what was never seen shows that there was something to see.
        """
        for side in (0, 1):
            if self.sides[side].packets:
                continue
            other = self.sides[1 - side].packets
            acks = {p.ack for p in other if p.ack is not None and not p.flags & RST}
            answered = any(p.flags & (SYN | ACK | RST) == SYN | ACK for p in other)
            if len(acks) > 1 or answered or any(p.flags & ACK and p.size for p in other):
                return side
        return None

    @cached_property
    def answer_missing(self) -> bool:
        """Was the handshake completed, and its SYN,ACK not captured? Then the client acknowledges it, and both go on."""
        if self.answer is not None or self.syn is None:
            return False
        own = [p for p in self.sides[0].packets if p.flags & ACK and not p.flags & (SYN | RST)]
        theirs = [p for p in self.sides[1].packets if not p.flags & (SYN | RST)]
        if not own or not theirs:
            return False
        begun = self.syn.end
        taken = any(p.ack is not None and begun is not None and begun < p.ack < begun + (1 << 28) for p in theirs)
        return own[0].number < theirs[0].number and (taken or any(p.size for p in theirs))

    @cached_property
    def behind_answer(self) -> Packet | None:
        """The server's pure acknowledgement where its SYN,ACK should be."""
        if self.answer is not None or self.syn is None or self.answer_missing:
            return None
        first = next((p for p in self.sides[1].packets if not p.flags & RST), None)
        return first if first is not None and first.flags & (SYN | FIN | ACK) == ACK and not first.size else None

    @cached_property
    def backwards(self) -> bool:
        """Do the times run backwards?"""
        times = [p.time_ns for p in self._seen if p.time_ns is not None]
        return any(b < a for a, b in pairwise(times))

    @cached_property
    def missing(self) -> list[int]:
        """The numbers of packets that show that others were not captured: an acknowledgement of data never seen,
        a gap."""
        if self.connection.omitted:
            return []
        found: list[int] = []
        highest: list[int | None] = [None, None]
        starts = [{p.seq for p in side.packets} for side in self.sides]
        for p in self.packets:
            if p.flags & RST:
                continue
            seen, mine = highest[1 - p.side], highest[p.side]
            if p.ack is not None and seen is not None and p.ack > seen + 1:
                found.append(p.number)
                highest[1 - p.side] = p.ack
            # What merely came out of order is there later.
            if mine is not None and p.seq is not None and p.seq > mine + 1 and mine not in starts[p.side]:
                found.append(p.number)
            if p.end is not None and (mine is None or p.end > mine):
                highest[p.side] = p.end
        return found

    def missing_but(self, packet: Packet) -> bool:
        """Are packets missing, that one's own numbers aside?"""
        return any(number != packet.number for number in self.missing)

    def before(self, packet: Packet) -> list[Packet]:
        return self.packets[: self._place[packet.number]]

    def after(self, packet: Packet) -> list[Packet]:
        return self.packets[self._place[packet.number] + 1 :]

    def next_of(self, side: int, before: Packet) -> int | None:
        """The number after everything that a side had sent before that packet; None where its numbers are not
        known."""
        return self._sent[side][self._place[before.number]]

    @cached_property
    def _sent(self) -> tuple[list[int | None], list[int | None]]:
        """Of each side, the number after everything that it had sent before the packet at each place."""
        found: tuple[list[int | None], list[int | None]] = ([], [])
        most: list[int | None] = [None, None]
        for packet in self.packets:
            found[0].append(most[0])
            found[1].append(most[1])
            end, known = packet.end, most[packet.side]
            if end is not None and not packet.flags & RST and (known is None or end > known):
                most[packet.side] = end
        return found

    def form(self, rst: Packet) -> Form:
        if not rst.flags & ACK:
            return "answer"
        if rst.window or rst.has("TS"):
            return "abort"
        if rst.window is None and not (rst.raw_seq == 0 and rst.seq != 0):
            return "abort" if self.established or self.midway else "refusal"
        syn = next((p for p in reversed(self.before(rst)) if p.side != rst.side and not p.flags & RST), None)
        own = [p for p in self.before(rst) if p.side == rst.side and not p.flags & RST]
        if syn is not None and syn.flags & SYN and not own and (syn.end is None or rst.ack in (None, syn.end)):
            return "refusal"
        if syn is None and not own and rst.raw_seq == 0 and rst.raw_ack:
            return "refusal"  # of a SYN that was not captured: no connection's number is 0 but by chance
        return "bare abort"

    def trigger(self, rst: Packet) -> Packet | None:
        """The segment that a RST answers: the last one whose acknowledgement it took its number from (RFC 9293 section 3.10.7.1).

        An answer with an ACK flag (to a SYN, or by Windows) acknowledges the segment instead.
        """
        earlier = [p for p in self.before(rst) if p.side != rst.side and not p.flags & RST]
        if not earlier:
            return None
        if rst.flags & ACK:
            return next(
                (p for p in reversed(earlier) if p.end is not None and p.end == rst.ack and p.end != p.seq), None
            )
        if rst.seq is None:
            return earlier[-1]
        asked = next((p for p in reversed(earlier) if p.ack == rst.seq), None)
        return None if asked is not None and self._was_taken(asked, rst) else asked

    def _was_taken(self, packet: Packet, rst: Packet) -> bool:
        """Has the other end acknowledged what that carries, before the RST? Then it did not answer that with a RST."""
        return bool(packet.size or packet.flags & FIN) and any(
            p.ack is not None and packet.end is not None and p.ack >= packet.end
            for p in self.before(rst)
            if p.side == rst.side and p.number > packet.number and not p.flags & RST
        )

    def fin_before(self, side: int, packet: Packet) -> Packet | None:
        return next((p for p in self.before(packet) if p.side == side and p.flags & FIN and not p.flags & RST), None)

    def data_before(self, side: int, packet: Packet) -> list[Packet]:
        return [
            p for p in self.before(packet) if p.side == side and p.size and not p.flags & RST and not self.is_probe(p)
        ]

    def is_probe(self, packet: Packet) -> bool:
        """A keepalive probe: at most a byte, the one before the next that it would send (RFC 9293 section 3.8.4).

        tcpdump does not print the number of a segment without data: there, an acknowledgement that comes again after a
        second or more, and tells nothing new.
        """
        if "Keep-Alive]" in packet.note or (
            "TCP Keep-Alive" in packet.note and "ACK]" not in packet.note.partition("[ACK]")[0]
        ):
            return True
        if packet.seq is None and packet.size == 0 and packet.flags & (SYN | FIN | RST | ACK) == ACK:
            mine = [p for p in self.before(packet) if p.side == packet.side and not p.flags & RST]
            pause = self.seconds(mine[-1], packet) if mine else None
            news = [p for p in self.before(packet) if p.number > mine[-1].number and p.size] if mine else []
            return pause is not None and pause >= 1 and mine[-1].ack == packet.ack and not news
        if packet.size is None or packet.size > 1 or packet.seq is None or packet.flags & (SYN | FIN | RST):
            return False
        sent = self.next_of(packet.side, packet)
        return sent is not None and packet.seq == sent - 1 and bool(packet.flags & ACK)

    def repeats(self, packet: Packet) -> bool:
        """Was all of it sent before? A retransmission, of data, of a SYN or of a FIN."""
        if not (packet.size or packet.flags & (SYN | FIN)) or packet.flags & RST or self.is_probe(packet):
            return False
        sent = self.next_of(packet.side, packet)
        if sent is None or packet.end is None or packet.end > sent:
            return False
        # What merely came out of order was not there before.
        return bool(self.connection.omitted) or self.first_sent(packet) is not packet

    def first_sent(self, packet: Packet) -> Packet:
        """The first packet of its sender that carried its first number; itself where that is not there."""
        if packet.seq is None:
            return packet
        for p in self.before(packet):
            spans = p.seq is not None and p.end is not None and p.seq <= packet.seq < p.end
            if spans and p.side == packet.side and not p.flags & RST and not self.is_probe(p):
                return p
        return packet

    def seconds(self, earlier: Packet | None, later: Packet | None) -> float | None:
        """Seconds between two packets; None where a time is not told, or the times run backwards."""
        if earlier is None or later is None or earlier.time_ns is None or later.time_ns is None or self.backwards:
            return None
        return (later.time_ns - earlier.time_ns) / 1e9

    def idle_before(self, packet: Packet) -> float | None:
        """Seconds without a packet of either side before that one, keepalives aside."""
        last = next((p for p in reversed(self.before(packet)) if not self.is_probe(p)), None)
        return self.seconds(last, packet)
