"""Resets of connections of which the data was not captured: a filter kept SYN, FIN and RST alone, or lines were cut out.

The numbers tell: between the SYN and the RST there was more than was captured.
"""

from __future__ import annotations

from faultkit.explaining.diagnosis import Finding, ResetTold
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import ended

_FAR = 1 << 28  # bytes: a number that far beyond is none of this connection's
_LATE = 1.0  # seconds after a SYN in which a stack refuses it; arbitrary


def explain(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    before = story.before(rst)
    if (
        story.syn is None
        or told[rst.number].by == "middlebox"
        or not all(p.flags & (SYN | FIN) and not p.size for p in before)
    ):
        return None
    if any(p.flags & RST for p in before) or rst.data or refuses(story, rst):
        return None
    carried = [_beyond(story, rst, side) for side in (0, 1)]
    refused = not rst.flags & ACK and not story.sides[rst.side].packets[0].flags & SYN
    if not any(carried) and not (refused and (story.seconds(before[-1], rst) or 0.0) >= _LATE):
        return None
    name, form = SIDES[rst.side], story.form(rst)
    bytes_of = " and ".join(f"{size} of the {SIDES[side]}" for side, size in enumerate(carried) if size)
    causes = (
        ("linger", "unread", "disconnect", "crash")
        if form == "abort"
        else ("late-write", "half-open", "firewall-reset")
    )
    return Finding(
        ended(told[rst.number].by, rst),
        "suspicious",
        causes,
        "cannot be told",
        "Of this connection the turns alone were captured, SYN, FIN and RST: a filter, or lines that were cut out"
        f"{f'. By their numbers bytes lie between them that are not here ({bytes_of})' if bytes_of else ''}. Packet "
        f"{rst.number} is a RST of the {name}: {_HOW.get(form, _BARE)}. What it ended is not known",
        by=told[rst.number].by,
        tell="a capture of the whole connection: tcpdump -n -s 128 -w all.pcap host A and port P",
    )


_HOW = {
    "abort": "a socket has aborted",
    "answer": "a stack answers something for which it had no connection, or something in between does in its name",
}
_BARE = "an abort, as Windows sends it, or a box in between"


def refuses(story: Story, rst: Packet) -> bool:
    """Is it the refusal of a SYN by its number 0 (RFC 9293 section 3.10.7.1)? Older rows give its acknowledgement relative to
    another SYN."""
    return story.connection.from_rows and bool(rst.flags & ACK) and rst.raw_seq == 0 and not rst.window


def _beyond(story: Story, rst: Packet, side: int) -> int:
    """Bytes of a side that lie between what was captured of it and the last number that is told of it."""
    own = [p for p in story.before(rst) if p.side == side and p.end is not None]
    ends = [p.end or 0 for p in own]
    told = [p.seq if p.side == side else p.ack for p in (*story.before(rst), rst)]
    opened = next((p.end for p in own if p.flags & SYN and p.end is not None), None)
    if opened is None or not ends:
        return 0
    fins = sum(bool(p.flags & FIN) for p in own[:1])
    beyond = max((number for number in told if number is not None), default=0) - opened - fins
    return beyond if 1 < beyond < _FAR else 0
