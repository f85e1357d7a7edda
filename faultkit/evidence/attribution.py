"""Who sent each RST, and why: read off the witnesses alone, never off the promise. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faultkit.evidence.reasons import REASONS
from faultkit.evidence.segments import form, mptcp_options
from faultkit.evidence.transcript import Packet, Reset, Transcript


@dataclass(frozen=True, slots=True)
class Attribution:
    """One reset: whose end it came from, the kernel's reason, and whether the kernel said so or it is inferred."""

    by: str
    reason: str  # "" where nothing tells
    inferred: bool
    sentences: str


def attribute(transcript: Transcript) -> list[Attribution]:
    """Every RST of the transcript, in order: from the packets if they were captured, else from the kernel's events."""
    if transcript.packets is None:
        if transcript.resets is None:
            return _told(transcript)
        return [_traced(reset, transcript) for reset in transcript.resets if reset.direction == "sent"]
    rsts = _captured(transcript)
    strange = [_strangeness(packet, transcript) for packet in rsts]
    events = paired(transcript)
    if transcript.resets is not None:
        forged = {number for number in range(len(rsts)) if number not in events}
        proof = "its kernel has no event of sending it"
    else:
        forged = _uncounted(strange, transcript)
        counted = (transcript.counters or {}).get("TcpOutRsts", 0)
        proof = f"{len(rsts)} RST passed and the kernel counted {counted} as its own (TcpOutRsts)"
    return [
        _forged(packet, strange[number], proof, transcript)
        if number in forged
        else _sent(packet, events.get(number), transcript)
        for number, packet in enumerate(rsts)
    ]


def _captured(transcript: Transcript) -> list[Packet]:
    return [packet for packet in transcript.packets or () if "RST" in packet.flags]


def paired(transcript: Transcript) -> dict[int, Reset]:
    """The kernel's event for each captured RST, by its place among them; one that has none was forged. None is paired where
    the wire or the trace is not whole.

    An active reset is traced after it was sent (tcp_send_active_reset()), so on loopback an answer to it can be traced
    before it: the order of the events is not that of the packets. But the reason says which form the packet has, and of
    those that fit it is the nearest in time that is like the sender's other packets.
    """
    rsts = _captured(transcript)
    strange = [_strangeness(packet, transcript) for packet in rsts]
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


def _strangeness(packet: Packet, transcript: Transcript) -> str:
    """How a RST differs from what its sender's kernel sends; "" where it does not."""
    others = {p.ttl for p in transcript.packets or () if p.source == packet.source and "RST" not in p.flags}
    odd = []
    if others and packet.ttl not in others:
        odd.append(f"its TTL is {packet.ttl}, that of the same sender's other packets {min(others)}")
    # ip_send_unicast_reply() sends an answer of the stack unfragmentable and unnumbered.
    if form(packet) == "stack" and packet.ip_id:
        odd.append(f"its IP ID is {packet.ip_id}, and Linux answers with 0")
    return "; ".join(odd)


def _uncounted(strange: Sequence[str], transcript: Transcript) -> set[int]:
    """Which RSTs the kernel did not send, by its counter alone; none where that does not tell."""
    if transcript.counters is None:
        return set()
    missing = len(strange) - transcript.counters.get("TcpOutRsts", 0)
    odd = {number for number, sign in enumerate(strange) if sign}
    if missing <= 0:
        return set()
    if missing == len(strange):
        return set(range(len(strange)))
    return odd if len(odd) == missing else set()


def _forged(packet: Packet, strange: str, proof: str, transcript: Transcript) -> Attribution:
    name = transcript.role(packet.source)
    signs = f" {strange[0].upper()}{strange[1:]}." if strange else ""
    return Attribution(
        "middlebox",
        "",
        True,
        f"The {name} did not send it: {proof}. A middlebox or a firewall made it, in its name.{signs}",
    )


def _told(transcript: Transcript) -> list[Attribution]:
    """Where nobody saw the RST itself: what the programs were told, and the counters. One for each socket that was told."""
    found: list[Attribution] = []
    sockets: set[tuple[str, int]] = set()
    roles = list(dict.fromkeys(transcript.roles.values()))
    counters = transcript.counters or {}
    moved = [name for name, reason in REASONS.items() if reason.counter and counters.get(reason.counter)]
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


def _sent(packet: Packet, event: Reset | None, transcript: Transcript) -> Attribution:
    by = transcript.role(packet.source)
    flags = ",".join(packet.flags)
    if form(packet) == "active":
        who = f"The {by}'s socket sent it: {flags} with window {packet.window}, the form of a socket that aborts."
    else:
        who = f"The {by}'s stack sent it, not a socket: {flags} with window 0 and no options, the form of an answer."
    if event:
        return Attribution(by, event.reason, False, f"{who} {_said(event)}")
    reason, clue = _inferred(packet, transcript)
    if not reason:
        return Attribution(by, "", True, f"{who} Which reason the kernel had cannot be told from here.")
    return Attribution(by, reason, True, f"{who} Inferred from {clue}: {REASONS[reason].meaning} ({reason}).")


def _listens(packet: Packet, transcript: Transcript) -> bool:
    """Did a socket of this run listen on the address that the packet came from?"""
    before = [call for call in transcript.calls if call.ended_ns < packet.time_ns and call.outcome == "ok"]
    bound = {(c.role, c.socket) for c in before if c.name == "bind" and c.argument == str(packet.source)}
    listening = {(c.role, c.socket) for c in before if c.name == "listen"}
    return bool(bound & listening - {(c.role, c.socket) for c in before if c.name == "close"})


def _inferred(packet: Packet, transcript: Transcript) -> tuple[str, str]:
    """The reason and the clue that gives it away; "" where several fit or none."""
    if any(name == "opt30" for name, _ in packet.options):
        return _of_mptcp(packet)
    counters, packets = transcript.counters or {}, transcript.packets or []
    if form(packet) == "stack" and "ACK" in packet.flags:
        if counters.get("TcpExtEmbryonicRsts"):
            return "INVALID_SYN", "TcpExtEmbryonicRsts"
        return "NO_SOCKET", "its answering a SYN"
    fitting = [
        name
        for name, reason in REASONS.items()
        if reason.form == form(packet) and reason.counter and counters.get(reason.counter)
    ]
    # Where it moved less often than there are RSTs of that form, some of them have another reason.
    alike = sum("RST" in other.flags and form(other) == form(packet) for other in packets)
    if len(fitting) == 1 and counters[REASONS[fitting[0]].counter] >= alike:
        return fitting[0], REASONS[fitting[0]].counter
    if fitting or form(packet) == "active":
        return "", ""
    before = packets[: packets.index(packet)]
    own = [
        p for p in before if (p.source, p.destination) == (packet.source, packet.destination) and "RST" not in p.flags
    ]
    if own and "SYN" in own[-1].flags and not _acknowledged(own[-1], before):
        return _of_handshake(packet, own[-1])
    fin = next((p for p in own if "FIN" in p.flags), None)
    if fin and packet.time_ns < fin.time_ns + _orphan_ns(fin, transcript):
        return "TCP_TIMEWAIT_SOCKET", "its own FIN before it"
    gone = "its own FIN before it, longer ago than the connection may wait" if fin else "there being no FIN before it"
    if _listens(packet, transcript):
        if counters.get("TcpExtEmbryonicRsts"):
            return "INVALID_SYN", "TcpExtEmbryonicRsts and its listening on that port"
        return "TCP_FLAGS", f"its listening on that port, and {gone}"
    return "NO_SOCKET", gone


def _of_mptcp(packet: Packet) -> tuple[str, str]:
    """MPTCP says why in the RST itself: option MP_TCPRST, subtype 8, whose second byte is the reason (RFC 8684 section 3.6).

    include/net/rstreason.h lists them in that order, from MPTCP_RST_EUNSPEC on.
    """
    names = [name for name in REASONS if name.startswith("MPTCP_")]
    codes = [body[1] for body in mptcp_options(packet) if body[0] >> 4 == 8 and body[1] < len(names)]
    return (names[codes[0]], "its own MP_TCPRST option") if codes else ("", "")


def _acknowledged(syn: Packet, packets: Sequence[Packet]) -> bool:
    after = (syn.seq + 1) & 0xFFFFFFFF
    return any("ACK" in p.flags and p.ack == after and p.source == syn.destination for p in packets)


def _of_handshake(packet: Packet, syn: Packet) -> tuple[str, str]:
    """An answer of an end whose SYN is not acknowledged yet: it takes its number from the acknowledgement that it refuses
    (RFC 9293 section 3.10.7.3), and that should have been the one after the SYN."""
    off = (packet.seq - syn.seq - 1) & 0xFFFFFFFF
    if "ACK" not in syn.flags:
        return "TCP_INVALID_ACK_SEQUENCE", "its own SYN before it, and a number that is not the next"
    if off >= 0x80000000:
        return "TCP_TOO_OLD_ACK", "its own SYN,ACK before it, and a number below"
    if off:
        return "TCP_ACK_UNSENT_DATA", "its own SYN,ACK before it, and a number beyond"
    return "", ""


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
