"""Pipes for splice(2), lent to a direction while it moves bulk."""

from __future__ import annotations

import contextlib
import fcntl
import os

PIPE = 1 << 20  # bytes that one is to hold: fs.pipe-max-size's default
KEPT = 16  # that nobody has; arbitrary


class Pipe:
    """Two descriptors, and how many bytes are between them."""

    __slots__ = ("beginning", "end", "held")

    def __init__(self) -> None:
        self.beginning, self.end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        with contextlib.suppress(PermissionError):  # the user has as many pages as a user may: pipe(7); 64 KiB do too
            fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, PIPE)

    def close(self) -> None:
        """Let go of both."""
        os.close(self.beginning)
        os.close(self.end)


class Pipes:
    """Those of one loop."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []

    def take(self) -> Pipe | None:
        """An empty one. None where there are no descriptors left: it goes without."""
        if self._free:
            return self._free.pop()
        try:
            return Pipe()
        except OSError:
            return None

    def give(self, pipe: Pipe) -> None:
        """An empty one back."""
        if len(self._free) < KEPT:
            self._free.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Let go of those that nobody has."""
        while self._free:
            self._free.pop().close()
