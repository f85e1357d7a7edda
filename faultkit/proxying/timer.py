"""timerfd_create(2), which Python has since 3.13: poll's own timeouts are whole milliseconds, rounded up."""

from __future__ import annotations

import ctypes
import os
import time

CLOCK_MONOTONIC, TFD_NONBLOCK, TFD_CLOEXEC, ABSOLUTE = time.CLOCK_MONOTONIC, os.O_NONBLOCK, os.O_CLOEXEC, 1


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("every_seconds", ctypes.c_long),
        ("every_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class TimerDescriptor:
    """A descriptor that becomes readable at a time of `time.monotonic`."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._set = libc.timerfd_settime
        self._spec = _Itimerspec()
        self._at = ctypes.byref(self._spec)
        self.descriptor: int = libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def set(self, due: float) -> None:
        """Readable then, and no longer for what was before; 0: never."""
        nanoseconds = int(due * 1e9)
        self._spec.seconds, self._spec.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._set(self.descriptor, ABSOLUTE, self._at, None)

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)
