"""A server in the foreground: until a signal, or so many connections."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

import trio

from faultkit.errors import Misuse, Unable, Unwritten
from faultkit.playing.signals import endings
from faultkit.serving import entry
from faultkit.serving.engine import Engine
from faultkit.serving.record import Connection
from faultkit.serving.server import HandlerCrashed, Server


class _Lines:
    """Lines written as they come and flushed once per turn of the loop, however many there were."""

    def __init__(self) -> None:
        self.refused: Unwritten | None = None  # nobody reads them any more
        self._written = trio.Event()

    def write(self, line: str) -> None:
        if self.refused is None:
            try:
                sys.stdout.write(line + "\n")
            except Unwritten as error:
                self.refused = error
            self._written.set()

    async def flush(self) -> None:
        """Flush until nobody reads any more."""
        while self.refused is None:
            await self._written.wait()
            self._written = trio.Event()
            try:
                sys.stdout.flush()
            except Unwritten as error:
                self.refused = error


async def _serve(
    server: Server, lines: _Lines, opening: Callable[[Server], Sequence[str]], stop_after: int | None
) -> None:
    engine, stop = Engine(), trio.Event()
    with trio.open_signal_receiver(*endings()) as signals:

        async def end_at_signal() -> None:
            await anext(signals)
            stop.set()

        async def end_after(ended: int) -> None:
            await server.await_ended(ended)
            stop.set()

        async def end_unread() -> None:
            await lines.flush()
            stop.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            server.open(engine)
            for line in opening(server):
                lines.write(line)
            nursery.start_soon(end_at_signal)
            nursery.start_soon(end_unread)
            if stop_after:
                nursery.start_soon(end_after, stop_after)
            await stop.wait()
            await server.aclose()
            nursery.cancel_scope.cancel()


def serve(
    fault: str | None,
    *,
    opening: Callable[[Server], Sequence[str]],
    line: Callable[[Connection], str],
    connections: int | None,
    **options: Any,
) -> bool:
    """Serve until Ctrl-C or SIGTERM, or until so many connections have ended, and print a line for each. Did any come?

    `options` as `entry.made` takes them.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1024 connections are soon there
    lines = _Lines()
    server = entry.made(fault, each=lambda record: lines.write(line(record)), must_be_met=False, **options)
    if connections and server.keeps_out:
        raise Misuse(f"serve: {fault} lets no connection in, so --connections {connections} never comes: leave it out")
    trio.run(_serve, server, lines, opening, connections)
    if lines.refused:
        raise lines.refused
    sys.stdout.flush()
    try:
        server.check_crash()
    except HandlerCrashed as crash:
        raise Unable(f"serve: {crash}") from crash
    return bool(server.came)
