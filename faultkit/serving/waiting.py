"""Waiting for what the server's thread sees, by an event: from a plain thread, from asyncio, from Trio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

import trio

from faultkit import keywords
from faultkit.errors import Misuse


def running_loop() -> str | None:
    """Whose event loop runs in this thread: "trio", "asyncio" or nobody's."""
    # Not sniffio's answer: AnyIO's pytest plugin makes it say "asyncio" in plain tests too, while a fixture of its loop lives.
    if trio.lowlevel.in_trio_run():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    return "asyncio"


def check_number(what: str, number: object) -> None:
    """Raise `Misuse` for what numbers none: the first is 1."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise Misuse(f"{what} {number!r}: the first one is 1")


class Waiting:
    """Who waits for a change. `changed` costs nothing while nobody does."""

    def __init__(self) -> None:
        self._wakers: set[Callable[[], object]] = set()

    def changed(self) -> None:
        """Wake everybody who waits, to look again."""
        if self._wakers:
            for wake in tuple(self._wakers):
                wake()

    def wait(self, there: Callable[[], bool], otherwise: Callable[[], str], timeout_seconds: float) -> None:
        """Block this thread until it is there. Raises `TimeoutError` with `otherwise`; `Misuse` in an event loop."""
        if not keywords.fits(timeout_seconds, float):
            raise Misuse(f"timeout_seconds={timeout_seconds!r}: it is a number of seconds")
        if loop := running_loop():
            raise Misuse(
                f"this would block the {loop} loop, in which the client may have to run: "
                "await the await_... method instead"
            )
        deadline = time.monotonic() + timeout_seconds
        woken = threading.Event()
        self._wakers.add(woken.set)
        try:
            while not there():
                if not woken.wait(min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)):
                    raise TimeoutError(f"{otherwise()} after {timeout_seconds:g} s")
                woken.clear()
        finally:
            self._wakers.discard(woken.set)

    async def come(self, there: Callable[[], bool]) -> None:
        """Wait in the event loop that runs here."""
        if running_loop() == "trio":
            token, arrived = trio.lowlevel.current_trio_token(), trio.Event()

            def wake() -> None:
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(lambda: arrived.set())
        else:
            loop, ready = asyncio.get_running_loop(), asyncio.Event()

            def wake() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(ready.set)

        self._wakers.add(wake)
        try:
            while not there():
                if running_loop() == "trio":
                    await arrived.wait()
                    arrived = trio.Event()
                else:
                    await ready.wait()
                    ready.clear()
        finally:
            self._wakers.discard(wake)
