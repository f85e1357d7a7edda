"""Who sent a RST: the end whose address it carries, or something in between. From packets alone.

The signs: another TTL than that end's packets have, an IP ID out of its row, a sender that goes on afterwards, numbers that
only a third party would use, several RSTs with rising numbers (Weaver, Sommer and Paxson, "Detecting Forged TCP Reset
Packets", NDSS 2009), marks that products leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from faultkit.explaining.diagnosis import ResetTold
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.hops import by_ttl, row
from faultkit.explaining.sightings import OVERTAKEN
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.tampering import signature


@dataclass(frozen=True, slots=True)
class Mark:
    """What a product's RSTs have in common, and where that is written."""

    product: str
    source: str
    windows: tuple[int, ...] = ()
    begins: bytes = b""


MARKS: tuple[Mark, ...] = (
    Mark(
        "Citrix NetScaler",
        "Citrix Product Documentation, 'RST window codes': the window of a RST is the code of its reason, 9300 an "
        "idle timeout",
        windows=(8201, 8202, 8203, 8204, 8205, 8206, 8207, 8208, 9200, 9300, 9700, 9701, 9702, 9811, 9812, 9816),
    ),
    Mark("F5 BIG-IP", "F5 K13223: tm.rstcause.pkt writes the reason into the RST's data", begins=b"BIG-IP: ["),
)

HINTED = "may have been made in between"
_NEAR = 64  # packets that a host sends to others between two of one connection, at most; arbitrary
_SAME_MOMENT = 0.001  # seconds; arbitrary


def mark(story: Story, rst: Packet) -> Mark | None:
    """The product whose mark the RST has."""
    for known in MARKS:
        signed = rst.flags & RST and window(story, rst) in known.windows
        if (known.begins and rst.data.startswith(known.begins)) or signed:
            return known
    return None


def window(story: Story, packet: Packet) -> int | None:
    """Its window as it was sent. tshark prints it multiplied by the factor that the SYN told (RFC 7323 section 2)."""
    value = packet.window
    if value is None or value <= 0xFFFF or not story.connection.from_rows:
        return value
    factor = next((p.option("WS") for p in story.sides[packet.side].packets if p.flags & SYN and p.has("WS")), None)
    return value // factor if isinstance(factor, int) and factor > 0 and not value % factor else value


def text(rst: Packet) -> str:
    """What a RST says in its own data (RFC 9293 section 3.5.3 allows it); "" where nothing readable is there."""
    printable = bytes(b for b in rst.data if 32 <= b < 127)
    return printable.decode() if rst.size and len(printable) >= 4 and len(printable) * 2 > len(rst.data) else ""


def tell(story: Story, rst: Packet) -> ResetTold:
    """Who sent this RST, and why that is said."""
    name = SIDES[rst.side]
    trigger = story.trigger(rst)
    answers = trigger.number if trigger else 0
    shown, hints = _signs(story, rst)
    if shown:
        why = f"packet {rst.number} carries the {name}'s address and was not sent by it: {'; '.join(shown)}"
        return ResetTold(rst.number, "middlebox", (), why, answers, signature(story, rst.side))
    if hints:
        why = f"packet {rst.number} {HINTED}: {'; '.join(hints)}"
        return ResetTold(rst.number, "", (name, "middlebox"), why, answers, signature(story, rst.side))
    sure, why = _by_form(story, rst, trigger)
    return ResetTold(rst.number, name if sure else "", () if sure else (name, "middlebox"), why, answers)


def _by_form(story: Story, rst: Packet, trigger: Packet | None) -> tuple[bool, str]:
    """Is it the end's own, by its form and by what that end had done? And the words for it."""
    name, form = SIDES[rst.side], story.form(rst)
    if form == "abort":
        return True, f"packet {rst.number} has a window and options, as a socket of the {name} sends it that aborts"
    if form == "refusal":
        return False, (
            f"packet {rst.number} answers the SYN, as the {name}'s kernel does, or a firewall that refuses in its name"
        )
    if form == "bare abort":
        alike = rst.ttl is not None and rst.ttl in story.sides[rst.side].ttls
        return alike, (
            f"packet {rst.number} has an ACK flag, window 0 and no options, as Windows and some boxes in between send it"
            f"{', and the TTL of its other packets' if alike else ''}"
        )
    if rst.window:
        said = (
            f"packet {rst.number} has no ACK flag and window {rst.window}: Linux and BSD answer with window 0, Windows "
        )
        said += "with an ACK flag"
        own = [p for p in story.sides[rst.side].packets if not p.flags & RST]
        if rst.ttl is not None and rst.ttl in story.sides[rst.side].ttls and any(p.window == rst.window for p in own):
            in_row = row(story, rst) == "in"
            said += f"; it is the window of the {name}'s other packets, as routers and controllers answer"
            return in_row, f"{said}, and its IP ID stands in their row" if in_row else said
        return False, f"{said}; some devices and some boxes in between send such RSTs"
    what = f"answers packet {trigger.number}" if trigger else "answers a segment that was not captured"
    why = (
        f"packet {rst.number} {what}: its number is the one that was acknowledged, and it has no window and no options"
    )
    if _has_no_socket(story, rst, trigger):
        return True, why
    return (
        False,
        f"{why}. The {name}'s kernel answers so for a connection that it does not know, and a firewall in its name",
    )


def _has_no_socket(story: Story, rst: Packet, trigger: Packet | None) -> bool:
    """Do the packets show why that end's kernel has no socket for what it answers: is it closed, reset, or never asked?"""
    before = story.before(rst)
    own = [p for p in before if p.side == rst.side]
    closed = any(p.flags & FIN or (p.flags & RST and story.form(p) == "abort") for p in own)
    if closed or trigger is None:
        return closed
    if any(p.flags & RST and p.number < trigger.number for p in before):
        return True  # the other end's RST has ended it, and what came later met nothing
    sent = story.next_of(rst.side, rst)
    if trigger.flags & SYN:
        return True
    if sent is None or trigger.ack is None or 0 <= trigger.ack <= sent:
        return False
    # Of a handshake nothing else was sent that could have been missed.
    first = all(p.flags & SYN for p in before if p is not trigger and not p.flags & RST)
    later = (p for p in story.after(rst) if p.side == rst.side and not p.flags & RST)
    return first and not story.missing_but(trigger) and not any(p.seq == trigger.ack for p in later)


def _signs(story: Story, rst: Packet) -> tuple[list[str], list[str]]:
    """What shows that the RST is not its sender's, and what only hints at it."""
    shown, hints = by_ttl(story, rst)
    own = story.sides[rst.side]
    pair = _injectors_pair(story, rst)
    if pair:
        return [*shown, *hints, pair], []
    usual = own.ttls.most_common(1)[0][0] if own.ttls else None
    going_on = [
        p
        for p in story.after(rst)
        if p.side == rst.side
        and not p.flags & RST
        and (p.size or p.flags & (FIN | SYN | ACK))
        and not (rst.ttl == usual and p.ttl != usual)  # rather that one is not its sender's
    ]
    # A RST that answers an acknowledgement of what was never sent ends nothing (RFC 9293 section 3.10.7.3), nor does one
    # that a listening socket or a half-made connection answers with. Where the other side was not captured before it,
    # any number may be such an answer.
    unseen = not any(p.side != rst.side for p in story.before(rst))
    elsewhere = rst.seq is not None and rst.seq != story.next_of(rst.side, rst)
    provoked = elsewhere and (story.trigger(rst) is not None or unseen or story.connection.from_rows)
    on = next((p for p in going_on if _not_late(story, rst, p)), None)
    anew = on and any(p.flags & SYN for p in story.after(rst) if p.number <= on.number)
    if on and not provoked and not anew:
        # What a bare RST with another number answers may have been lost, and of a handshake that with the right one; then it
        # ends nothing, and its sender may go on.
        opening = all(p.flags & SYN for p in story.before(rst) if not p.flags & RST)
        answer = (elsewhere or opening) and not rst.flags & ACK
        (hints if answer or story.backwards or _of_another(story, on) else shown).append(
            f"its sender goes on afterwards, in packet {on.number}"
        )
    made = mark(story, rst)
    if made and not any(window(story, p) in made.windows for p in own.packets if not p.flags & RST):
        hints.append(f"it has the mark of {made.product}")
    sent = story.next_of(rst.side, rst)
    whole = not story.connection.omitted and not story.missing
    if sent is not None and rst.seq is not None and rst.seq > sent + 1 and whole and not unseen and not provoked:
        hints.append(f"its number is {rst.seq - sent} beyond what its sender had sent")
    lower = next((p for p in own.packets if p.flags & RST and p.number < rst.number), None)
    if (
        lower
        and rst.seq is not None
        and lower.seq is not None
        and rst.seq > lower.seq
        and not story.trigger(rst)
        and whole
    ):
        hints.append(
            f"its number is higher than that of the RST in packet {lower.number}, and no segment asks for it (RST SEQ CHANGE)"
        )
    return shown, hints


_SANDVINE = 12503  # what an injector of Internet providers added to its second RST, as captures of 2007 show it


def _injectors_pair(story: Story, rst: Packet) -> str:
    """Is it one of two bare RSTs with a window, and the other's number as much higher as a known injector makes it?"""
    if rst.flags & ACK or not rst.window or rst.raw_seq == 0:
        return ""
    for other in story.resets:
        apart = story.seconds(rst, other)
        near = apart is None or abs(apart) < 1
        if near and other.side == rst.side and not other.flags & ACK and other.window == rst.window:
            step = (other.raw_seq - rst.raw_seq) & 0xFFFFFFFF
            if step in (_SANDVINE, (1 << 32) - _SANDVINE):
                return f"the numbers of packets {rst.number} and {other.number} lie {_SANDVINE} apart, the mark of an injector"
    return ""


def _not_late(story: Story, rst: Packet, after: Packet) -> bool:
    """Is it no packet that was merely overtaken, or captured twice? One that was sent before the RST has an older time or
    timestamp, an IP ID just below the RST's, or lies before it in sequence and comes at once after it."""
    apart = story.seconds(rst, after)
    at_once = apart is None or apart < OVERTAKEN
    if (
        rst.seq is not None
        and after.end is not None
        and after.end <= rst.seq
        and (after.size or after.flags & FIN)
        and at_once
    ):
        return False
    if at_once and not after.size and not after.flags & (FIN | SYN) and _is_overtaken(story, rst, after):
        return False
    rst_ts, its_ts = rst.option("TS"), after.option("TS")
    if isinstance(rst_ts, tuple) and isinstance(its_ts, tuple) and (its_ts[0] - rst_ts[0]) & 0xFFFFFFFF >= 0x80000000:
        return False
    if rst.ip_id and after.ip_id and 0 < (rst.ip_id - after.ip_id) & 0xFFFF <= _NEAR:
        return False
    return rst.time_ns is None or after.time_ns is None or after.time_ns >= rst.time_ns


def _is_overtaken(story: Story, rst: Packet, after: Packet) -> bool:
    """Do acknowledgements come behind the RST that tell of less than it does? Then they were sent before it, and so may that
    one be."""
    told = rst.ack if rst.flags & ACK else None
    behind = [p.ack for p in story.after(rst) if p.side == rst.side and p.ack is not None and not p.flags & RST]
    return told is not None and after.ack is not None and after.ack <= told and min(behind) < told


def _of_another(story: Story, packet: Packet) -> bool:
    """May it be another connection's, whose SYN was not captured? Then its numbers are none that this one had come to."""
    seqs = [p.seq for p in story.before(packet) if p.side == packet.side and p.seq is not None and not p.flags & RST]
    expected, heard = story.next_of(packet.side, packet), story.next_of(1 - packet.side, packet)
    if packet.seq is not None and expected is not None and not min(seqs) <= packet.seq <= expected:
        return True
    return packet.ack is not None and heard is not None and packet.ack > heard + 1


def both_at_once(story: Story) -> bool:
    """Did both ends send a RST within a moment, with IP IDs of one counter? Then one device made both."""
    resets = story.resets
    for a, b in pairwise(resets):
        if a.side == b.side:
            continue
        apart = story.seconds(a, b)
        if apart is None or abs(apart) > _SAME_MOMENT or not a.ip_id or not b.ip_id:
            continue
        if _one_counter(story):
            return True
    return False


def _one_counter(story: Story) -> bool:
    """Do the IP IDs of both sides lie beside each other, at the end of the connection?"""
    recent = [p for p in story.packets if p.ip_id][-12:]
    changes = [(a, b) for a, b in pairwise(recent) if a.side != b.side]
    near = sum(abs(b.ip_id - a.ip_id) <= 24 for a, b in changes if a.ip_id and b.ip_id)
    return len(changes) >= 3 and near >= len(changes) * 0.8
