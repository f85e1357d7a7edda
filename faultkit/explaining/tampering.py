"""Signatures of tampering with a connection, as published: what of a client reaches a server before the RSTs, and which RSTs.

Raman et al., "Global, Passive Detection of Connection Tampering", SIGCOMM 2023, table 1. They are defined on the packets that
bear the client's address; here they are named for the other direction too, because an injector may have chosen it. A signature
is no proof: a client that gives up leaves some of them itself.
"""

from __future__ import annotations

from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import Story

_NOTHING = "∅"  # neither a RST nor anything else, though the connection is not over

# What came before -> which ends are signatures.
SIGNATURES: dict[str, tuple[str, ...]] = {
    "SYN": (_NOTHING, "RST", "RST+ACK", "RST; RST+ACK"),
    "SYN; ACK": (_NOTHING, "RST", "RST; RST", "RST+ACK", "RST+ACK; RST+ACK"),
    "PSH+ACK": (
        _NOTHING,
        "RST",
        "RST+ACK",
        "RST; RST+ACK",
        "RST+ACK; RST+ACK",
        "RST = RST",
        "RST ≠ RST",
        "RST; RST₀",
    ),
    "PSH+ACK; Data": ("RST", "RST+ACK"),
}


def signature(story: Story, side: int) -> str:
    """The signature that what bears the address of one side has; "" for none. Of a connection whose beginning is there."""
    own = story.sides[side].packets
    resets = [p for p in own if p.flags & RST]
    before = own[: own.index(resets[0])] if resets else own
    begins = _begins(before)
    if begins is None or any(p.flags & FIN for p in before):
        return ""
    ends = _ends(resets, data=begins.startswith("PSH"))
    return f"⟨{begins} → {ends}⟩" if ends in SIGNATURES[begins] else ""


def silent(story: Story) -> str:
    """The signature of a client of whom nothing came any more, though it owed the server an answer; "" for none."""
    found = signature(story, 0)
    own, server = story.sides[0].packets, story.sides[1].packets
    if _NOTHING not in found or not server or server[-1].number < own[-1].number:
        return ""
    last = own[-1]
    spoken = last.size or last.flags & SYN or not any(p.size for p in own)
    owed = server[-1].size or server[-1].flags & (SYN | FIN) or story.repeats(server[-1])
    return found if spoken and owed else ""


def _begins(before: list[Packet]) -> str | None:
    """How far the side had come; a segment that was sent again counts once."""
    if not any(p.flags & SYN for p in before):
        return None
    data = {p.seq for p in before if p.size and not p.flags & SYN}
    if len(data) > 1:
        return "PSH+ACK; Data"
    if data:
        return "PSH+ACK"
    return "SYN; ACK" if any(not p.flags & SYN for p in before) else "SYN"


def _ends(resets: list[Packet], *, data: bool) -> str:
    bare = [p for p in resets if not p.flags & ACK]
    if not resets:
        return _NOTHING
    if len(resets) == 1:
        return "RST" if bare else "RST+ACK"
    if not bare:
        return "RST+ACK; RST+ACK"
    if len(bare) < len(resets):
        return "RST; RST+ACK"
    if not data:
        return "RST; RST"
    # A RST without the flag has the field all the same.
    numbers = {p.raw_ack for p in bare}
    return "RST = RST" if len(numbers) == 1 else "RST; RST₀" if 0 in numbers else "RST ≠ RST"
