"""Who still waited when a RST came: the packets show that nobody did, or what was not answered, not acknowledged or not whole."""

from __future__ import annotations

import re

from faultkit.explaining import payload
from faultkit.explaining.flows import FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d{1,18})\r\n")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[^\r\n]*\bchunked\r\n")
_RECORD = re.compile(rb"[\x14-\x17]\x03[\0-\4]")
_FINAL = 5  # bytes of the chunk that ends a response (RFC 9112 section 7.1)
_TOGETHER = 0.005  # seconds between the last data and the close of one who does not wait; arbitrary
_LONGEST = 65536  # bytes of a header; arbitrary


def waited_for(story: Story, rst: Packet) -> str:
    """What somebody still waited for, in words; "" where both directions show that nobody did."""
    return _not_captured(story, rst) or _unacknowledged(story, rst) or unanswered(story, rst) or _not_whole(story, rst)


def is_request(story: Story, rst: Packet) -> bool:
    """Is the client's last data before the RST one that a program waits after?"""
    sent = story.data_before(0, rst)
    return bool(sent) and payload.request(sent[-1])


def greeted(story: Story, rst: Packet) -> str:
    """A TLS handshake of which the client has sent its first message alone; "" where it had gone on."""
    sent = story.data_before(0, rst)
    if sent and payload.greeting(sent[-1]):
        return f"its TLS handshake was not finished: packet {sent[-1].number} is its ClientHello"
    return ""


def left_at_once(story: Story, last: Packet) -> Packet | None:
    """The client's FIN, where it closed together with its last data, which is no request: it cannot have waited for an answer."""
    fin = next((p for p in story.after(last) if p.side == last.side and p.flags & FIN and not p.flags & RST), None)
    apart = story.seconds(last, fin) if fin is not None else None
    return fin if apart is not None and apart < _TOGETHER and not payload.request(last) else None


def is_answered_whole(story: Story, rst: Packet) -> bool:
    """Has a response of HTTP come whole, by what it says of its length?"""
    response = _Response(story, rst)
    return response.known and not response.lacks and not response.unclear


def response_lacks(story: Story, end: Packet) -> str:
    """What the last response of HTTP before that packet lacks, by what it says of its length; "" where it is whole or that is
    not known."""
    return _Response(story, end).lacks


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
    """A response of HTTP, or a TLS record, that told its length and had not come to it."""
    return _Response(story, rst).lacks or _record_lacks(story, rst)


def unclear(story: Story, rst: Packet) -> str:
    """Why it cannot be told whether the last response had come whole; "" where it had, or where nothing tells its length."""
    return _Response(story, rst).unclear


class _Response:
    """The last response of HTTP before a RST. `lacks` says what has not come of it, `unclear` why that is not known."""

    def __init__(self, story: Story, rst: Packet) -> None:
        self.lacks = self.unclear = ""
        self.known = False
        sent = [p for p in story.data_before(1, rst) if p.seq is not None]
        asked = story.data_before(0, rst)
        first = next((p for p in reversed(sent) if p.data.startswith(b"HTTP/1.")), None)
        if first is None and sent and asked and not story.connection.from_rows and all(_is_cut(p) for p in sent):
            self.unclear = "of what the server sent so little was captured that nothing tells whether it was whole"
        if first is None or not asked or asked[-1].data.startswith(b"HEAD "):
            return
        if first.data[9:10] == b"1" or (asked[-1].number > first.number):
            return
        self.known = True
        head, begins = _head(sent, first)
        if first.data[9:12] in (b"204", b"304"):  # without a body, whatever its header says (RFC 9110 section 6.4.1)
            self.unclear = (
                "" if begins else f"the header of the response of packet {first.number} was not captured whole"
            )
            return
        came = max(p.end or 0 for p in sent) - (first.seq or 0)
        name = f"the response of packet {first.number}"
        told = _LENGTH.search(head)
        whole = begins is not None
        body = came - (begins or len(head))
        if told and body < int(told[1]):
            self.lacks = f"{name} is to have {int(told[1])} bytes of body, and {body} had come at most"
        elif not whole:
            self.unclear = f"its header was not captured whole, so whether {name} was whole cannot be told"
        elif _CHUNKED.search(head):
            last = max(sent, key=lambda p: p.end or 0)
            ending = last.data[-_FINAL:] if last.size == len(last.data) else last.tail[-_FINAL:]
            if ending and not b"0\r\n\r\n".endswith(ending[-5:]):
                self.lacks = f"{name} comes in chunks, and the last of them had not come"
            elif not ending:
                self.unclear = f"{name} comes in chunks, and the end of packet {last.number} was not captured"
        elif not told and not story.fin_before(1, rst):
            self.lacks = f"{name} tells no length, so the server's close is its end, and that had not come"


def _is_cut(packet: Packet) -> bool:
    """Was less of it captured than tells what it is?"""
    return len(packet.data) < min(len(b"HTTP/1."), packet.size or 0)


def _head(sent: list[Packet], first: Packet) -> tuple[bytes, int | None]:
    """The header of a response as far as it was captured, and where the body begins in it, None where that is not there."""
    head, last = first.data, first
    while b"\r\n\r\n" not in head and last.size == len(last.data) and len(head) < _LONGEST:
        following = next((p for p in sent if p.seq == last.end and p.size and p is not last), None)
        if following is None:
            break
        head, last = head + following.data, following
    ends = head.find(b"\r\n\r\n")
    return head if ends < 0 else head[: ends + 2], None if ends < 0 else ends + 4


def _record_lacks(story: Story, rst: Packet) -> str:
    """A TLS record (RFC 8446 section 5.1) of the server of which a part alone had come."""
    sent = {p.seq: p for p in story.data_before(1, rst) if p.seq is not None and p.end is not None}
    if not sent or story.connection.omitted:
        return ""
    end = max(p.end or 0 for p in sent.values())
    begun = next((p for p in reversed(sent.values()) if _RECORD.match(p.data)), None)
    at = begun.seq if begun is not None else None
    while begun is not None and at is not None and at < end:
        holder = next((p for p in sent.values() if (p.seq or 0) <= at < (p.end or 0)), None)
        header = holder.data[at - (holder.seq or 0) :][:5] if holder is not None else b""
        if len(header) < 5 or not _RECORD.match(header):
            return ""
        following = at + 5 + int.from_bytes(header[3:], "big")
        if following > end and holder is not None:
            return f"the TLS record that begins in packet {holder.number} lacks {following - end} bytes"
        at = following
    return ""
