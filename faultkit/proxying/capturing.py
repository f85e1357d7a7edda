"""The packets of a proxy's connections on loopback, on both sides of it, as long as it runs."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Self

from faultkit.evidence.transcript import Frame
from faultkit.witness.beginnings import Beginnings

EVERY = 0.02  # seconds between two looks, so that the kernel's buffer does not run over; arbitrary


class Capturing:
    """Keeps every segment to or from the ports that it is told, a long one's beginning. Raises `Unable` without CAP_NET_RAW."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.lost = 0  # that the kernel had no room for
        self._capture = Beginnings()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faultkit capture", daemon=True)
        self._thread.start()

    def watch(self, ports: Collection[int]) -> None:
        """Those of these ports, from now on."""
        self._capture.watch(ports)

    def _run(self) -> None:
        while not self._end.wait(EVERY):
            self._take()
        self._take()

    def _take(self) -> None:
        frames, lost = self._capture.take()
        self.lost += lost
        self.frames += frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._capture.close()
