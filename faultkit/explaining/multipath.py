"""Resets of one path of a Multipath TCP connection, which says in its options why (RFC 8684 section 3.6)."""

from __future__ import annotations

from faultkit.explaining.diagnosis import Finding
from faultkit.explaining.flows import Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import sentence


def explain(story: Story, rst: Packet) -> Finding | None:
    bodies = [value for name, value in rst.options or () if name == "MPTCP" and isinstance(value, bytes) and value]
    subtypes = {body[0] >> 4: body for body in bodies}
    joins = any(
        isinstance(value, bytes) and value and value[0] >> 4 == 1
        for p in story.packets
        for name, value in p.options or ()
        if name == "MPTCP"
    )
    if 8 in subtypes:
        body = subtypes[8]
        why = {
            0: "unspecified",
            1: "MPTCP specific",
            2: "no resources",
            3: "prohibited",
            4: "too much data",
            5: "too slow",
            6: "a middlebox",
        }
        reason = why.get(body[1], str(body[1])) if len(body) > 1 else "none given"
        said = f"packet {rst.number} carries MP_TCPRST, reason {reason!r} (RFC 8684 section 3.6)"
    elif 7 in subtypes:
        said = f"packet {rst.number} carries MP_FASTCLOSE: the whole Multipath TCP connection is aborted (RFC 8684 section 3.5)"
    elif joins:
        said = f"packet {rst.number} resets a path that was to join a Multipath TCP connection"
    elif bodies:
        said = f"packet {rst.number} carries Multipath TCP options"
    else:
        return None
    return Finding(
        f"one path reset by the {SIDES[rst.side]}" if 7 not in subtypes else f"reset by the {SIDES[rst.side]}",
        "suspicious",
        ("mptcp",),
        "shown by the packets",
        sentence(said),
        by=SIDES[rst.side],
        tell="nstat -az 'MPTcpExt*' at both ends",
    )
