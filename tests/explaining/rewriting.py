"""The same packets in other files: less of them, twice, under other headers, in other formats, and as rows of text."""

from __future__ import annotations

import gzip
import json
import random
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

_ETHERNET, _RAW, _SLL2 = 1, 101, 276  # LINKTYPE_ values (pcap-linktype(7))
_NANOSECONDS = 0xA1B23C4D


@dataclass(frozen=True)
class Frame:
    """One packet of a file. `number` is its number in the capture as it was made."""

    number: int
    time_ns: int
    data: bytes
    length: int  # on the wire

    @property
    def segment(self) -> bytes:
        """TCP's header and what follows it."""
        packet = self.data[14:]
        return packet[(packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40 :]

    @property
    def is_reset(self) -> bool:
        """Has it the RST flag?"""
        return bool(self.segment[13] & 4)

    @property
    def ends(self) -> tuple[bytes, bytes]:
        """Its sender's and its receiver's address and port."""
        packet = self.data[14:]
        size, addresses = (4, 12) if packet[0] >> 4 == 4 else (16, 8)
        ports = self.segment[:4]
        source, destination = packet[addresses : addresses + size], packet[addresses + size : addresses + 2 * size]
        return source + ports[:2], destination + ports[2:]


def frames(capture: bytes) -> list[Frame]:
    """The packets of a file as faultkit writes it: pcap, nanoseconds, Ethernet."""
    found: list[Frame] = []
    at = 24
    while at < len(capture):
        seconds, nanoseconds, size, length = struct.unpack_from("<IIII", capture, at)
        data = capture[at + 16 : at + 16 + size]
        found.append(Frame(len(found) + 1, seconds * 10**9 + nanoseconds, data, length))
        at += 16 + size
    return found


def pcap(packets: Sequence[Frame], link: int = _ETHERNET) -> bytes:
    """A pcap file, little-endian, with nanoseconds."""
    head = struct.pack("<IHHiIII", _NANOSECONDS, 2, 4, 0, 0, 262144, link)
    return head + b"".join(
        struct.pack("<IIII", *divmod(packet.time_ns, 10**9), len(packet.data), packet.length) + packet.data
        for packet in packets
    )


def pcapng(packets: Sequence[Frame]) -> bytes:
    """A pcapng file, big-endian, with if_tsresol 9 (draft-ietf-opsawg-pcapng)."""
    section = _block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack(">HHB3xHH", 9, 1, 9, 0, 0)
    interface = _block(1, struct.pack(">HHI", _ETHERNET, 0, 262144) + options)
    return (
        section
        + interface
        + b"".join(
            _block(6, struct.pack(">IQII", 0, packet.time_ns, len(packet.data), packet.length) + packet.data)
            for packet in packets
        )
    )


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(">II", kind, len(body) + 12) + body + struct.pack(">I", len(body) + 12)


def one_side(packets: list[Frame], side: int) -> list[Frame]:
    """What one side of each connection sent: side 0 is that of its first packet."""
    first: dict[frozenset[bytes], bytes] = {}
    kept = []
    for packet in packets:
        source, destination = packet.ends
        opener = first.setdefault(frozenset((source, destination)), source)
        if (source == opener) == (side == 0):
            kept.append(packet)
    return kept


def _cut(packet: Frame, size: int) -> Frame:
    return Frame(packet.number, packet.time_ns, packet.data[:size], packet.length)


def doubled(packets: list[Frame]) -> list[Frame]:
    """Every packet twice, as a mirror shows it: the copy 20 µs later."""
    return [
        Frame(packet.number, packet.time_ns + copy * 20_000, packet.data, packet.length)
        for packet in packets
        for copy in (0, 1)
    ]


def _lost(packets: list[Frame]) -> list[Frame]:
    chance = random.Random(len(packets))
    return [packet for packet in packets if chance.random() > 0.2]


def _swapped(packets: list[Frame]) -> list[Frame]:
    swapped = list(packets)
    for place in range(0, len(packets) - 1, 3):
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
    return swapped


def _jumping(packets: list[Frame]) -> list[Frame]:
    chance = random.Random(len(packets))
    return [
        Frame(packet.number, packet.time_ns + chance.randint(-50, 50) * 10**6, packet.data, packet.length)
        for packet in packets
    ]


def _wrapped(packets: list[Frame], head: Callable[[Frame], bytes], left: int) -> list[Frame]:
    """Under another header, in place of the first `left` bytes."""
    changed = []
    for packet in packets:
        data = head(packet) + packet.data[left:]
        changed.append(Frame(packet.number, packet.time_ns, data, packet.length + len(data) - len(packet.data)))
    return changed


def _sll2(packet: Frame) -> bytes:
    return packet.data[12:14] + struct.pack(">HIHBB8s", 0, 1, 1, 0, 6, bytes(8))


def _vlan(packet: Frame) -> bytes:
    return packet.data[:12] + struct.pack(">HH", 0x8100, 42)


# What tells as much as the capture did, and what tells less. Each gives the file and its packets in their order.
File = tuple[bytes, list[Frame]]
SAME: dict[str, Callable[[list[Frame]], File]] = {
    "SLL2": lambda packets: (pcap(_wrapped(packets, _sll2, 14), _SLL2), packets),
    "raw IP": lambda packets: (pcap(_wrapped(packets, lambda _: b"", 14), _RAW), packets),
    "VLAN": lambda packets: (pcap(_wrapped(packets, _vlan, 12)), packets),
    "pcapng": lambda packets: (pcapng(packets), packets),
    "gzip": lambda packets: (gzip.compress(pcap(packets), 1), packets),
    "zstd": lambda packets: (zstandard.compress(pcap(packets)), packets),
}
LESS: dict[str, Callable[[list[Frame]], File]] = {
    "one side, the first to speak": lambda packets: (pcap(one := one_side(packets, 0)), one),
    "one side, the other": lambda packets: (pcap(one := one_side(packets, 1)), one),
    "68 bytes of each packet": lambda packets: (pcap([_cut(packet, 68) for packet in packets]), packets),
    "every packet twice": lambda packets: (pcap(doubled(packets)), doubled(packets)),
    "a fifth of the packets lost": lambda packets: (pcap(lost := _lost(packets)), lost),
    "every RST lost": lambda packets: (pcap(kept := [p for p in packets if not p.is_reset]), kept),
    "neighbours swapped": lambda packets: (pcap(swapped := _swapped(packets)), swapped),
    "a clock that jumps by 50 ms": lambda packets: (pcap(_jumping(packets)), packets),
    "the second half": lambda packets: (pcap(packets[len(packets) // 2 :]), packets[len(packets) // 2 :]),
}

# How a program prints the packets of a file. Those of tshark number them; tcpdump's are numbered as they come.
TCPDUMP = {
    "tcpdump -nn": (),
    "tcpdump -v": ("-v",),
    "tcpdump -S -e": ("-S", "-e"),
    "tcpdump -tttt": ("-tttt",),
    "tcpdump -t": ("-t",),
}
_FIELDS = (
    "frame.number frame.time_epoch ip.src ip.dst ipv6.src ipv6.dst tcp.srcport tcp.dstport tcp.flags tcp.seq tcp.ack "
    "tcp.len tcp.window_size_value ip.ttl ip.id"
)
TSHARK = {
    "tshark": (),
    "tshark -T json": ("-T", "json"),
    "tshark -T ek": ("-T", "ek"),
    "tshark -T fields": ("-T", "fields", "-E", "header=y", *(word for f in _FIELDS.split() for word in ("-e", f))),
}
FORMS = (*TCPDUMP, *TSHARK)


def texts(form: str, captures: list[list[Frame]]) -> list[bytes]:
    """What the program prints of each capture. It runs once, on all of them in one file: it takes long to start."""
    together: list[Frame] = []
    for packets in captures:
        later = together[-1].time_ns + 10**9 - packets[0].time_ns if together else 0
        together += [Frame(packet.number, packet.time_ns + later, packet.data, packet.length) for packet in packets]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/all.pcap"
        Path(path).write_bytes(pcap(together))
        argv = (
            ["tcpdump", "-nn", *TCPDUMP[form], "-r", path]
            if form in TCPDUMP
            else ["tshark", "-n", *TSHARK[form], "-r", path]
        )
        printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    head, rows = _rows(form, printed)
    assert len(rows) == len(together), (form, len(rows), len(together))
    told, at = [], 0
    for packets in captures:
        told.append(_joined(form, head, rows[at : at + len(packets)]).encode())
        at += len(packets)
    return told


def _rows(form: str, printed: str) -> tuple[str, list[str]]:
    """The head of what was printed, and what was printed of each packet."""
    if form == "tshark -T json":
        return "", [json.dumps(packet) for packet in json.loads(printed)]
    lines = printed.splitlines()
    if form == "tshark -T ek":
        return "", ["\n".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]
    if form == "tshark -T fields":
        return lines[0] + "\n", lines[1:]
    rows: list[str] = []
    for line in lines:
        if line[:1].isspace() and form in TCPDUMP:
            rows[-1] += "\n" + line
        else:
            rows.append(line)
    return "", rows


def _joined(form: str, head: str, rows: list[str]) -> str:
    return f"[{', '.join(rows)}]" if form == "tshark -T json" else head + "\n".join(rows) + "\n"
