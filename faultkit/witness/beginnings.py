"""The beginnings of segments: a capture for whoever moves so much that whole frames would not fit the kernel's queue."""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection

from faultkit.evidence.transcript import Frame
from faultkit.witness.wire import SO_TIMESTAMPNS_NEW, SOL_PACKET, Capture

PACKET_AUXDATA = 8  # linux/if_packet.h: struct tpacket_auxdata, whose second word is the length that the frame had
WHOLE = 2048  # bytes of a frame that is kept as it is; arbitrary
BEGINNING = (
    128  # bytes of a longer one: its headers, and as much data as the kernel keeps beside them; more keeps the pages
)

# Classic BPF, as in `wire`. Offsets count from the Ethernet header.
_LDH, _LDB, _LDX_IP, _LDH_X, _LEN, _JEQ, _JGT, _JSET, _RET = 0x28, 0x30, 0xB1, 0x48, 0x80, 0x15, 0x25, 0x45, 0x06


class Beginnings(Capture):
    """Captures nothing until it is told of which ports. Raises as `Capture` does."""

    def __init__(self) -> None:
        super().__init__()
        self.watch(())
        self.cut()  # everybody's, of before
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)

    def watch(self, ports: Collection[int]) -> None:
        """Have the segments to and from these, and no others."""
        self.attach(_program(sorted(ports)))

    def take(self) -> tuple[list[Frame], int]:
        """What came since the last time, and for how many frames the kernel had no room."""
        count, lost = self._count()
        return [self._next() for _ in range(count)], lost

    def _next(self) -> Frame:
        size, control, _, _ = self._socket.recvmsg_into([self._frame], socket.CMSG_SPACE(16) + socket.CMSG_SPACE(24))
        self._waiting -= 1
        told = {kind: data for _, kind, data in control}
        seconds, nanoseconds = struct.unpack("qq", told[SO_TIMESTAMPNS_NEW])
        (length,) = struct.unpack_from("I", told[PACKET_AUXDATA], 4)
        return Frame(seconds * 1_000_000_000 + nanoseconds, bytes(self._frame[:size]), length)


def _program(ports: list[int]) -> list[tuple[int, int, int, int]]:
    """TCP over IPv4 and IPv6 without extension headers, which loopback has none of."""
    if not ports:
        return [(_RET, 0, 0, 0)]
    every = len(ports)
    four = [
        (_LDB, 0, 0, 23),
        (_JEQ, 0, "nothing", socket.IPPROTO_TCP),
        (_LDH, 0, 0, 20),
        (_JSET, "nothing", 0, 0x1FFF),  # a fragment that is not the first
        (_LDX_IP, 0, 0, 14),
        (_LDH_X, 0, 0, 14),
        *((_JEQ, "found", 0, port) for port in ports),
        (_LDH_X, 0, 0, 16),
        *((_JEQ, "found", "nothing" if number == every else 0, port) for number, port in enumerate(ports, 1)),
    ]
    six = [
        (_LDB, 0, 0, 20),
        (_JEQ, 0, "nothing", socket.IPPROTO_TCP),
        (_LDH, 0, 0, 54),
        *((_JEQ, "found", 0, port) for port in ports),
        (_LDH, 0, 0, 56),
        *((_JEQ, "found", "nothing" if number == every else 0, port) for number, port in enumerate(ports, 1)),
    ]
    begin = [(_LDH, 0, 0, 12), (_JEQ, 1, 0, 0x0800), (_JEQ, len(four), "nothing", 0x86DD)]
    end = [(_LEN, 0, 0, 0), (_JGT, 1, 0, WHOLE), (_RET, 0, 0, 0xFFFFFFFF), (_RET, 0, 0, BEGINNING), (_RET, 0, 0, 0)]
    body = [*begin, *four, *six]
    places = {"found": len(body), "nothing": len(body) + len(end) - 1}
    return [
        (code, *(places[to] - at - 1 if isinstance(to, str) else to for to in (yes, no)), operand)  # type: ignore[misc]
        for at, (code, yes, no, operand) in enumerate([*body, *end])
    ]
