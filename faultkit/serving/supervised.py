"""A task in asyncio whose end is bounded: one that swallows its cancellation is left behind, and told of."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Awaitable, Coroutine
from typing import Any

from faultkit.serving.engine import PATIENCE
from faultkit.serving.tracebacks import place

LEFT: list[str] = []
"""What was left behind since somebody has looked: a sentence each."""


class Stuck(Exception):
    """A handler was cancelled, and did not end: one sentence."""


async def run(work: Awaitable[None]) -> str | None:
    """Do it, in a task that the end of asyncio's loop does not wait for: this one does, for no longer than `PATIENCE`. Where that
    was not enough it gives a sentence, which is in `LEFT` too.
    """

    async def runs() -> None:
        await work

    task = asyncio.create_task(runs())
    # The end of a loop cancels all tasks that it knows, and waits for them without a limit; this is how asyncio's documentation
    # ("Extending", task lifetime) has a task be known no more.
    asyncio._unregister_task(task)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        if stuck := await _end(task, work):
            return stuck
        raise
    await task
    return None


async def _end(task: asyncio.Task[None], work: Awaitable[None]) -> str | None:
    """Wait for the end of what was cancelled."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not task.done() and (left := deadline - loop.time()) > 0:
        try:
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError:  # the loop ends too
            task.cancel()
    if task.done():
        if not task.cancelled():
            task.exception()  # it is known, and nobody waits for it any more
        return None
    sentence = f"{_named(work)} did not end within {PATIENCE:g} s of being cancelled: let CancelledError pass"
    # Nobody may ever throw it away: Python would close it, which it would swallow too, in a loop that has ended for ever.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
    LEFT.append(sentence)
    loop.call_exception_handler({"message": f"faultkit: {sentence}"})
    return sentence


def _named(work: Awaitable[Any]) -> str:
    """Which handler it is, and the line at which it waits."""
    if not isinstance(work, Coroutine):
        return f"the handler {work!r}"
    name = getattr(work, "__qualname__", repr(work)).rpartition(".<locals>.")[2]
    frame = getattr(work, "cr_frame", None)
    return (
        f"the handler {name} at {place(frame.f_code.co_filename, frame.f_lineno)}" if frame else f"the handler {name}"
    )
