"""The signals that end what waits."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Iterator

from faultkit.errors import Ended


def endings() -> list[signal.Signals]:
    """What ends a command that waits: not what nohup(1) ignores."""
    ends = [signal.SIGINT, signal.SIGTERM]
    return ends if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*ends, signal.SIGHUP]


@contextlib.contextmanager
def received(*more: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """What ends a command that waits, and these signals, as they come in Trio: those first that were held back until now."""
    import trio  # here, because `faultkit explain` waits, too, and needs no loop

    ends = endings()
    with trio.open_signal_receiver(*ends, *more) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
        yield signals


@contextlib.contextmanager
def let_through() -> Iterator[None]:
    """`interruptible`, for what may wait for ever, in a command that has its endings held back."""
    with interruptible():
        held = signal.pthread_sigmask(signal.SIG_UNBLOCK, endings())
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt in here, though it simply ends the process elsewhere: a run is taken down in order.

    So is every other signal that would end the process at once, and comes out as `Ended`. trio lets a KeyboardInterrupt
    come where something waits, so they are handed on as SIGINT. Where that is ignored, as in the background of a shell's
    script, it stays so: it is blocked until it is needed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupt, came = signal.getsignal(signal.SIGINT), []

    def end(number: int, _: object) -> None:
        came.append(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.raise_signal(signal.SIGINT)

    taken = [
        number
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} if interrupt is signal.SIG_IGN else ())
    if interrupt in (signal.SIG_DFL, signal.SIG_IGN):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt:
        if came:
            raise Ended(came[0]) from None
        raise
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, interrupt)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
