"""Tracebacks with the test's own lines, and without ours: what we have to say is said in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

# Between a line of the test and one of ours there may be what our code runs on.
BELOW = {"faultkit", "trio", "outcome", "concurrent"}


def shorten(error: BaseException) -> None:
    """Let it end at the line that called us, where it is one of ours or a wait of ours that took too long.

    What it came from stays where that is the caller's own code, such as a handler's.
    """
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            shorten(one)
    frames = list(_frames(error.__traceback__))
    said_by_us = _package(type(error).__module__) == "faultkit" or isinstance(error, TimeoutError)
    if not (frames and _of(frames[-1]) == "faultkit" and said_by_us):
        return
    theirs = [frame for frame in frames if _of(frame) not in BELOW]
    if theirs:
        theirs[-1].tb_next = None
    if error.__cause__:
        error.__cause__.__traceback__ = behind_us(error.__cause__)
        if error.__cause__.__traceback__ is None:
            error.__cause__ = None
        else:
            shorten(error.__cause__)


def behind_us(error: BaseException) -> TracebackType | None:
    """Its traceback from the first frame that is not ours: what was called from here."""
    return next((frame for frame in _frames(error.__traceback__) if _of(frame) != "faultkit"), None)


def meant_asyncio(error: BaseException) -> bool:
    """Has code of asyncio raised it, in a task of Trio's?"""
    modules = [frame.tb_frame.f_globals.get("__name__", "") for frame in _frames(error.__traceback__)]
    return any(_package(name) == "asyncio" for name in modules) and "faultkit.serving.in_asyncio" not in modules


def place(file: str, line: int) -> str:
    """A line of a file, as a sentence has it."""
    return f"{os.path.basename(file)}:{line}"


def waits_at(task: trio.lowlevel.Task) -> str:
    """The place at which a task waits, of the code that is not ours; "" where there is none."""
    theirs = [(frame, line) for frame, line in task.iter_await_frames() if _frame_of(frame) not in BELOW]
    return place(theirs[-1][0].f_code.co_filename, theirs[-1][1]) if theirs else ""


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace:
        yield trace
        trace = trace.tb_next


def _of(frame: TracebackType) -> str:
    return _frame_of(frame.tb_frame)


def _frame_of(frame: FrameType) -> str:
    return _package(frame.f_globals.get("__name__", ""))


def _package(module: str) -> str:
    return module.partition(".")[0]
