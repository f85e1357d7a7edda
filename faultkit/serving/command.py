"""`faultkit serve`: a fault on a port for a client in any language, until Ctrl-C."""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import trio

from faultkit.errors import Misuse, Unable
from faultkit.playing.signals import endings
from faultkit.serving import entry, faults
from faultkit.serving.engine import Engine
from faultkit.serving.record import Connection
from faultkit.serving.server import HandlerCrashed, Server


class _Lines:
    """Lines written as they come and flushed once per turn of the loop, however many there were."""

    def __init__(self) -> None:
        self.refused: OSError | None = None  # nobody reads them any more
        self._written = trio.Event()

    def write(self, line: str) -> None:
        if self.refused is None:
            try:
                sys.stdout.write(line + "\n")
            except OSError as error:
                self.refused = error
            self._written.set()

    async def flush(self) -> None:
        """Flush until nobody reads any more."""
        while self.refused is None:
            await self._written.wait()
            self._written = trio.Event()
            try:
                sys.stdout.flush()
            except OSError as error:
                self.refused = error


def line(record: Connection) -> str:
    """One connection for a person: number, peer, fault, bytes in and out, how it ended and when, in ms."""
    ended = f"{record.ended} after {(record.seconds or 0) * 1000:.1f} ms"
    fault = record.fault if record.fired or record.fault == faults.OK else f"{record.fault} not met"
    return f"{record.number:>3}  {record.peer!s:<15}  {fault:<14} {record.received:>5} in {record.sent:>5} out  {ended}"


def document(record: Connection) -> str:
    """The same for machines: `Connection.document` as JSON, written out because it is written 25,000 times a second."""
    peer = f'"{record.peer}"' if record.peer else "null"
    fired = "null" if record.fired_after_seconds is None else f"{record.fired_after_seconds:.6f}"
    return (
        f'{{"event": "connection", "number": {record.number}, "peer": {peer}, "fault": "{record.fault}", '
        f'"received": {record.received}, "sent": {record.sent}, "requests": {record.requests}, "answers": {record.answers}, '
        f'"fired_after_seconds": {fired}, "ended": {json.dumps(record.ended)}, "seconds": {record.seconds:.6f}}}'
    )


def _opening(server: Server, tls: bool) -> dict[str, object]:
    told: dict[str, object] = {"host": server.host, "port": server.port, "url": server.url}
    if tls:
        told["ca_file"] = server.ca_file
    if server.seed is not None:
        told["seed"] = server.seed
    return told


async def _serve(server: Server, lines: _Lines, stop_after: int | None, as_json: bool, tls: bool) -> None:
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
            told = _opening(server, tls)
            if as_json:
                lines.write(json.dumps({"event": "listening", **told}))
            else:
                lines.write(f"listening on {server.url} (Ctrl-C ends it)")
                for name in ("ca_file", "seed"):
                    if name in told:
                        lines.write(f"{name} {told[name]}")
            nursery.start_soon(end_at_signal)
            nursery.start_soon(end_unread)
            if stop_after:
                nursery.start_soon(end_after, stop_after)
            await stop.wait()
            await server.aclose()
            nursery.cancel_scope.cancel()


def serve(fault: str | None, *, as_json: bool, connections: int | None, tls: bool, **options: Any) -> int:
    """Serve until Ctrl-C or SIGTERM, or until so many connections have ended. Gives 1 where no client came, else 0."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1024 connections are soon there
    lines, written = _Lines(), document if as_json else line

    def each(record: Connection) -> None:
        lines.write(written(record))

    server = entry.made(fault, each=each, tls=tls, must_be_met=False, **options)
    if connections and server.keeps_out:
        raise Misuse(f"serve: {fault} lets no connection in, so --connections {connections} never comes: leave it out")
    trio.run(_serve, server, lines, connections, as_json, tls)
    if lines.refused:
        raise lines.refused
    sys.stdout.flush()
    try:
        server.check_crash()
    except HandlerCrashed as crash:
        raise Unable(f"serve: {crash}") from crash
    return 0 if server.came else 1
