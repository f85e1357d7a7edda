"""The signals that end what waits."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


def endings() -> list[signal.Signals]:
    """What ends a command that waits: not what nohup(1) ignores."""
    ends = [signal.SIGINT, signal.SIGTERM]
    return ends if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*ends, signal.SIGHUP]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt in here, though it simply ends the process elsewhere: a run is taken down in order."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
