"""Who still waited when a RST came: the packets show that nobody did, or what was not answered, not acknowledged or not whole."""

from __future__ import annotations

import re

from faultkit.explaining import payload
from faultkit.explaining.flows import RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d{1,18})\r\n")


def waited_for(story: Story, rst: Packet) -> str:
    """What somebody still waited for, in words; "" where both directions show that nobody did."""
    return _not_captured(story, rst) or _unacknowledged(story, rst) or unanswered(story, rst) or _not_whole(story, rst)


def is_request(story: Story, rst: Packet) -> bool:
    """Is the client's last data before the RST one that a program waits after?"""
    sent = story.data_before(0, rst)
    return bool(sent) and payload.request(sent[-1])


def _not_captured(story: Story, rst: Packet) -> str:
    silent = next((side for side in (0, 1) if not story.sides[side].packets), None)
    if silent is None or not any(p.size for p in story.before(rst)):
        return ""
    return f"nothing of the {SIDES[silent]} was captured"


def _unacknowledged(story: Story, rst: Packet) -> str:
    """Data of the other end that the one who resets had not got whole, or its own that did not get there."""
    for side in (1 - rst.side, rst.side):
        data = [p for p in story.data_before(side, rst) if p.seq is not None]
        ends = [(p.seq or 0) + (p.size or 0) for p in data]
        acks = [p.ack for p in (*story.before(rst), rst) if p.side != side and p.ack is not None]
        lost = [p for p, end in zip(data, ends, strict=True) if acks and end > max(acks)]
        if lost and not payload.farewell(lost):
            return f"the {SIDES[side]} had sent up to {max(ends)}, and the {SIDES[1 - side]} had acknowledged {max(acks)} of that"
    return ""


def unanswered(story: Story, rst: Packet) -> str:
    """The client's last data before that packet, if nothing of the server followed it."""
    data = [p for p in story.before(rst) if p.size and not p.flags & (RST | SYN) and not story.is_probe(p)]
    if not data or data[-1].side == 1 or payload.farewell(data[-1:]):
        return ""
    return f"nothing had answered the client's packet {data[-1].number}"


def _not_whole(story: Story, rst: Packet) -> str:
    """An HTTP response that told its length and had not come to it."""
    answer = next((p for p in reversed(story.data_before(1, rst)) if p.data.startswith(b"HTTP/1.")), None)
    told = _LENGTH.search(answer.data) if answer is not None else None
    asked = story.data_before(0, rst)
    if answer is None or told is None or answer.seq is None or not asked or asked[-1].data.startswith(b"HEAD "):
        return ""
    came = max((p.end for p in story.data_before(1, rst) if p.end is not None), default=answer.seq) - answer.seq
    body = answer.data.find(b"\r\n\r\n")
    head = body + 4 if body >= 0 else 0
    status = answer.data[9:12]
    if status in (b"204", b"304") or came - head >= int(told[1]):
        return ""
    return f"the response of packet {answer.number} is to have {int(told[1])} bytes of body, and {came - head} had come at most"
