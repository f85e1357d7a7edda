"""Who sent a RST: the end whose address it carries, or something in between. From packets alone.

The signs: another TTL than that end's packets have, an IP ID out of its row, a sender that goes on afterwards, numbers that
only a third party would use, several RSTs with rising numbers (Weaver, Sommer and Paxson, "Detecting Forged TCP Reset
Packets", NDSS 2009), marks that products leave. The signatures of tampering are named as in Raman et al., "Global, Passive
Detection of Connection Tampering", SIGCOMM 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from faultkit.explaining.diagnosis import ResetTold
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story


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

_SAME_MOMENT = 0.001  # seconds; arbitrary


def mark(rst: Packet) -> Mark | None:
    """The product whose mark the RST has."""
    for known in MARKS:
        if (known.begins and rst.data.startswith(known.begins)) or (rst.flags & RST and rst.window in known.windows):
            return known
    return None


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
        return ResetTold(rst.number, "middlebox", (), why, answers, signature(story, rst))
    if hints:
        why = f"packet {rst.number} may have been made in between: {'; '.join(hints)}"
        return ResetTold(rst.number, "", (name, "middlebox"), why, answers, signature(story, rst))
    form = story.form(rst)
    if form == "abort":
        why = f"packet {rst.number} has a window and options, as a socket of the {name} sends it that aborts"
    elif form == "refusal":
        why = (
            f"packet {rst.number} answers the SYN, as the {name}'s kernel does, or a firewall that refuses in its name"
        )
        return ResetTold(rst.number, "", (name, "middlebox"), why, answers)
    elif form == "answer":
        what = f"answers packet {answers}" if answers else "answers a segment that was not captured"
        why = f"packet {rst.number} {what}: its number is the one that was acknowledged, and it has no window and no options"
    else:
        why = f"packet {rst.number} has an ACK flag, window 0 and no options, as Windows and some boxes in between send it"
    return ResetTold(rst.number, name, (), why, answers)  # type: ignore[arg-type]


def _signs(story: Story, rst: Packet) -> tuple[list[str], list[str]]:
    """What shows that the RST is not its sender's, and what only hints at it."""
    shown, hints = [], []
    own = story.sides[rst.side]
    if rst.ttl is not None and own.ttls and rst.ttl not in own.ttls:
        usual = own.ttls.most_common(1)[0][0]
        said = f"its TTL is {rst.ttl}, that of the same sender's other packets {usual}"
        # A host's answers may start from another TTL than its sockets do (64 and 255): so far off is no other way.
        if _initial(rst.ttl) != _initial(usual) and _hops(rst.ttl) == _hops(usual):
            hints.append(said)
        elif abs(rst.ttl - usual) > 2:
            shown.append(said)
        else:
            hints.append(said)
    later = [p for p in story.after(rst) if p.side == rst.side and not p.flags & RST]
    going_on = [p for p in later if p.size or p.flags & (FIN | SYN) or p.flags & ACK]
    # A RST that answers an acknowledgement of what was never sent ends nothing (RFC 9293 section 3.10.7.3), nor does one
    # that a listening socket or a half-made connection answers with.
    provoked = rst.seq is not None and rst.seq != story.next_of(rst.side, rst) and story.trigger(rst) is not None
    if going_on and not provoked and not (going_on[0].flags & SYN) and _not_late(story, rst, going_on[0]):
        shown.append(f"its sender goes on afterwards, in packet {going_on[0].number}")
    made = mark(rst)
    if made and not any(p.window in made.windows for p in own.packets if not p.flags & RST):
        hints.append(f"it has the mark of {made.product}")
    sent = story.next_of(rst.side, rst)
    if (
        sent is not None
        and rst.seq is not None
        and rst.seq > sent + 1
        and not story.connection.omitted
        and not story.missing
    ):
        hints.append(f"its number is {rst.seq - sent} beyond what its sender had sent")
    return shown, hints


def _not_late(story: Story, rst: Packet, after: Packet) -> bool:
    """Is it no packet that was merely overtaken? One that was sent before the RST has an older timestamp or IP ID."""
    rst_ts, its_ts = rst.option("TS"), after.option("TS")
    if isinstance(rst_ts, tuple) and isinstance(its_ts, tuple):
        return bool((its_ts[0] - rst_ts[0]) & 0xFFFFFFFF < 0x80000000)
    seconds = story.seconds(rst, after)
    return seconds is None or seconds > 0 or not story.backwards


def _initial(ttl: int) -> int:
    return next(start for start in (32, 64, 128, 255) if ttl <= start)


def _hops(ttl: int) -> int:
    return _initial(ttl) - ttl


def signature(story: Story, rst: Packet) -> str:
    """The signature of tampering that the packets of the RST's supposed sender have (SIGCOMM 2023, table 1); "" "
    "for none."""
    own = story.sides[rst.side].packets
    resets = [p for p in own if p.flags & RST]
    if rst.side != 0 and not any(p.flags & SYN for p in own):
        return ""
    syn = any(p.flags & SYN for p in own)
    plain = [p for p in own if not p.flags & (RST | SYN)]
    data = [p for p in plain if p.size]
    begins = "SYN" if syn and not plain else "PSH+ACK" if len(data) == 1 else "PSH+ACK; Data" if data else "SYN; ACK"
    kinds = ["RST+ACK" if p.flags & ACK else "RST" for p in resets]
    if len(resets) == 1:
        ends = kinds[0]
    elif set(kinds) == {"RST"} and begins.startswith("PSH"):
        acks = [p.raw_ack for p in resets]
        same = len(set(acks)) == 1
        ends = "RST = RST" if same else "RST; RST0" if 0 in acks else "RST ≠ RST"
    else:
        ends = "; ".join(kinds[:2]) if len(set(kinds)) == 1 else "RST; RST+ACK"
    return f"⟨{begins} → {ends}⟩"


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
    recent = [p for p in story.packets if p.ip_id][-24:]
    changes = [(a, b) for a, b in pairwise(recent) if a.side != b.side]
    near = sum(abs(b.ip_id - a.ip_id) <= 24 for a, b in changes if a.ip_id and b.ip_id)
    return len(changes) >= 4 and near >= len(changes) * 0.8
