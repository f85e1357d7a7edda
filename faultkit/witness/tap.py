"""What a middlebox on the path overhears while a play runs, so that it can forge segments that fit.

The wire witness collects after the play; a tap is read in the middle of it, by a cause whose actor stands in between.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from faultkit.evidence.transcript import Address, Packet
from faultkit.witness.wire import ETH_P_ALL, PACKET_IGNORE_OUTGOING, SOL_PACKET, decode, packet_socket

_FRAME = 1 << 18  # as in the wire witness: one frame of any size


class Tap:
    """Hears every TCP segment of the loopback interface from the moment it is made, each before its receiver does."""

    def __init__(self) -> None:
        self.heard: list[Packet] = []
        self._socket = packet_socket()
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind(("lo", ETH_P_ALL))

    def listen(self) -> list[Packet]:
        """Everything heard so far, in order. `Packet.time_ns` is 0: the wire witness keeps the times."""
        while True:
            try:
                frame = self._socket.recv(_FRAME)
            except BlockingIOError:
                return self.heard
            packet = decode(0, frame)
            if packet:
                self.heard.append(packet)

    async def hear(self, wanted: Callable[[Packet], bool], *, since: int = 0) -> Packet:
        """The first segment like that, after the first `since` of them; waits where it has not passed yet."""
        looked = since
        while True:
            heard = self.listen()
            for packet in heard[looked:]:
                if wanted(packet):
                    return packet
            looked = len(heard)
            await self.more()

    async def more(self) -> None:
        """Wait until something has passed that was not listened to yet."""
        await trio.lowlevel.wait_readable(self._socket)

    def last(self, source: Address, destination: Address) -> Packet:
        """The newest segment of that direction."""
        return next(p for p in reversed(self.listen()) if (p.source, p.destination) == (source, destination))

    def next_seq(self, source: Address, destination: Address) -> int:
        """The number that the receiver of that direction expects next (RCV.NXT, RFC 9293 section 3.3.1)."""
        return after(self.last(source, destination))

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


def after(packet: Packet) -> int:
    """The sequence number after that segment: SYN and FIN count one each (RFC 9293 section 3.4)."""
    return (packet.seq + packet.payload + ("SYN" in packet.flags) + ("FIN" in packet.flags)) & 0xFFFFFFFF
