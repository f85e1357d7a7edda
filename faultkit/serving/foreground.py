"""A server in the foreground: until a signal, or so many connections."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from typing import Any

import trio

from faultkit.errors import Misuse, Unable, Unwritten
from faultkit.playing.signals import endings
from faultkit.serving import entry
from faultkit.serving.engine import Engine
from faultkit.serving.record import Connection
from faultkit.serving.server import HandlerCrashed, Server

MOST = 4 << 20  # characters of lines that wait to be written; arbitrary: some 20,000 connections
PATIENCE = 0.5  # seconds for what still waits at the end; arbitrary


class Lines:
    """Lines for standard output, written by a thread, because nobody need read them: no server waits for that.

    `write` writes text, however long that takes, and raises `Unwritten`. Beyond `most` characters lines are dropped, and
    where they are missing stands what `dropped` says of so many.
    """

    def __init__(self, write: Callable[[str], None], dropped: Callable[[int], str], most: int = MOST) -> None:
        self.refused: Unwritten | None = None  # nobody reads them any more
        self._out, self._dropped, self._most = write, dropped, most
        self._waiting: list[str] = []
        self._size = 0  # characters that wait or are being written
        self._being_written = 0  # lines
        self._gap = 0  # lines dropped since the last that was not
        self._lost = 0
        self._changed = trio.Event()
        self._last = False

    @property
    def unwritten(self) -> int:
        """Lines that were dropped, or still wait."""
        return self._lost + len(self._waiting) + self._being_written

    def add(self, line: str) -> None:
        """Have the line written."""
        if self.refused or self._size > self._most:
            self._gap += 1
            self._lost += 1
            return
        self._fill_gap()
        self._queue(line)
        self._changed.set()

    async def write(self) -> None:
        """Write them as they come, until nobody reads any more, or all are written after `end`."""
        while self.refused is None:
            await self._changed.wait()
            self._changed = trio.Event()
            last = self._last
            if last:
                self._fill_gap()
            await self._write_waiting()
            if last:
                return

    def end(self) -> None:
        """No line comes any more."""
        self._last = True
        self._changed.set()

    async def _write_waiting(self) -> None:
        lines, self._waiting = self._waiting, []
        self._being_written, written = len(lines), self._size
        try:
            # A thread that waits for a reader is left behind.
            await trio.to_thread.run_sync(self._out, "".join(lines), abandon_on_cancel=True)
        except Unwritten as error:
            self.refused = error
        self._size -= written
        self._being_written = 0

    def _fill_gap(self) -> None:
        if self._gap:
            self._queue(self._dropped(self._gap))
            self._gap = 0

    def _queue(self, line: str) -> None:
        self._waiting.append(line + "\n")
        self._size += len(line) + 1


async def _serve(
    server: Server, lines: Lines, opening: Callable[[Server], Sequence[str]], stop_after: int | None
) -> None:
    engine, stop = Engine(), trio.Event()
    with trio.open_signal_receiver(*endings()) as signals:

        async def end_at_signal() -> None:
            await anext(signals)
            stop.set()

        async def end_after(ended: int) -> None:
            await server.await_ended(ended)
            stop.set()

        async def write(task_status: trio.TaskStatus[trio.Event]) -> None:
            written = trio.Event()
            task_status.started(written)
            await lines.write()
            written.set()
            stop.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            server.open(engine)
            written = await nursery.start(write)
            for line in opening(server):
                lines.add(line)
            nursery.start_soon(end_at_signal)
            if stop_after:
                nursery.start_soon(end_after, stop_after)
            await stop.wait()
            await server.aclose()
            lines.end()
            with trio.move_on_after(PATIENCE):
                await written.wait()
            nursery.cancel_scope.cancel()


def serve(
    fault: str | None,
    *,
    opening: Callable[[Server], Sequence[str]],
    line: Callable[[Connection], str],
    write: Callable[[str], None],
    dropped: Callable[[int], str],
    connections: int | None,
    **options: Any,
) -> tuple[bool, int]:
    """Serve until Ctrl-C or SIGTERM, or until so many connections have ended, and write a line for each, as `Lines` does.

    Did any come, and how many lines did nobody read? `options` as `entry.made` takes them.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1024 connections are soon there
    lines = Lines(write, dropped)
    server = entry.made(fault, each=lambda record: lines.add(line(record)), must_be_met=False, **options)
    if connections and server.keeps_out:
        raise Misuse(f"serve: {fault} lets no connection in, so --connections {connections} never comes: leave it out")
    trio.run(_serve, server, lines, opening, connections)
    if lines.refused:
        raise lines.refused
    try:
        server.check_crash()
    except HandlerCrashed as crash:
        raise Unable(f"serve: {crash}") from crash
    return server.came, lines.unwritten
