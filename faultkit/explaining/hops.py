"""Whose a packet is by the fields of its IP header: the TTL that is left of it, and the row of IP IDs in which it stands.

A TTL alone shows no other sender: routes change, proxies answer a handshake in a server's name, NATs and balancers begin anew.
With an IP ID out of its row, or without the timestamp that the sender puts into every segment, it does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story

_STEP = 256  # IP IDs between two packets of one connection, at most, where a host counts them; arbitrary
_WAYS = 2  # routers by which two ways of one host differ; arbitrary
_FAR = 4096  # IP IDs from the row, from which on a packet is out of it; arbitrary


def by_ttl(story: Story, rst: Packet) -> tuple[list[str], list[str]]:
    """What the TTL of a RST shows, and what it only hints at, with what else its header tells."""
    own = story.sides[rst.side]
    if rst.ttl is None or not own.ttls or rst.ttl in own.ttls:
        return [], []
    earlier = [p for p in story.before(rst) if p.side == rst.side]
    if any(p.ttl is not None and abs(p.ttl - rst.ttl) <= _WAYS and not p.flags & (SYN | RST) for p in earlier):
        return [], []  # what answered the handshake was another, or another way was taken
    usual = own.ttls.most_common(1)[0][0]
    said = f"its TTL is {rst.ttl}, that of the same sender's other packets {usual}"
    place = row(story, rst)
    if _is_stamped_right(story, rst) and place == "in":
        return [], []  # another way through the network
    # A host's answers may start from another TTL than its sockets do (64 and 255): so far off is no other way.
    same_way = _initial(rst.ttl) != _initial(usual) and _hops(rst.ttl) == _hops(usual)
    # One against one: which of the two is the odd one?
    alone = own.ttls[usual] < 2 and not any(p.flags & SYN for p in own.packets)
    again = any(p.ttl == usual and not p.flags & RST for p in story.after(rst) if p.side == rst.side)
    other = (
        "its IP ID is out of their row" if place == "out" else "it has no timestamp" if _lacks_stamp(story, rst) else ""
    )
    if not other and again and place != "in":
        other = "those after it have that again"
    bare = (
        not rst.flags & ACK and rst.window and not any(p.window == rst.window for p in own.packets if not p.flags & RST)
    )
    if not other and bare:
        other = f"it has no ACK flag and a window of its own, {rst.window}, as no stack of a host answers"
    if not other or alone or same_way or abs(rst.ttl - usual) <= _WAYS:
        return [], [said]
    return [f"{said}, and {other}"], []


def foreign(story: Story) -> list[tuple[Packet, str]]:
    """Data and FINs that are not their sender's by their TTL and by what else they have, and the words for each."""
    found = []
    for side in story.sides:
        usual = side.ttls.most_common(1)
        if not usual or usual[0][1] < 3 or usual[0][1] < len(side.packets) * 0.6:
            continue
        stamped = sum(p.has("TS") for p in side.packets) > len(side.packets) * 0.6
        for p in side.packets:
            odd = p.ttl is not None and abs(p.ttl - usual[0][0]) > 2
            if not odd or p.flags & RST or not (p.size or p.flags & FIN) or (stamped and p.has("TS")):
                continue
            if stamped or row(story, p) == "out":
                found.append((p, f"its TTL is {p.ttl}, that of the {SIDES[p.side]}'s other packets {usual[0][0]}"))
    return found


def row(story: Story, packet: Packet) -> Literal["in", "out", ""]:
    """Does its IP ID stand in the row of its sender's, or clearly not? "" where they are in no row, or it has none."""
    ids = [p.ip_id for p in story.sides[packet.side].packets if p.ip_id and p is not packet and not p.flags & RST]
    steps = [(b - a) & 0xFFFF for a, b in pairwise(ids)]
    earlier = [p for p in story.before(packet) if p.side == packet.side and not p.flags & RST]
    before = next((p.ip_id for p in reversed(earlier) if p.ip_id), None)
    if not packet.ip_id or before is None or any(not 0 < step <= _STEP for step in steps):
        return ""
    step = (packet.ip_id - before) & 0xFFFF
    if 0 < step <= _STEP:
        return "in"
    return "out" if steps and _FAR < step < 0x10000 - _FAR else ""


def _is_stamped_right(story: Story, rst: Packet) -> bool:
    """Has it no timestamp where its sender gives none, or one that is not older and echoes what the other end has sent?"""
    stamps = [value for p in story.before(rst) if p.side == rst.side and isinstance(value := p.option("TS"), tuple)]
    mine = rst.option("TS")
    if not isinstance(mine, tuple):
        return not stamps
    theirs = {value[0] for p in story.before(rst) if p.side != rst.side and isinstance(value := p.option("TS"), tuple)}
    return mine[1] in theirs and all((mine[0] - value[0]) & 0xFFFFFFFF < 0x80000000 for value in stamps)


def _lacks_stamp(story: Story, rst: Packet) -> bool:
    """Has a RST that looks like a socket's no timestamp, though every segment of its sender has one?"""
    own = [p for p in story.sides[rst.side].packets if not p.flags & RST]
    return story.form(rst) == "abort" and not rst.has("TS") and len(own) > 1 and all(p.has("TS") for p in own)


def _initial(ttl: int) -> int:
    return next(start for start in (32, 64, 128, 255) if ttl <= start)


def _hops(ttl: int) -> int:
    return _initial(ttl) - ttl
