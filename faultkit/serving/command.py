"""`faultkit serve`: a fault on a port for a client in any language, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import trio

from faultkit.serving import entry, faults
from faultkit.serving.connection import Connection
from faultkit.serving.engine import Engine
from faultkit.serving.server import Server


class _Lines:
    """Lines written as they come and flushed once per turn of the loop, however many there were."""

    def __init__(self) -> None:
        self.flushing: trio.Event = trio.Event()

    def write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        self.flushing.set()

    async def flush(self) -> None:
        while True:
            await self.flushing.wait()
            self.flushing = trio.Event()
            sys.stdout.flush()


def line(record: Connection) -> str:
    """One connection for a person: number, peer, fault, bytes in and out, how it ended and when, in ms."""
    ended = f"{record.ended} after {(record.seconds or 0) * 1000:.1f} ms"
    fault = record.fault if record.fired or record.fault == faults.OK else f"{record.fault} not met"
    return f"{record.number:>3}  {record.peer!s:<15}  {fault:<14} {record.received:>5} in {record.sent:>5} out  {ended}"


def listing() -> str:
    """Every fault that can be served, one line each."""
    return "\n".join(
        f"{name:<28} {served.when!s:<24} {summary}" if served.door is None else f"{name:<28} {'':<24} {summary}"
        for name, summary, served in faults.known()
    )


async def _serve(server: Server, lines: _Lines, stop_after: int | None, as_json: bool, tls: bool) -> int:
    engine = Engine()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            nursery.start_soon(lines.flush)
            server.open(engine)
            if as_json:
                told = {"event": "listening", "host": server.host, "port": server.port, "url": server.url}
                told |= {"ca_file": server.ca_file} if tls else {}
                told |= {"seed": server.seed} if server.seed is not None else {}
                lines.write(json.dumps(told))
            else:
                lines.write(f"listening on {server.url} (Ctrl-C ends it)")
                if tls:
                    lines.write(f"trust {server.ca_file}")
                if server.seed is not None:
                    lines.write(f"seed {server.seed}")

            async def end_at_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            async def end_after() -> None:
                assert stop_after
                await server.await_ended(stop_after)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_at_signal)
            if stop_after:
                nursery.start_soon(end_after)
            try:
                await trio.sleep_forever()
            finally:
                await server.aclose()
    sys.stdout.flush()
    return 0 if server.came else 1


def serve(fault: str | None, *, as_json: bool, connections: int | None, tls: bool, **options: Any) -> int:
    """Serve until Ctrl-C or SIGTERM, or until so many connections have ended. Gives 1 where no client came, else 0."""
    lines = _Lines()

    def each(record: Connection) -> None:
        lines.write(json.dumps({"event": "connection", **record.document()}) if as_json else line(record))

    server = entry.made(fault, each=each, tls=tls, must_be_met=False, **options)
    return trio.run(_serve, server, lines, connections, as_json, tls)
