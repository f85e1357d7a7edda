"""The packets of a proxy's connections on loopback, on both sides of it, as long as it runs."""

from __future__ import annotations

import threading
from typing import Self

from faultkit.evidence.transcript import Packet
from faultkit.witness.wire import Capture, decode

EVERY = 0.02  # seconds between two looks, so that the kernel's buffer does not run over; arbitrary


class Capturing:
    """Keeps every segment to or from these ports. Raises `Unable` without CAP_NET_RAW."""

    def __init__(self) -> None:
        self.ports: set[int] = set()
        self.packets: list[Packet] = []
        self.lost = 0  # that the kernel had no room for
        self._capture = Capture()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faultkit capture", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(EVERY):
            self._take()
        self._take()

    def _take(self) -> None:
        frames, lost = self._capture.cut()
        self.lost += lost
        for time_ns, frame in frames:
            packet = decode(time_ns, frame)
            if packet and self.ports & {packet.source.port, packet.destination.port}:
                self.packets.append(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._capture.close()
