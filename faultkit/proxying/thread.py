"""A loop in a thread of its own, there as long as somebody holds it."""

from __future__ import annotations

import contextlib
import os
import threading

from faultkit.errors import Misuse, exhausted
from faultkit.proxying.loop import PATIENCE, Loop


class Thread:
    """Started by the first who holds it, ended by the last who lets go."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing runs: as at the beginning, and in a child, because a thread does not survive a fork."""
        self._lock = threading.Lock()
        self._holders = 0
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None

    def hold(self) -> Loop:
        """The loop, started where it does not run yet. To be given back with `release`."""
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._start()
            self._holders += 1
            assert self._loop
            return self._loop

    def release(self) -> None:
        """Give it back."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._loop and self._thread:
                with contextlib.suppress(Misuse):
                    self._loop.stop()
                self._thread.join(PATIENCE)
                self._loop = self._thread = None

    def _start(self) -> None:
        try:
            loop = Loop()
            # A daemon: a program that ends in the middle must not wait for a proxy that nobody will stop.
            self._thread = threading.Thread(target=loop.run, name="faultkit proxies", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError) as error:
            raise exhausted(error) or error from error
        loop.started.wait(PATIENCE)
        self._loop = loop


SHARED = Thread()
os.register_at_fork(after_in_child=SHARED.forget)
