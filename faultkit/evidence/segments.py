"""What each captured segment means in its connection, read as Wireshark reads it.

Pure. The rules are those of Wireshark's "TCP Analysis" (User's Guide, chapter 7.5; tcp_analyze_sequence_number() in
packet-tcp.c), the words are its words, and tests/views/test_packets.py holds them against tshark cell for cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from faultkit.evidence.transcript import Address, Packet

Mark = Literal[
    "",
    "keep-alive",
    "keep-alive ACK",
    "window probe",
    "window probe ACK",
    "retransmission",
    "out of order",
    "port reused",
    "zero window",
    "window full",
    "window update",
    "dup ACK",
    "gap before",
    "ACK of unseen",
]

# Wireshark's labels in the order in which it prints them, and the one word that each stands for here.
_MARKS: dict[str, Mark] = {
    "ZeroWindowProbeAck": "window probe ACK",
    "ZeroWindow": "zero window",
    "ZeroWindowProbe": "window probe",
    "Dup ACK": "dup ACK",
    "Keep-Alive ACK": "keep-alive ACK",
    "Keep-Alive": "keep-alive",
    "Window Full": "window full",
    "Window Update": "window update",
    "ACKed unseen segment": "ACK of unseen",
    "Previous segment not captured": "gap before",
    "Out-Of-Order": "out of order",
    "Spurious Retransmission": "retransmission",
    "Fast Retransmission": "retransmission",
    "Retransmission": "retransmission",
    "Port numbers reused": "port reused",
}

# Where a segment has several labels, the mark is the first of these: what was sent before what it says of the window.
_TELLING: tuple[Mark, ...] = (
    "window probe",
    "window probe ACK",
    "keep-alive",
    "keep-alive ACK",
    "retransmission",
    "out of order",
    "port reused",
    "zero window",
    "dup ACK",
    "window full",
    "window update",
    "gap before",
    "ACK of unseen",
)

_FAST = 20_000_000  # ns after the last duplicate ACK: a fast retransmission
_LATE = 3_000_000  # ns after the newest segment: out of order; the first round trip instead, where it was seen


@dataclass(frozen=True, slots=True)
class Segment:
    """A packet in its connection. Numbers are relative to the connection's start, each direction's own (0 is the SYN)."""

    packet: Packet
    seq: int
    ack: int  # 0 where there is no ACK flag
    window: int  # in bytes: scaled where the handshake was seen (RFC 7323 section 2.3)
    sack: tuple[int, ...]  # edges of the SACK blocks, relative: left, right, left, right
    labels: tuple[str, ...]  # all that Wireshark says: ("Retransmission",), ("Dup ACK 5#1",)
    mark: Mark  # the most telling of them in one word, spurious and fast retransmissions as "retransmission"


class _Flow:  # no dataclass: making one costs a millisecond at every start
    """One direction of a connection so far. As in Wireshark, 0 means that nothing was seen yet."""

    base: int | None = None  # the initial sequence number
    next: int = 0  # the sequence number after the highest one sent
    next_ns: int = 0
    contiguous: int = 0  # the same without gaps
    ack: int = 0
    ack_ns: int = 0
    acked_in: int = 0  # the packet that first carried `ack`
    repeats: int = 0  # duplicates of it since; -1 where it acknowledged the unseen
    window: int = -1  # as sent; -1: none yet
    scale: int | None = None  # shift; None: unknown, -1: not used (not offered by both ends)
    unscaled: bool = False  # only a SYN was sent so far, whose window is never scaled
    labels: frozenset[str] = frozenset()  # of the last segment


class _Connection:
    syn_ns: int = 0
    round_trip_ns: int = 0  # from the SYN to the first ACK of either end

    def __init__(self, *ends: Address) -> None:
        self.flows = {end: _Flow() for end in ends}


def read(packets: list[Packet]) -> list[Segment]:
    """The segments of any number of connections, in the order of the packets."""
    connections: dict[frozenset[Address], _Connection] = {}
    return [_segment(number, packet, connections) for number, packet in enumerate(packets, 1)]


def is_pure_ack(segment: Segment) -> bool:
    """An acknowledgment and nothing else: no data, no SYN, FIN or RST, and not a probe that asks for an answer."""
    packet = segment.packet
    return (
        packet.payload == 0
        and "ACK" in packet.flags
        and not {"SYN", "FIN", "RST"} & set(packet.flags)
        and segment.mark not in ("keep-alive", "window probe")
    )


def form(packet: Packet) -> Literal["active", "stack"]:
    """Who made this RST: a socket that aborts ("active"), or the stack answering a segment for which it has none.

    tcp_send_active_reset() fills in the socket's window and options; tcp_v4_send_reset() has no socket to take them from:
    window 0, no option, IP id 0, and an ACK flag only in answer to a segment without one (RFC 9293 section 3.10.7.1).
    A firewall's REJECT (nf_send_reset) looks like the stack's.
    """
    if "RST" not in packet.flags:
        raise ValueError(f"form: {packet.source} sent [{', '.join(packet.flags)}], which is no RST")
    told = [
        name for name, _ in packet.options if name != "opt30"
    ]  # MPTCP puts its own reason there (RFC 8684 section 3.6)
    return "active" if packet.window or told else "stack"


def mptcp_options(packet: Packet) -> list[bytes]:
    """The bodies of the packet's MPTCP options (RFC 8684 section 3), from its frame: Ethernet, IP, TCP."""
    start = 14 + (40 if ":" in packet.source.host else (packet.frame[14] & 0x0F) * 4)
    options = packet.frame[start + 20 : start + (packet.frame[start + 12] >> 4) * 4]
    found = []
    while options and options[0]:
        size = 1 if options[0] == 1 else options[1]
        if options[0] == 30:
            found.append(options[2:size])
        options = options[size:]
    return found


def _segment(number: int, packet: Packet, connections: dict[frozenset[Address], _Connection]) -> Segment:
    connection, reused = _connection(packet, connections)
    forward, back = connection.flows[packet.source], connection.flows[packet.destination]
    labels = _labels(number, packet, forward, back, connection)
    if reused:
        labels.add("Port numbers reused")
    marks = {_MARKS[label] for label in labels}
    # Linux probes a closed window with an empty segment below the next number (tcp_xmit_probe_skb()), and a silent peer
    # with the same: only the window that the other end has told tells one from the other. Wireshark does not look.
    if "keep-alive" in marks and back.window == 0:
        marks = {"window probe"}
    there = back.base or 0
    segment = Segment(
        packet=packet,
        seq=_wrap(packet.seq - (forward.base or 0)),
        ack=_wrap(packet.ack - there) if "ACK" in packet.flags else 0,
        window=packet.window if "SYN" in packet.flags else packet.window << max(forward.scale or 0, 0),
        sack=tuple(_wrap(edge - there) for edge in _edges(packet)),
        labels=tuple(
            f"Dup ACK {forward.acked_in}#{forward.repeats}" if label == "Dup ACK" else label
            for label in _MARKS
            if label in labels
        ),
        mark=next((mark for mark in _TELLING if mark in marks), ""),
    )
    _remember(packet, forward, labels)
    _note_handshake(packet, forward, back, connection)
    return segment


def _connection(packet: Packet, connections: dict[frozenset[Address], _Connection]) -> tuple[_Connection, bool]:
    """The packet's connection, and whether the packet uses an older one's addresses again."""
    ends = frozenset((packet.source, packet.destination))
    reused = False
    if ends in connections and "SYN" in packet.flags:
        sender = connections[ends].flows[packet.source]
        if sender.base not in (None, packet.seq):
            reused = True
            if "ACK" in packet.flags:  # its SYN was taken for an old one's retransmission, so nothing was begun
                sender.base = packet.seq
            else:
                del connections[ends]
        elif sender.base is not None and "ACK" not in packet.flags:
            sender.next = sender.contiguous  # a reset may have carried a number from elsewhere (RFC 9293 section 3.5.2)
    if ends not in connections:
        connections[ends] = _Connection(packet.source, packet.destination)
    connection = connections[ends]
    forward, back = connection.flows[packet.source], connection.flows[packet.destination]
    if forward.base is None:  # without its SYN a direction begins at 1
        forward.base = packet.seq if "SYN" in packet.flags else _wrap(packet.seq - 1)
    if back.base is None and "ACK" in packet.flags:
        back.base = _wrap(packet.ack - 1)
    return connection, reused


def _wrap(number: int) -> int:
    return number & 0xFFFFFFFF


def _beyond(number: int, other: int) -> bool:
    """number > other in the circle of sequence numbers (RFC 9293 section 3.4)."""
    return 0 < _wrap(number - other) < 0x80000000


def _after(packet: Packet) -> int:
    """The sequence number after the packet. Wireshark counts 1 for SYN and FIN, even together."""
    return _wrap(packet.seq + packet.payload + (1 if {"SYN", "FIN"} & set(packet.flags) else 0))


def _value(packet: Packet, option: str) -> int | tuple[int, ...] | None:
    return next((value for name, value in packet.options if name == option), None)


def _edges(packet: Packet) -> tuple[int, ...]:
    edges = _value(packet, "SACK")
    return edges if isinstance(edges, tuple) else ()


def _labels(number: int, packet: Packet, forward: _Flow, back: _Flow, connection: _Connection) -> set[str]:
    """Wireshark's labels, but for the reused port; counts the duplicate ACKs."""
    labels: set[str] = set()
    control = bool({"SYN", "FIN", "RST"} & set(packet.flags))
    in_order = packet.seq == forward.next
    repeats = in_order and not packet.payload and not control and packet.ack == forward.ack

    if packet.payload == 1 and in_order and back.window == 0:
        labels.add("ZeroWindowProbe")
    else:
        if packet.window == 0 and not control:
            labels.add("ZeroWindow")
        if forward.next and _beyond(packet.seq, forward.next) and "RST" not in packet.flags:
            labels.add("Previous segment not captured")
        if packet.payload <= 1 and packet.seq == _wrap(forward.next - 1) and not control:
            labels.add("Keep-Alive")
        if repeats and packet.window and packet.window != forward.window:
            labels.add("Window Update")
        if packet.payload and not control and back.scale is not None:
            shift = 0 if back.unscaled else max(back.scale, 0)
            if _wrap(packet.seq + packet.payload) == _wrap(back.ack + (back.window << shift)):
                labels.add("Window Full")
        if repeats and packet.window == forward.window:
            if packet.window and "Keep-Alive" in back.labels:
                labels.add("Keep-Alive ACK")
            elif not packet.window and "ZeroWindowProbe" in back.labels:
                labels.add("ZeroWindowProbeAck")
            elif packet.window:
                forward.repeats = max(forward.repeats, 0) + 1
                labels.add("Dup ACK")

    if packet.ack != forward.ack:
        forward.acked_in, forward.repeats = number, 0
    if back.contiguous and "ACK" in packet.flags and _beyond(packet.ack, back.contiguous):
        if _beyond(back.next, back.contiguous):
            back.contiguous = back.next
            labels.add("ACKed unseen segment")
        else:  # said once, until the other end moves on
            if back.repeats == 0:
                labels.add("ACKed unseen segment")
            back.repeats = -1
    if (packet.payload or {"SYN", "FIN"} & set(packet.flags)) and "Keep-Alive" not in labels:
        again = _again(packet, forward, back, connection)
        if again:
            labels.add(again)
    return labels


def _again(packet: Packet, forward: _Flow, back: _Flow, connection: _Connection) -> str:
    """The label of something that was sent before, or "" for new data."""
    if packet.payload and back.ack and not _beyond(packet.seq + packet.payload, back.ack):
        return "Spurious Retransmission"
    old = forward.next and _beyond(forward.next, packet.seq)
    # One old byte and new data behind it: what follows a probe of the window.
    if not old or (packet.payload > 1 and packet.seq == _wrap(forward.next - 1)):
        return ""
    # -1 counts as many here: Wireshark's number has no sign.
    if back.repeats not in (0, 1) and back.ack == packet.seq and 0 <= packet.time_ns - back.ack_ns < _FAST:
        return "Fast Retransmission"
    if 0 <= packet.time_ns - forward.next_ns < (connection.round_trip_ns or _LATE) and forward.next != _after(packet):
        return "Out-Of-Order"
    return "Retransmission"


def _remember(packet: Packet, forward: _Flow, labels: set[str]) -> None:
    after = _after(packet)
    probe = "ZeroWindowProbe" in labels
    if (not forward.next or _beyond(after, forward.next)) and not probe:
        forward.next, forward.next_ns = after, packet.time_ns
    if (not forward.contiguous or packet.seq == forward.contiguous) and not probe:
        forward.contiguous = forward.next
    forward.window = packet.window
    forward.ack, forward.ack_ns = packet.ack, packet.time_ns
    forward.labels = frozenset(labels)


def _note_handshake(packet: Packet, forward: _Flow, back: _Flow, connection: _Connection) -> None:
    """Window scaling and the first round trip, as they stand after this packet."""
    if "SYN" in packet.flags:
        scale = _value(packet, "WS")
        if isinstance(scale, int):
            forward.scale = min(scale, 14)  # RFC 7323 section 2.3
        if forward.scale is None:
            forward.scale = back.scale = -1
        elif "ACK" in packet.flags and back.scale == -1:
            forward.scale = -1
        forward.unscaled = True
        if "ACK" not in packet.flags:
            connection.syn_ns = packet.time_ns
    elif "ACK" in packet.flags:
        forward.unscaled = False
        if connection.syn_ns and not connection.round_trip_ns:
            connection.round_trip_ns = packet.time_ns - connection.syn_ns
