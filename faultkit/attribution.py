"""Who sent each RST, and why: read off the witnesses alone, never off the promise. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faultkit.reasons import REASONS
from faultkit.segments import form
from faultkit.transcript import Packet, Reset, Transcript


@dataclass(frozen=True, slots=True)
class Attribution:
    """One reset: whose end it came from, the kernel's reason, and whether the kernel said so or it is inferred."""

    by: str
    reason: str  # "" where nothing tells
    inferred: bool
    sentences: str


def attribute(transcript: Transcript) -> list[Attribution]:
    """Every RST of the transcript, in order: from the packets if they were captured, else from the kernel's events."""
    sent = [reset for reset in transcript.resets if reset.direction == "sent"]
    if "wire" in transcript.absent:
        return (
            [_traced(reset, transcript) for reset in sent] if "reasons" not in transcript.absent else _told(transcript)
        )
    rsts = [packet for packet in transcript.packets if "RST" in packet.flags]
    return [_captured(packet, event, transcript) for packet, event in zip(rsts, paired(rsts, sent), strict=True)]


def paired(rsts: Sequence[Packet], sent: Sequence[Reset]) -> list[Reset | None]:
    """The kernel's event for each captured RST, None where it has none: a firewall's.

    An active reset is traced after it was sent (tcp_send_active_reset()), so on loopback an answer to it can be traced
    before it: the order of the events is not that of the packets. But the reason says which form the packet has.
    """
    left = list(sent)
    found: list[Reset | None] = []
    for packet in rsts:
        event = next((event for event in left if _fits(event, packet)), None)
        if event:
            left.remove(event)
        found.append(event)
    return found


def _fits(event: Reset, packet: Packet) -> bool:
    """A reset on behalf of a listening socket names no peer: its destination is port 0."""
    if event.source != packet.source or (event.destination.port and event.destination != packet.destination):
        return False
    return event.reason not in REASONS or REASONS[event.reason].form == form(packet)


def _told(transcript: Transcript) -> list[Attribution]:
    """Where nobody saw the RST itself: what the programs were told, and the counters. One for each socket that was told."""
    found: list[Attribution] = []
    sockets: set[tuple[str, int]] = set()
    roles = list(dict.fromkeys(transcript.roles.values()))
    moved = [name for name, reason in REASONS.items() if reason.counter and transcript.counters.get(reason.counter)]
    clues = " or ".join(REASONS[name].meaning for name in moved)
    why = f"{REASONS[moved[0]].counter} moved: {clues}." if moved else "No counter tells why."
    for call in transcript.calls:
        if call.outcome not in ("ECONNRESET", "ECONNREFUSED", "EPIPE") or (call.role, call.socket) in sockets:
            continue
        sockets.add((call.role, call.socket))
        by = next((role for role in roles if role != call.role), "peer") if len(roles) == 2 else "peer"
        reason = moved[0] if len(moved) == 1 else ""
        sent = "a RST, or an ICMP error" if call.outcome == "ECONNREFUSED" else "a RST"
        told = f"the {call.role}'s {call.name} gave {call.outcome}"
        sentences = f"No packet was seen, but {told}, so the {by}'s end sent {sent}. {why}"
        found.append(Attribution(by, reason, True, sentences))
    return found


def _traced(reset: Reset, transcript: Transcript) -> Attribution:
    by = transcript.role(reset.source)
    return Attribution(by, reset.reason, False, f"The {by}'s kernel sent it. {_said(reset)}")


def _said(reset: Reset) -> str:
    meaning = REASONS[reset.reason].meaning if reset.reason in REASONS else "a reason that this version does not know"
    where = f" in state {reset.state}" if reset.state else ""
    return f"The kernel's own reason is {reset.reason}{where}: {meaning}."


def _captured(packet: Packet, event: Reset | None, transcript: Transcript) -> Attribution:
    by = transcript.role(packet.source)
    flags = ",".join(packet.flags)
    if form(packet) == "active":
        who = f"The {by}'s socket sent it: {flags} with window {packet.window}, the form of a socket that aborts."
    else:
        who = f"The {by}'s stack sent it, not a socket: {flags} with window 0 and no options, the form of an answer."
    if event:
        return Attribution(by, event.reason, False, f"{who} {_said(event)}")
    if transcript.alone and not transcript.counters.get("TcpOutRsts"):
        return Attribution(
            by, "", True, f"{who} No kernel counted a reset (TcpOutRsts stands still), so a firewall made it."
        )
    reason, clue = _inferred(packet, transcript)
    if not reason:
        return Attribution(by, "", True, f"{who} Which reason the kernel had cannot be told from here.")
    return Attribution(by, reason, True, f"{who} Inferred from {clue}: {REASONS[reason].meaning} ({reason}).")


def _inferred(packet: Packet, transcript: Transcript) -> tuple[str, str]:
    """The reason and the clue that gives it away; "" where several fit or none."""
    if form(packet) == "stack" and "ACK" in packet.flags:
        return "NO_SOCKET", "its answering a SYN"
    fitting = [
        name
        for name, reason in REASONS.items()
        if reason.form == form(packet) and reason.counter and transcript.counters.get(reason.counter)
    ]
    if len(fitting) == 1:
        return fitting[0], REASONS[fitting[0]].counter
    if fitting or form(packet) == "active":
        return "", ""
    fin = next((p for p in transcript.packets if "FIN" in p.flags and _same_way(p, packet)), None)
    if fin and fin.time_ns < packet.time_ns < fin.time_ns + _orphan_ns(fin, transcript):
        return "TCP_TIMEWAIT_SOCKET", "its own FIN before it"
    gone = "its own FIN before it, longer ago than the connection may wait" if fin else "there being no FIN before it"
    if _listens(transcript.role(packet.source), packet.time_ns, transcript):
        return "TCP_FLAGS", f"{gone} and a listener on that side"
    return "NO_SOCKET", gone


def _same_way(one: Packet, other: Packet) -> bool:
    return (one.source, one.destination) == (other.source, other.destination)


def _orphan_ns(fin: Packet, transcript: Transcript) -> int:
    """How long the kernel keeps what is left of a closed connection: TCP_LINGER2, tcp_fin_timeout, else 60 s (tcp(7))."""
    role = transcript.role(fin.source)
    set_to = [step.text.split()[-1] for step in transcript.steps if step.text.startswith("net.ipv4.tcp_fin_timeout = ")]
    set_to += [
        call.argument.split()[-1]
        for call in transcript.calls
        if call.role == role and call.argument.startswith("TCP_LINGER2 ")
    ]
    return int(set_to[-1] if set_to else 60) * 10**9


def _listens(role: str, time_ns: int, transcript: Transcript) -> bool:
    """Has that end a listening socket at that time?"""
    listening = {}
    for call in transcript.calls:
        if call.role == role and call.ended_ns <= time_ns and call.name in ("listen", "close"):
            listening[call.socket] = call.told == "listen ok"
    return any(listening.values())
