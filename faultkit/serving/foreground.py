"""A server in the foreground: until a signal, or so many connections."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import trio

from faultkit.errors import Misuse, Unable, Unwritten
from faultkit.playing.signals import received
from faultkit.serving import entry
from faultkit.serving.control import SIGNALS, obey, parsed
from faultkit.serving.control import lines as orders
from faultkit.serving.engine import Engine
from faultkit.serving.record import Connection
from faultkit.serving.server import HandlerCrashed, Server
from faultkit.serving.udp import Datagram, UdpServer

MOST = 4 << 20  # characters of lines that wait to be written; arbitrary: some 20,000 connections
PAUSE = 0.05  # seconds between two writes: many lines at once take less from who serves meanwhile; arbitrary
PATIENCE = 0.5  # seconds for what still waits at the end; arbitrary


class Lines:
    """Lines for standard output, written by a thread, because nobody need read them: no server waits for that.

    `write` writes text, however long that takes, and raises `Unwritten`: from then on all lines are dropped, and no server ends
    for that. Beyond `most` characters lines are dropped, and where they are missing stands what `dropped` says of so many.
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
        if self._gap:
            self._fill_gap()
        self._queue(line)
        self._changed.set()

    async def write(self) -> None:
        """Write them as they come, until all are written after `end`."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            last = self._last
            if self.refused is None:
                if last and self._gap:
                    self._fill_gap()
                await self._write_waiting()
            if last:
                return
            await trio.sleep(PAUSE)

    def end(self) -> None:
        """No line comes any more."""
        self._last = True
        self._changed.set()

    def check(self) -> None:
        """Raise what has refused them, unless their reader has simply gone."""
        if self.refused and not isinstance(self.refused.__cause__, BrokenPipeError):
            raise self.refused

    async def _write_waiting(self) -> None:
        lines, self._waiting = self._waiting, []
        self._being_written, written = len(lines), self._size
        try:
            # A thread that waits for a reader is left behind.
            await trio.to_thread.run_sync(self._out, "".join(lines), abandon_on_cancel=True)
        except Unwritten as error:
            self.refused = error
            self._lost += len(lines) + len(self._waiting)
            self._waiting.clear()
        self._size -= written
        self._being_written = 0

    def _fill_gap(self) -> None:
        self._queue(self._dropped(self._gap))
        self._gap = 0

    def _queue(self, line: str) -> None:
        self._waiting.append(line + "\n")
        self._size += len(line) + 1


class Foreground:
    """Servers that run until a signal, an order, or so many connections have ended."""

    def __init__(self, lines: Lines, told: Callable[[str, str | None], str], stop_after: int | None) -> None:
        self.servers: list[Server | UdpServer] = []
        self._lines = lines
        self._told = told
        self._left = stop_after
        self._stop = trio.Event()
        self._came = False  # somebody, of whom an order has had the servers forget

    @property
    def came(self) -> bool:
        """Has a client come, to any of them?"""
        return self._came or any(server.came for server in self.servers)

    def ended(self, line: str) -> None:
        """A connection has."""
        self._lines.add(line)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._stop.set()

    async def run(self, opening: Callable[[Any], Sequence[str]], control: str | None) -> None:
        """Serve until the end."""
        engine = Engine()
        with received(*SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run)
                for server in self.servers:
                    server.open(engine)
                written = await nursery.start(self._write)
                for server in self.servers:
                    for line in opening(server):
                        self._lines.add(line)
                nursery.start_soon(self._hear, signals)
                if control:
                    nursery.start_soon(self._listen, control)
                await self._stop.wait()
                for server in self.servers:
                    await server.aclose()
                self._lines.end()
                with trio.move_on_after(PATIENCE):
                    await written.wait()
                nursery.cancel_scope.cancel()

    async def _write(self, task_status: trio.TaskStatus[trio.Event]) -> None:
        written = trio.Event()
        task_status.started(written)
        await self._lines.write()
        written.set()

    async def _hear(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            order = SIGNALS.get(signal.Signals(number))
            if order is None:
                self._stop.set()
                return
            self._obey(order)

    async def _listen(self, control: str) -> None:
        try:
            async with aclosing(orders(control)) as lines:
                async for line in lines:
                    self._obey(line)
        except Misuse as refusal:
            self._lines.add(self._told("", str(refusal)))

    def _obey(self, line: str) -> None:
        refused, self._came = None, self.came
        try:
            order = parsed(line)
            obey(order, self.servers)
            if order.verb == "quit":
                self._stop.set()
        except (Misuse, Unable) as refusal:
            refused = str(refusal)
        self._lines.add(self._told(line, refused))


def serve(
    fault: str | None,
    *,
    ports: Sequence[tuple[int, str | None]],
    opening: Callable[[Any], Sequence[str]],
    line: Callable[[Any, int | None], str],
    told: Callable[[str, str | None], str],
    write: Callable[[str], None],
    dropped: Callable[[int], str],
    connections: int | None,
    control: str | None = None,
    plan: Sequence[str] | None = None,
    random: float | None = None,
    seed: int | None = None,
    udp: bool = False,
    **options: Any,
) -> tuple[bool, int]:
    """Serve on each of these ports, with that fault or one of its own, until Ctrl-C or SIGTERM, or until so many connections have
    ended, and write a line for each, as `Lines` does, with the port where there are several.

    `told` is the line for an order of `control` (`faultkit.serving.control`), and why it was refused. Did any come, and how many
    lines did nobody read? `options` as `entry.made` takes them, of UDP `entry.made_udp`; there a line is a datagram's.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1024 connections are soon there
    if control and control != "-" and not os.access(control, os.R_OK):
        raise Misuse(f"control={control}: it cannot be read: take a file, a FIFO, or - for standard input")
    lines = Lines(write, dropped)
    front = Foreground(lines, told, connections)
    shared = {"plan": plan} if udp else {"plan": plan, "random": random, "seed": seed}
    makes: Callable[..., Server | UdpServer] = entry.made_udp if udp else entry.made
    for port, own in ports:

        def each(record: Connection | Datagram, number: int = len(front.servers)) -> None:
            front.ended(line(record, front.servers[number].port if len(ports) > 1 else None))

        which = {"fault": own} if own else {"fault": fault, **shared}
        front.servers.append(makes(port=port, each=each, must_be_met=False, **which, **options))
    if connections and any(server.keeps_out for server in front.servers):
        raise Misuse(f"serve: {fault} lets nobody in, so --connections {connections} never comes: leave it out")
    trio.run(front.run, opening, control)
    lines.check()
    for server in front.servers:
        try:
            server.check_crash()
        except HandlerCrashed as crash:
            raise Unable(f"serve: {crash}") from crash
    return front.came, lines.unwritten
