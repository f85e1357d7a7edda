"""Who sent each RST, and why: read off the witnesses alone, never off the promise. Pure.

Where the kernel says it (`paired`), that is the answer. Where it does not, everything that the packets allow is taken
(`by_packets`), what the programs did (`by_calls`) and what the kernels counted (`by_counters`) leaves some of it out, and
what is then left is said: one, or one of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faultkit.evidence import by_calls, by_counters
from faultkit.evidence.by_packets import MIDDLEBOX, Explanation, explanations
from faultkit.evidence.reasons import REASONS
from faultkit.evidence.segments import form
from faultkit.evidence.standing import standing
from faultkit.evidence.transcript import Call, Packet, Reset, Transcript

_NONE: Mapping[int, Reset] = {}


@dataclass(frozen=True, slots=True)
class Attribution:
    """One reset: whose end it came from, the kernel's reason, and whether the kernel said so or it is inferred.

    `by` is a role, "middlebox" where no end sent it, or several with "or" between them where that cannot be told.
    `one_of` has all that it may be, each as (by, reason): one pair where it is known.
    """

    by: str
    reason: str  # "" where no kernel sent it, and where several fit
    inferred: bool
    sentences: str
    one_of: tuple[tuple[str, str], ...]
    rests_on: tuple[str, ...] = ()  # what it is inferred from


def attribute(transcript: Transcript) -> list[Attribution]:
    """Every RST of the transcript, in order: from the packets if they were captured, else from the kernel's events."""
    if transcript.packets is None:
        if transcript.resets is None:
            return _told(transcript)
        return [_traced(reset, transcript) for reset in transcript.resets if reset.direction == "sent"]
    rsts = captured(transcript)
    if transcript.resets is None:
        return _inferred(rsts, transcript)
    events = paired(transcript)
    inferred = _inferred(rsts, transcript, events) if len(events) < len(rsts) else []
    return [
        _said_of(packet, events[number], transcript)
        if number in events
        else _forged(packet, "its kernel has no event of sending it", transcript)
        if MIDDLEBOX in inferred[number].by
        else inferred[number]  # the trace has lost one that the kernel has counted
        for number, packet in enumerate(rsts)
    ]


def captured(transcript: Transcript) -> list[Packet]:
    """Every RST that was captured, each once: a router's forwarded copy is no second one."""
    found: list[Packet] = []
    for packet in transcript.packets or ():
        if "RST" in packet.flags and not any(forwarded(packet, earlier) for earlier in found):
            found.append(packet)
    return found


def forwarded(packet: Packet, earlier: Packet) -> bool:
    """The same segment one router further: all of TCP's is as it was, the TTL is one less, and NAT changes one address."""
    return (
        packet.ttl == earlier.ttl - 1
        and (packet.seq, packet.ack, packet.flags, packet.window, packet.options, packet.ip_id)
        == (earlier.seq, earlier.ack, earlier.flags, earlier.window, earlier.options, earlier.ip_id)
        and (packet.source == earlier.source or packet.destination == earlier.destination)
    )


def paired(transcript: Transcript) -> dict[int, Reset]:
    """The kernel's event for each captured RST, by its place among them; one that has none was forged.

    None is paired where the wire or the trace is not whole: what is lost would leave its event to another.

    An active reset is traced after it was sent (tcp_send_active_reset()), so on loopback an answer to it can be traced
    before it: the order of the events is not that of the packets. But the reason says which form the packet has, and of
    those that fit it is the nearest in time that is like the sender's other packets.
    """
    rsts = captured(transcript)
    strange = [strangeness(packet, transcript) for packet in rsts]
    found: dict[int, Reset] = {}
    for event in transcript.resets or ():
        if event.direction == "sent":
            fitting = [number for number, rst in enumerate(rsts) if number not in found and _fits(event, rst)]
            if fitting:
                nearest = min((bool(strange[n]), abs(rsts[n].time_ns - event.time_ns), n) for n in fitting)[-1]
                found[nearest] = event
    return found


def _fits(event: Reset, packet: Packet) -> bool:
    """A reset on behalf of a listening socket names no peer: its destination is port 0."""
    if event.source != packet.source or (event.destination.port and event.destination != packet.destination):
        return False
    return event.reason not in REASONS or REASONS[event.reason].form == form(packet)


def strangeness(packet: Packet, transcript: Transcript) -> str:
    """How a RST differs from what its sender's kernel sends; "" where it does not."""
    others = {p.ttl for p in transcript.packets or () if p.source == packet.source and "RST" not in p.flags}
    odd = []
    if others and packet.ttl not in others:
        odd.append(f"its TTL is {packet.ttl}, that of the same sender's other packets {min(others)}")
    # ip_send_unicast_reply() sends an answer of the stack unfragmentable and unnumbered.
    if form(packet) == "stack" and packet.ip_id:
        odd.append(f"its IP ID is {packet.ip_id}, and Linux answers with 0")
    return "; ".join(odd)


def _inferred(rsts: Sequence[Packet], transcript: Transcript, events: Mapping[int, Reset] = _NONE) -> list[Attribution]:
    """Without the kernel's account, or with the events that it has of some."""
    allowed: list[list[Explanation]] = []
    clues: list[list[str]] = []
    for number, rst in enumerate(rsts):
        if number in events:
            reason = events[number].reason
            counter = REASONS[reason].counter if reason in REASONS else ""
            by = transcript.role(rst.source)
            allowed.append([Explanation(by, reason, moves) for moves in dict.fromkeys((counter, ""))])
            clues.append([])
            continue
        between = [p for p in transcript.packets or () if {p.source, p.destination} == {rst.source, rst.destination}]
        stood = standing(rst, between)
        by_form = explanations(rst, transcript.role(rst.source), stood, by_calls.waiting(rst, transcript))
        kept, why = by_calls.left(by_form, rst, stood, transcript)
        allowed.append(kept)
        clues.append(why)
    return [
        _concluded(rst, *_narrowed(rst, before, after, why, transcript), transcript)
        for rst, before, after, why in zip(
            rsts, allowed, by_counters.left(allowed, rsts, transcript), clues, strict=True
        )
    ]


def _narrowed(
    rst: Packet, before: list[Explanation], left: list[Explanation], clues: list[str], transcript: Transcript
) -> tuple[list[Explanation], list[str]]:
    """What the counters left of it, less a middlebox where there is none; and all the clues."""
    own = [one for one in left if one.by != MIDDLEBOX]
    counted = [one.moves for one in own if one.moves] or [by_counters.SENT] * (len(left) < len(before))
    clues = [*dict.fromkeys((*counted, *(one.clue for one in left if one.clue), *clues))]
    if own and len(own) < len(left) and transcript.resets is None and not by_calls.may_be_forged(rst, transcript):
        return own, [*clues, by_calls.NO_FORGER]
    return left, clues


def _concluded(rst: Packet, left: Sequence[Explanation], clues: Sequence[str], transcript: Transcript) -> Attribution:
    """What is said of a RST that all of these explain."""
    named = tuple(dict.fromkeys(one.named for one in left))
    if named == ((MIDDLEBOX, ""),):
        return _forged(rst, _proof(rst, clues, transcript), transcript, tuple(clues))
    if len(named) == 1:
        by, reason = named[0]
        why = f"Inferred from {_listed(clues) or 'its form'}: {REASONS[reason].meaning} ({reason})."
        return Attribution(by, reason, True, f"{_form(rst, by)} {why}", named, tuple(clues))
    return _open(f"{_flags(rst)} came from {rst.source}.", named, clues)


def _proof(rst: Packet, clues: Sequence[str], transcript: Transcript) -> str:
    """Why its sender's kernel cannot have sent it. A counter is named only where that very kernel's was read."""
    if by_counters.SENT not in clues:
        return f"that follows from {_listed(clues) or 'the IP ID, which an answer of Linux does not have'}"
    name, counted = transcript.role(rst.source), by_counters.sent(rst, transcript)
    passed = len([other for other in captured(transcript) if by_counters.place(other, transcript) == counted[0]])
    where = f"the {name}'s own kernel" if counted[0] else "the kernel"
    return f"{passed} RST passed in its name and {where} counted {counted[1]} as its own (TcpOutRsts)"


def _open(seen: str, named: tuple[tuple[str, str], ...], clues: Sequence[str]) -> Attribution:
    """What cannot be told, and between which."""
    senders, reasons = (list(dict.fromkeys(pair[n] for pair in named)) for n in (0, 1))
    ways = [f"the {by} ({reason}: {REASONS[reason].meaning})" if reason else f"the {by}" for by, reason in named]
    told = f" {_listed(clues)[0].upper()}{_listed(clues)[1:]} leave no more than that." if clues else ""
    sentences = f"{seen} Who sent it and why cannot be told from here; it is one of: {'; '.join(ways)}.{told}"
    return Attribution(
        " or ".join(senders), reasons[0] if len(reasons) == 1 else "", True, sentences, named, tuple(clues)
    )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def _flags(packet: Packet) -> str:
    if form(packet) == "active":
        return f"{','.join(packet.flags)} with window {packet.window}, the form of a socket that aborts,"
    return f"{','.join(packet.flags)} with window 0 and no options, the form of an answer,"


def _form(packet: Packet, by: str) -> str:
    who = f"The {by}'s socket sent it" if form(packet) == "active" else f"The {by}'s stack sent it, not a socket"
    return f"{who}: {_flags(packet).rstrip(',')}."


def _forged(packet: Packet, proof: str, transcript: Transcript, clues: tuple[str, ...] = ()) -> Attribution:
    name, strange = transcript.role(packet.source), strangeness(packet, transcript)
    signs = f" {strange[0].upper()}{strange[1:]}." if strange else ""
    sentences = f"The {name} did not send it: {proof}. A middlebox or a firewall made it, in its name.{signs}"
    return Attribution(MIDDLEBOX, "", True, sentences, ((MIDDLEBOX, ""),), clues)


def _told(transcript: Transcript) -> list[Attribution]:
    """Where nobody saw the RST itself: what the programs were told, and TcpOutRsts. One for each socket that was told."""
    told = _first_told(transcript)
    sent = transcript.counted.get(by_counters.SENT, 0)
    found = []
    for call in told:
        ends = transcript.connections.get((call.role, call.socket), frozenset())
        others = [role for role in dict.fromkeys(transcript.roles.values()) if role != call.role]
        peers = [role for role in map(transcript.role, ends) if role in others] or others
        by = peers[0] if len(peers) == 1 else "peer"
        what = "a RST, or an ICMP error," if call.outcome == "ECONNREFUSED" else "a RST"
        seen = f"No packet was seen, but the {call.role}'s {call.name} gave {call.outcome}, so {what} came in the {by}'s name."
        # What the counters count may be the answer to data that met an end which a forged RST had closed.
        forged = by_calls.forges(transcript, call.ended_ns)
        if transcript.counters is not None and 0 < sent <= len(told) and not forged:
            text = (
                f"{seen} TcpOutRsts moved by {sent}, so a kernel sent it. Which reason it had cannot be told from here."
            )
            found.append(Attribution(by, "", True, text, ((by, ""),), (by_counters.SENT,)))
        elif sent:
            found.append(_open(seen, ((by, ""), (MIDDLEBOX, "")), (by_counters.SENT,)))
        else:
            text = f"{seen} TcpOutRsts stood still: no kernel here sent it, but a middlebox or a firewall."
            found.append(Attribution(MIDDLEBOX, "", True, text, ((MIDDLEBOX, ""),), (by_counters.SENT,)))
    return found


def _first_told(transcript: Transcript) -> list[Call]:
    """For each socket the call that was told of a RST from outside first: what its own program has ended tells of none."""
    ended: set[tuple[str, int]] = set()
    shut: set[tuple[str, int]] = set()
    found = []
    for call in transcript.calls:
        key = call.role, call.socket
        if key in ended or (key in shut and call.outcome == "EPIPE"):
            continue
        if call.outcome in ("ECONNRESET", "ECONNREFUSED", "EPIPE"):
            found.append(call)
        if call.name in ("disconnect", "close") or (call.outcome[:1] == "E" and call.outcome != "EOF"):
            ended.add(key)
        if call.name == "shutdown":
            shut.add(key)
    return found


def _traced(reset: Reset, transcript: Transcript) -> Attribution:
    by = transcript.role(reset.source)
    return Attribution(by, reset.reason, False, f"The {by}'s kernel sent it. {_said(reset)}", ((by, reset.reason),))


def _said_of(packet: Packet, event: Reset, transcript: Transcript) -> Attribution:
    by = transcript.role(packet.source)
    return Attribution(by, event.reason, False, f"{_form(packet, by)} {_said(event)}", ((by, event.reason),))


def _said(reset: Reset) -> str:
    meaning = REASONS[reset.reason].meaning if reset.reason in REASONS else "a reason that this version does not know"
    where = f" in state {reset.state}" if reset.state else ""
    return f"The kernel's own reason is {reset.reason}{where}: {meaning}."
