"""What one served connection did: written by the server, read by the test."""

from __future__ import annotations

import time
from typing import NamedTuple

from faultkit.errors import Misuse
from faultkit.evidence.transcript import Address
from faultkit.serving.waiting import Waiting


def size(count: int) -> str:
    """ "1 byte", "2 bytes"."""
    return "1 byte" if count == 1 else f"{count} bytes"


class Met(NamedTuple):
    """A fault that has set in."""

    fault: str
    after_seconds: float  # since the accept


class Connection:
    """What one connection did. Written by the server while it goes on; counts are in bytes, times in seconds."""

    __slots__ = (
        "_done",
        "_waiting",
        "answers",
        "ended",
        "fault",
        "met",
        "number",
        "opened_at",
        "over",
        "peer",
        "pending",
        "received",
        "requests",
        "seconds",
        "sent",
        "waits_for_tls",
    )

    def __init__(self, number: int, peer: Address | None, fault: str, waiting: Waiting) -> None:
        self.number = number  # the first is 1
        self.peer = peer  # None where the kernel did not tell
        self.fault = fault  # "ok" for none
        self.received = 0
        self.sent = 0
        self.requests = 0
        self.answers = 0
        self.opened_at = time.monotonic()
        self.met: list[Met] = []  # each fault that has set in, in order
        self.pending: str | None = None  # the one that is to set in next
        self.waits_for_tls = False  # its moment has come, and there is no TLS yet in which it is said
        self.ended: str | None = None  # None while it goes on; else how: "abort", "peer closed" ...
        self.seconds: float | None = None  # from the accept to the end
        self.over = False  # its socket is closed
        self._done = 0  # of its faults so many have set in, and what they do is done
        self._waiting = waiting

    @property
    def fired(self) -> bool:
        """Has a fault set in?"""
        return bool(self.met)

    @property
    def fired_after_seconds(self) -> float | None:
        """When the first did; None while none has."""
        return self.met[0].after_seconds if self.met else None

    def wait_for_end(self, *, timeout_seconds: float = 5.0) -> Connection:
        """Wait until it has ended, not in an event loop. Raises `TimeoutError`."""
        self._waiting.wait(lambda: self.over, lambda: f"connection {self.number} goes on", timeout_seconds)
        return self

    async def await_end(self) -> Connection:
        """Wait until it has ended, in asyncio or Trio; the caller's own timeout ends the wait."""
        await self._waiting.come(lambda: self.over)
        return self

    def wait_for_fired(self, number: int = 1, *, timeout_seconds: float = 5.0) -> Connection:
        """Wait until its fault has set in and is done, or so many of them, not in an event loop. Raises `TimeoutError`; `Misuse`
        where it has ended without."""
        otherwise = f"connection {self.number} has not met its fault"
        self._waiting.wait(lambda: self._done >= number or self.over, lambda: otherwise, timeout_seconds)
        return self._met_so_many(number)

    async def await_fired(self, number: int = 1) -> Connection:
        """Wait until its fault has set in and is done, or so many of them, in asyncio or Trio; the caller's own timeout ends the
        wait. Raises `Misuse` where it has ended without."""
        await self._waiting.come(lambda: self._done >= number or self.over)
        return self._met_so_many(number)

    def _met_so_many(self, number: int) -> Connection:
        if self._done < number:
            raise Misuse(f"connection {self.number} has ended ({self.ended}), and has not met its fault")
        return self

    def document(self) -> dict[str, object]:
        """The same for machines."""
        return {
            "number": self.number,
            "peer": str(self.peer) if self.peer else None,
            "fault": self.fault,
            "received": self.received,
            "sent": self.sent,
            "requests": self.requests,
            "answers": self.answers,
            "fired_after_seconds": self.fired_after_seconds,
            "ended": self.ended,
            "seconds": self.seconds,
        }

    # What the server writes.

    @property
    def age_seconds(self) -> float:
        """Since the accept."""
        return time.monotonic() - self.opened_at

    def end(self, how: str) -> None:
        """Write down how it ended, once."""
        if self.ended is None:
            self.seconds = time.monotonic() - self.opened_at
            self.ended = how

    def meet(self, fault: str) -> None:
        """A fault sets in."""
        self.met.append(Met(fault, self.age_seconds))

    def done(self) -> None:
        """What has set in is done: write that down, and wake who waits for it."""
        self._done = len(self.met)
        self.changed()

    def changed(self) -> None:
        """Wake who waits for something in it."""
        self._waiting.changed()

    def __repr__(self) -> str:
        # Of several each by its name; the one that is named already needs none.
        names = [f"{met.fault} " if met.fault != self.fault else "" for met in self.met]
        fired = "".join(
            f", {name}fired after {met.after_seconds:.4f} s" for name, met in zip(names, self.met, strict=True)
        )
        return (
            f"<connection {self.number} from {self.peer}: {self.fault}, {size(self.received)} in, {self.sent} out{fired}, "
            f"{self.ended or 'open'}>"
        )
