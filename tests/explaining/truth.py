"""Holds what `explain` says of a capture against what the kernel and the programs know of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from faultkit.explaining.alike import ALIKE, alike, fits
from faultkit.explaining.diagnosis import HARMS, SURE, Diagnosis, ResetTold
from faultkit.explaining.flows import Packet
from faultkit.explaining.story import SIDES
from tests.explaining import rewriting
from tests.explaining.played import Played

# Roles that stand between the client and the server: each is an end of its own connections, and a middlebox of the others'.
_BETWEEN = ("balancer", "router", "path")


@dataclass(frozen=True)
class Reset:
    """One RST of a file: what was said of it, and its packet."""

    told: ResetTold
    packet: Packet
    source: str
    name: str  # of the side that its address is


def resets(found: list[Diagnosis]) -> list[Reset]:
    """Every RST that was told of, in the order of the file."""
    all_of_them = []
    for d in found:
        packets = {packet.number: packet for packet in d.connection.packets}
        for told in d.resets:
            packet = packets[told.number]
            source = d.connection.server if packet.side else d.connection.client
            all_of_them.append(Reset(told, packet, str(source), SIDES[packet.side]))
    return sorted(all_of_them, key=lambda reset: reset.told.number)


def senders(played: Played) -> dict[int, str]:
    """Who sent each RST, by its packet's number in the capture as it was made."""
    rsts = [frame.number for frame in rewriting.frames(played.capture) if frame.is_reset]
    return dict(zip(rsts, played.resets, strict=True))


def wrong_senders(played: Played, found: list[Diagnosis], truth: dict[int, str]) -> Iterator[str]:
    """Each RST of which something untrue was said. `truth`: who sent which, by the numbers of what was explained."""
    listed = resets(found)
    for reset in listed:
        by = truth.get(reset.told.number)
        if by is None:
            yield f"packet {reset.told.number} is no RST"
            continue
        right = _right(played, reset, by, listed)
        said = {reset.told.by} if reset.told.by else set(reset.told.between)
        if said and not said & right:
            yield f"packet {reset.told.number} was sent by {by}, said was {' or '.join(sorted(said))}: {reset.told.why}"


def _right(played: Played, reset: Reset, truth: str, listed: list[Reset]) -> set[str]:
    """What may be said of it."""
    role = played.roles.get(reset.source)
    right = {reset.name} if truth == role else {"middlebox"}
    if truth in _BETWEEN:
        right |= {reset.name, "middlebox"}
    # What a router passes on under another address was sent by whoever sent it to the router; no kernel event tells that.
    for other in listed:
        passed_on = other.packet.raw_seq == reset.packet.raw_seq and other.packet.ttl != reset.packet.ttl
        if truth == "middlebox" and passed_on and other.source == reset.source:
            right |= {other.name}
    return right


def chief(found: list[Diagnosis]) -> Diagnosis:
    """What is told first: the most harmful; of equals, what is most sure; then the first of the file."""
    return min(found, key=lambda d: (HARMS.index(d.harm), SURE.index(d.sure)))


def tellable(words: str) -> bool:
    """Can the variant be told from packets?"""
    return not any(group.holds(words) for group in ALIKE)


def is_first(played: Played, found: list[Diagnosis]) -> bool:
    """Is the cause the first of the most harmful end's?"""
    return chief(found).cause == played.cause


def is_among(played: Played, found: list[Diagnosis]) -> bool:
    """Is the cause named, or of those that cannot be told from the first that is?"""
    causes = chief(found).causes
    if not causes:
        return any(group.seen == "nothing" and group.holds(played.words) for group in ALIKE)
    return any(fits(cause.split()[0], played.cause) for cause in causes) or alike(causes[0], played.words)


def wrong_claims(played: Played, found: list[Diagnosis], senders: dict[int, str]) -> Iterator[str]:
    """What is said with certainty and is not so. `senders`: who sent which RST, by the numbers of what was explained."""
    yield from wrong_senders(played, found, senders)
    first = chief(found)
    if first.sure != "shown by the packets":
        return
    said = f"{first.end}, {first.harm}, {', '.join(first.causes) or first.plain}: {first.why}"
    if first.causes and not is_among(played, found):
        yield f"said to be shown: {said}"
    if first.harm == "failed" and not played.died:
        yield f"nothing died, and said to be shown: {said}"
