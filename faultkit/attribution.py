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
    return [_captured(packet, rsts, sent, transcript) for packet in rsts]


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


def _captured(packet: Packet, rsts: Sequence[Packet], sent: Sequence[Reset], transcript: Transcript) -> Attribution:
    by = transcript.role(packet.source)
    flags = ",".join(packet.flags)
    if form(packet) == "active":
        who = f"The {by}'s socket sent it: {flags} with window {packet.window}, the form of a socket that aborts."
    else:
        who = f"The {by}'s stack sent it, not a socket: {flags} with window 0 and no options, the form of an answer."
    # The event of a listening socket names no peer.
    events = [
        reset
        for reset in sent
        if reset.source == packet.source and (reset.destination == packet.destination or reset.destination.port == 0)
    ]
    if events:
        # The n-th RST of a direction is its n-th event.
        same = [p for p in rsts if (p.source, p.destination) == (packet.source, packet.destination)]
        event = events[min(same.index(packet), len(events) - 1)]
        return Attribution(by, event.reason, False, f"{who} {_said(event)}")
    counted = transcript.counters.get("TcpOutRsts", 0)
    if transcript.alone and not counted:
        return _forged(packet, by, "No kernel counted a reset (TcpOutRsts stands still)")
    if "reasons" not in transcript.absent:
        return _forged(packet, by, "No kernel sent a reset that way (tcp:tcp_send_reset)")
    if transcript.alone and form(packet) == "stack" and len(rsts) > counted:
        rest = f"{len(rsts)} resets were captured, and the kernels counted {counted} (TcpOutRsts): a firewall made the rest"
        return Attribution(by, "", True, f"{who} {rest}; which, the packets alone do not tell.")
    reason, clue = _inferred(packet, transcript)
    if not reason:
        return Attribution(by, "", True, f"{who} Which reason the kernel had cannot be told from here.")
    return Attribution(by, reason, True, f"{who} Inferred from {clue}: {REASONS[reason].meaning} ({reason}).")


def _forged(packet: Packet, by: str, proof: str) -> Attribution:
    flags = ",".join(packet.flags)
    return Attribution(
        by, "", True, f"{flags} with the {by}'s address. {proof}, so a firewall made it in the {by}'s name."
    )


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
    before = transcript.packets[: transcript.packets.index(packet)]
    if any("FIN" in p.flags and (p.source, p.destination) == (packet.source, packet.destination) for p in before):
        return "TCP_TIMEWAIT_SOCKET", "its own FIN before it"
    return "NO_SOCKET", "there being no FIN before it"
