"""Captures written packet by packet: what other stacks, boxes and attackers send, which no kernel here would."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tests.explaining.rewriting import Frame, pcap

_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
BEGAN = 1_700_000_000 * 10**9


@dataclass(frozen=True)
class Segment:
    """One segment. `flags` are tcpdump's letters; `>` as the side is the client's, `<` the server's."""

    side: str
    flags: str
    seq: int = 0
    ack: int = 0
    data: bytes = b""
    at: float | None = None  # seconds since the capture began; a millisecond after the one before where None
    window: int = 500
    ttl: int = 64
    ip_id: int | None = None  # None: the next of its sender's
    options: bytes = b""
    client: tuple[str, int] = ("10.0.0.1", 40000)
    server: tuple[str, int] = ("10.0.0.2", 80)

    def frame(self, number: int, at: float, ip_id: int) -> Frame:
        """It in Ethernet and IPv4. Checksums are left out."""
        ends = (self.client, self.server) if self.side == ">" else (self.server, self.client)
        flags = sum(_FLAGS[letter] for letter in self.flags)
        bases = (1000, 9000) if self.side == ">" else (9000, 1000)
        options = self.options + bytes(-len(self.options) % 4)
        tcp = struct.pack(
            ">HHIIBBHHH",
            ends[0][1],
            ends[1][1],
            (bases[0] + self.seq) & 0xFFFFFFFF,
            (bases[1] + self.ack) & 0xFFFFFFFF if flags & 16 else self.ack,
            (20 + len(options)) << 2,
            flags,
            self.window,
            0,
            0,
        )
        body = tcp + options + self.data
        hosts = b"".join(socket.inet_aton(host) for host, _ in ends)
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), ip_id, 0x4000, self.ttl, 6, 0) + hosts
        frame = bytes(12) + b"\x08\x00" + ip + body
        return Frame(number, BEGAN + round(at * 1e9), frame, len(frame))


def capture(segments: Iterable[Segment]) -> bytes:
    """A file of them."""
    frames: list[Frame] = []
    at = 0.0
    for number, segment in enumerate(segments, 1):
        at = at + 0.001 if segment.at is None else segment.at
        own = number + (30000 if segment.side == "<" else 100)
        frames.append(segment.frame(number, at, own if segment.ip_id is None else segment.ip_id))
    return pcap(frames)


def handshake(**both: object) -> list[Segment]:
    """A connection made; the options that are given go to all three."""
    made = [Segment(">", "S"), Segment("<", "S.", ack=1), Segment(">", ".", 1, 1)]
    return [Segment(**{**segment.__dict__, **both}) for segment in made]


def stamp(value: int, echo: int) -> bytes:
    """The option of timestamps (RFC 7323 section 3.2)."""
    return struct.pack(">BBBBII", 1, 1, 8, 10, value, echo)
