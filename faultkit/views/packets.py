"""The packets as Wireshark's packet list shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faultkit.evidence.segments import Segment, read
from faultkit.evidence.transcript import Packet
from faultkit.views import table
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("No.", "Time", "Source", "Destination", "Protocol", "Length", "Info")


def rows(packets: list[Packet], began_ns: int | None = None) -> list[tuple[str, ...]]:
    """One row for each packet, cell for cell what `tshark -r` prints for a file of nanoseconds (views/pcap.py).

    Times are in seconds since the first packet, as in Wireshark, or since `began_ns`.
    """
    if not packets:
        return []
    zero_ns = packets[0].time_ns if began_ns is None else began_ns
    return [_row(number, segment, zero_ns) for number, segment in enumerate(read(packets), 1)]


def show(console: Console, packets: list[Packet], began_ns: int | None = None) -> None:
    """The rows: in a pipe each is one line, to be pasted, and on a terminal no wider than that."""
    right = ("No.", "Time", "Length")
    columns = [Column(name, right=name in right, prose=name == "Info") for name in COLUMNS]
    table.show(console, columns, rows(packets, began_ns), gap=1, header=True)


def _row(number: int, segment: Segment, zero_ns: int) -> tuple[str, ...]:
    packet = segment.packet
    return (
        str(number),
        _seconds(packet.time_ns - zero_ns),
        packet.source.host,
        packet.destination.host,
        "MPTCP" if any(name == "opt30" for name, _ in packet.options) else "TCP",
        str(len(packet.frame)),
        info(segment),
    )


def _seconds(nanoseconds: int) -> str:
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{sign}{seconds}.{rest:09}"


def info(segment: Segment) -> str:
    """Wireshark's Info column."""
    packet = segment.packet
    labels = "".join(f"[TCP {label}] " for label in segment.labels)
    flags = ", ".join(packet.flags) or "<None>"
    parts = [f"{packet.source.port} → {packet.destination.port} [{flags}] Seq={segment.seq}"]
    if "ACK" in packet.flags:
        parts.append(f"Ack={segment.ack}")
    parts.append(f"Win={segment.window}")
    if "URG" in packet.flags:
        parts.append(f"Urg={_urgent(packet)}")
    parts.append(f"Len={packet.payload}")
    for name, value in packet.options:
        if name == "TS" and isinstance(value, tuple):
            parts.append(f"TSval={value[0]} TSecr={value[1]}")
        elif name == "SACK":
            edges = iter(segment.sack)
            parts.extend(f"SLE={left} SRE={right}" for left, right in zip(edges, edges, strict=True))
        elif name == "WS" and isinstance(value, int):
            parts.append(f"WS={1 << min(value, 14)}")
        elif name == "TFO":
            parts.append("TFO=C" if value else "TFO=R")
        elif name == "SACK_PERM":
            parts.append(name)
        elif name == "MSS":
            parts.append(f"MSS={value}")
    return labels + " ".join(parts)


def _urgent(packet: Packet) -> int:
    """The urgent pointer: behind Ethernet (14 bytes), an IP header (IPv4's says how long it is) and 18 bytes of TCP."""
    header = (packet.frame[14] & 0x0F) * 4 if packet.frame[12:14] == b"\x08\x00" else 40
    return int.from_bytes(packet.frame[14 + header + 18 : 14 + header + 20], "big")
