"""Segments that fit no connection and end none: a kernel refuses or challenges them, and the connection goes on.

RFC 9293 section 3.10.7, RFC 5961 (acknowledgements and SYNs out of place), RFC 7323 section 5 (timestamps).
"""

from __future__ import annotations

from dataclasses import replace

from faultkit.explaining.diagnosis import Finding, ResetTold
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story

_WINDOW = 1 << 30  # bytes: no window is larger (RFC 7323 section 2.3)
_ODD = 65535  # what the other end's window holds where it is not scaled; further off is no reordering
_OLD = 60_000  # ticks of a timestamp clock, 1 to 1000 ms each (RFC 7323 section 5.4): no reordering is so late


def refused(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    """A RST that refuses one impossible segment of a handshake or of nothing, after which both ends go on."""
    rst = story.resets[0]
    trigger = story.trigger(rst)
    if trigger is None or trigger.ack is None or rst.seq != trigger.ack or rst.flags & ACK:
        return None
    if not _go_on(story, rst):
        return _scanned(story, rst, trigger)
    own = [p for p in story.before(rst) if p.side == rst.side and not p.flags & RST]
    theirs = [p for p in story.before(rst) if p.side != rst.side and p.flags & SYN]
    sent = story.next_of(rst.side, rst)
    if not own or not theirs or trigger.flags & SYN or sent is None or not any(p.flags & SYN for p in own):
        return None
    if 0 <= trigger.ack <= sent:
        return None
    kind = "handshake-future-ack" if trigger.ack > sent else "handshake-old-ack"
    return Finding(
        "a segment of the handshake was refused, the connection goes on",
        "no reset",
        (f"bad-segment --segment {kind}", "injected"),
        "most likely",
        f"Packet {trigger.number} acknowledges {trigger.ack}, which the {SIDES[rst.side]} has never sent; the RST in packet "
        f"{rst.number} refuses that segment alone (RFC 9293 section 3.10.7.4), and both ends go on",
        by=told[rst.number].by,
        plain="a segment with an impossible acknowledgement",
    )


def _scanned(story: Story, rst: Packet, trigger: Packet) -> Finding | None:
    """Nothing but an acknowledgement without data, and its refusal: no program has lost anything by it."""
    alone = [p for p in story.packets if not p.flags & RST]
    if not story.midway or len(alone) != 1 or trigger.size != 0 or trigger.flags & FIN or story.deaf is not None:
        return None
    return Finding(
        "an acknowledgement for no connection was refused",
        "suspicious",
        ("bad-segment", "half-open", "firewall-reset", "nat-expiry"),
        "one of these",
        f"Packet {trigger.number} is an acknowledgement without data, of a connection of which nothing else was captured, and "
        f"packet {rst.number} refuses it: an ACK scan, or the leftover of a connection that one end has forgotten",
        by="",
        tell="a capture that begins before it",
    )


def _go_on(story: Story, rst: Packet) -> bool:
    """Do both ends send and acknowledge afterwards?"""
    after = [p for p in story.after(rst) if not p.flags & RST]
    return {p.side for p in after if p.flags & ACK} == {0, 1} and any(p.size or p.flags & (FIN | SYN) for p in after)


def noted(found: Finding, story: Story) -> Finding:
    """What was found of a connection that nothing has killed, and beside it the segment that it has ignored."""
    if found.harm not in ("closed", "open"):
        return found
    odd = _misfits(story)
    for packet in story.packets:
        kind, why = odd.get(packet.number, ("", ""))
        if kind and _ignored(story, packet, odd):
            return replace(
                found,
                end=f"{found.end}; a segment was ignored",
                causes=(f"bad-segment --segment {kind}", "injected"),
                sure="most likely",
                why=f"Packet {packet.number} {why}: it was ignored, and the connection went on. {found.why}",
                plain="a segment that does not fit",
            )
    return found


class _Sent:
    """What one side has sent so far, resets aside."""

    def __init__(self) -> None:
        self.begun = False
        self.end: int | None = None  # the number after all of it
        self.acked: int | None = None
        self.stamp: tuple[int, int] | None = None
        self.window = 0
        self.scale: int | None = None
        self.opened = False  # with a SYN

    def add(self, packet: Packet) -> None:
        """Take that in."""
        self.begun = True
        if packet.end is not None and (self.end is None or packet.end > self.end):
            self.end = packet.end
        if packet.ack is not None and (self.acked is None or packet.ack > self.acked):
            self.acked = packet.ack
        stamp = packet.option("TS")
        if isinstance(stamp, tuple):
            self.stamp = stamp
        self.window = max(self.window, packet.window or 0)
        if packet.flags & SYN:
            self.opened = True
            scale = packet.option("WS")
            if self.scale is None and isinstance(scale, int):
                self.scale = min(scale, 14)  # the largest there is (RFC 7323 section 2.3); tshark prints a factor

    @property
    def offered(self) -> int:
        """The largest window that it has offered, in bytes."""
        if self.scale is None:
            return 0 if self.opened else _WINDOW
        return self.window << self.scale


def _misfits(story: Story) -> dict[int, tuple[str, str]]:
    """Of each segment that does not fit, by its number, the name of what is wrong with it and the words for it."""
    found: dict[int, tuple[str, str]] = {}
    if story.connection.omitted:
        return found  # what is between them is not known
    sides = (_Sent(), _Sent())
    missing = {*story.missing}
    for packet in story.packets:
        if packet.flags & RST:
            continue
        own, theirs = sides[packet.side], sides[1 - packet.side]
        if not packet.flags & (SYN | FIN | ACK):
            found[packet.number] = ("no-flags", "has neither ACK nor any other flag that a connection has")
        elif not packet.flags & SYN and own.begun and theirs.begun and not missing - {packet.number}:
            wrong = _misfit(packet, own, theirs)
            if wrong:
                found[packet.number] = wrong
        own.add(packet)
    return found


def _misfit(packet: Packet, own: _Sent, theirs: _Sent) -> tuple[str, str] | None:
    if packet.seq is None or packet.ack is None:
        return None
    other = SIDES[1 - packet.side]
    if theirs.end is not None and packet.ack > theirs.end:
        return "future-ack", f"acknowledges {packet.ack}, of which the {other} had sent up to {theirs.end}"
    if own.acked is not None and packet.ack < own.acked - _ODD and packet.ack < 0:
        return "old-ack", f"acknowledges {packet.ack}, far below what it had acknowledged before"
    expected = theirs.acked
    if expected is not None and packet.seq > expected + _ODD and packet.seq > expected + theirs.offered:
        return "beyond-window", f"has the number {packet.seq}, which no window of the {other} reaches"
    stamp, last = packet.option("TS"), own.stamp
    if isinstance(stamp, tuple) and last and _OLD < (last[0] - stamp[0]) & 0xFFFFFFFF < 1 << 31:
        return "old-timestamp", f"has the timestamp {stamp[0]}, older than {last[0]} before it (PAWS)"
    return None


def _ignored(story: Story, packet: Packet, odd: dict[int, tuple[str, str]]) -> bool:
    """Does its sender go on as if it had never sent it, and is it acknowledged in that?"""
    later = [p for p in story.after(packet) if p.side == packet.side and not p.flags & RST]
    went_on = next((p for p in later if (p.size or p.flags & FIN) and p.number not in odd), None)
    if went_on is None or went_on.seq is None or packet.seq is None:
        return False
    if odd[packet.number][0] == "future-ack" and not _taken_back(story, packet, later):
        return False  # what it acknowledges was not captured
    if went_on.seq > packet.seq:
        return False  # it was taken
    return any(p.side != packet.side and p.flags & ACK for p in story.after(went_on))


def _taken_back(story: Story, packet: Packet, later: list[Packet]) -> bool:
    """Does its sender acknowledge less afterwards, and was what it acknowledged never sent, not even late?"""
    acked = packet.ack or 0
    sent_late = any(p.side != packet.side and p.end == acked for p in story.packets)
    return not sent_late and any(p.ack is not None and p.ack < acked for p in later)
