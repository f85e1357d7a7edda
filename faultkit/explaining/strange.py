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
    for packet in story.packets:
        kind, why = _misfit(story, packet)
        if kind and _ignored(story, packet):
            return replace(
                found,
                end=f"{found.end}; a segment was ignored",
                causes=(f"bad-segment --segment {kind}", "injected"),
                sure="most likely",
                why=f"Packet {packet.number} {why}: it was ignored, and the connection went on. {found.why}",
                plain="a segment that does not fit",
            )
    return found


def _misfit(story: Story, packet: Packet) -> tuple[str, str]:
    """The name of what is wrong with a segment, and the words for it; twice "" where nothing is."""
    if packet.flags & (RST | SYN):
        return "", ""
    if not packet.flags & (FIN | ACK):
        return "no-flags", "has neither ACK nor any other flag that a connection has"
    before = story.before(packet)
    own = [p for p in before if p.side == packet.side and not p.flags & RST]
    theirs = [p for p in before if p.side != packet.side and not p.flags & RST]
    if not own or not theirs or packet.seq is None or packet.ack is None or story.missing_but(packet):
        return "", ""
    other = SIDES[1 - packet.side]
    sent = story.next_of(1 - packet.side, packet)
    if sent is not None and packet.ack > sent:
        return "future-ack", f"acknowledges {packet.ack}, of which the {other} had sent up to {sent}"
    acked = max((p.ack for p in own if p.ack is not None), default=None)
    if acked is not None and packet.ack < acked - _ODD and packet.ack < 0:
        return "old-ack", f"acknowledges {packet.ack}, far below what it had acknowledged before"
    expected = max((p.ack for p in theirs if p.ack is not None), default=None)
    if expected is not None and packet.seq > expected + _ODD and packet.seq > expected + _window(theirs):
        return "beyond-window", f"has the number {packet.seq}, which no window of the {other} reaches"
    stamp = packet.option("TS")
    last = next((value for p in reversed(own) if isinstance(value := p.option("TS"), tuple)), None)
    if isinstance(stamp, tuple) and isinstance(last, tuple) and _OLD < (last[0] - stamp[0]) & 0xFFFFFFFF < 1 << 31:
        return "old-timestamp", f"has the timestamp {stamp[0]}, older than {last[0]} before it (PAWS)"
    return "", ""


def _window(theirs: list[Packet]) -> int:
    """The largest window that they have offered, in bytes."""
    scale = next((value for p in theirs if p.flags & SYN and isinstance(value := p.option("WS"), int)), None)
    if scale is None:
        return 0 if any(p.flags & SYN for p in theirs) else _WINDOW
    return max(p.window or 0 for p in theirs) << scale


def _ignored(story: Story, packet: Packet) -> bool:
    """Does its sender go on as if it had never sent it, and is it acknowledged in that?"""
    later = [p for p in story.after(packet) if p.side == packet.side and not p.flags & RST]
    went_on = next((p for p in later if (p.size or p.flags & FIN) and _misfit(story, p) == ("", "")), None)
    if went_on is None or went_on.seq is None or packet.seq is None:
        return False
    if went_on.seq > packet.seq:
        return False  # it was taken
    return any(p.side != packet.side and p.flags & ACK for p in story.after(went_on))
