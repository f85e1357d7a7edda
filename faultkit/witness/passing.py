"""Reads the counters whenever a RST has passed, so that it can be told which RST moved which of them.

A kernel counts a RST that it sends before the capture gets it: an answer of the stack right behind its transmission
(tcp_v4_send_reset()), on the same processor that then delivers it, a socket's abort before (tcp_send_active_reset()).
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from typing import NoReturn

import trio

from faultkit.evidence.transcript import Address, Count
from faultkit.witness.kernel import SOURCES, Listeners, listeners, moved, parsed
from faultkit.witness.wire import (
    ETH_P_ALL,
    PACKET_IGNORE_OUTGOING,
    SO_ATTACH_FILTER,
    SO_TIMESTAMPNS_NEW,
    SOL_PACKET,
    packet_socket,
)

_HEADERS = 128  # bytes: nothing of the frame is looked at
_MOST = 1000  # readings of one run, 10 KiB each; arbitrary: what a storm of resets moves later is known as one sum
# What the kernel, or who guards a container, answers where sock_diag(7) is not to be had.
_NOT_HERE = {errno.ENOENT, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOSYS, errno.EPERM, errno.EACCES}
_MOMENT_NS = 1_000_000  # arbitrary: it is microseconds

# Classic BPF (linux/filter.h): opcode, jump if true, jump if false, operand. Offsets count from the Ethernet header.
_RST_ONLY = (
    (0x28, 0, 0, 12),  # ldh the EtherType
    (0x15, 0, 5, 0x0800),  # IPv4?
    (0x30, 0, 0, 23),  # ldb its protocol
    (0x15, 0, 9, socket.IPPROTO_TCP),
    (0xB1, 0, 0, 14),  # ldxb the length of its header
    (0x50, 0, 0, 27),  # ldb the flags of the TCP header behind it
    (0x45, 5, 6, 4),  # RST among them?
    (0x15, 0, 5, 0x86DD),  # IPv6?
    (0x30, 0, 0, 20),  # ldb its next header
    (0x15, 0, 3, socket.IPPROTO_TCP),
    (0x30, 0, 0, 67),  # ldb the flags
    (0x45, 0, 1, 4),
    (0x06, 0, 0, _HEADERS),
    (0x06, 0, 0, 0),
)


class Passing:
    """Looks from the moment it is made until close(). Raises `Refused`, else `OSError` as it comes from the system."""

    def __init__(self, interface: str | None = None) -> None:
        """On one interface, or on all that the namespace has and will have."""
        self._readings: list[tuple[int, bytes, int, tuple[bytes, ...], list[bytes]]] = []
        self._files: list[int] = []
        self._listeners: Listeners | None = None
        # With a protocol it hears every interface at once; bind(), which Python allows for one alone, comes with it.
        self._socket = packet_socket(0 if interface else socket.htons(ETH_P_ALL))
        try:
            for source in SOURCES:
                self._files.append(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
            try:
                self._listeners = Listeners()
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
            program = array.array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in _RST_ONLY))
            self._socket.setsockopt(
                socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(_RST_ONLY), program.buffer_info()[0])
            )
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
            if interface:
                self._socket.bind((interface, ETH_P_ALL))
            self._passed()  # what came in before the filter
        except BaseException:
            self.close()
            raise

    def _passed(self) -> tuple[int, bytes] | None:
        """Time and first bytes of the last RST that has passed and nobody has looked at."""
        last = None
        while True:
            try:
                frame, control, _, _ = self._socket.recvmsg(_HEADERS, socket.CMSG_SPACE(16))
            except BlockingIOError:
                return last
            seconds, nanoseconds = struct.unpack("qq", control[0][2]) if control else (0, 0)
            last = seconds * 1_000_000_000 + nanoseconds, frame

    def look(self) -> None:
        """Read the counters if a RST has passed since the last look."""
        # One that passes while they are read makes the reading useless, and is itself a reason to read again.
        while (passed := self._passed()) and len(self._readings) < _MOST:
            texts = tuple(os.pread(file, 1 << 16, 0) for file in self._files)
            self._readings.append((*passed, time.time_ns(), texts, self._ask()))

    def _ask(self) -> list[bytes]:
        if self._listeners:
            try:
                return self._listeners.ask()
            except OSError as error:  # a kernel without inet_diag has the socket and no answer: ENOENT
                if error.errno not in _NOT_HERE:
                    raise
                self._listeners.close()
                self._listeners = None
        return []

    def listening(self) -> frozenset[Address] | None:
        """Who listens now; None where that cannot be looked up."""
        answers = self._ask()
        return listeners(answers) if answers else None

    async def watch(self) -> NoReturn:
        """Look whenever a RST passes."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            self.look()

    def cut(self, before: dict[str, int], frames: Sequence[tuple[int, bytes]] = ()) -> list[Count]:
        """Every reading since the last cut, as what had moved since `before`. `frames` are what was captured meanwhile."""
        self.look()
        counts = [
            Count(
                "",
                _captured(at, head, frames),
                ended,
                moved(before, parsed(*(text.decode() for text in texts))),
                listeners(answers) if answers else None,
            )
            for at, head, ended, texts, answers in self._readings
        ]
        self._readings.clear()
        return counts

    def close(self) -> None:
        self._socket.close()
        if self._listeners:
            self._listeners.close()
        for file in self._files:
            os.close(file)
        self._files = []


def _captured(at: int, head: bytes, frames: Sequence[tuple[int, bytes]]) -> int:
    """When the capture had that RST. A segment that a socket sent is stamped by each of its hearers anew, a moment apart."""
    times = [time_ns for time_ns, frame in frames if abs(time_ns - at) < _MOMENT_NS and frame[:_HEADERS] == head]
    return min(times, key=lambda time_ns: abs(time_ns - at), default=at)
