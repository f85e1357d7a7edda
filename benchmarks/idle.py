"""What 10,000 idle connections cost the process of `faultkit serve`: `python benchmarks/idle.py`.

This process opens them, the server holds them: its memory with them less its memory before, for each. Then every one of
them sends a byte and must be told what the fault promises, so none was lost unseen. RSS counts shared pages whole, PSS by
share, USS not at all.
"""

from __future__ import annotations

import os
import platform
import resource
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table
from servers import ours, running

CONNECTIONS = 10_000
SPARE = 200  # descriptors beside the connections; arbitrary
PATIENCE_SECONDS = 60  # arbitrary
PROMISED = 20  # KiB of process memory for a connection
KINDS = ("rss", "pss", "uss")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: nothing is left in TIME-WAIT

Memory = dict[str, int]  # bytes by kind


def memory(process: psutil.Process) -> Memory:
    told = process.memory_full_info()
    return {kind: int(getattr(told, kind)) for kind in KINDS}


@dataclass(frozen=True)
class Measured:
    what: str
    before: Memory
    after: Memory

    def each(self, kind: str) -> float:
        """KiB for one connection."""
        return (self.after[kind] - self.before[kind]) / 1024 / CONNECTIONS


def await_descriptors(process: psutil.Process, number: int) -> None:
    """Until the server has so many descriptors, and so has accepted what waits in its queue."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (has := process.num_fds()) < number:
        if time.monotonic() > until:
            sys.exit(
                f"the server has {has} descriptors after {PATIENCE_SECONDS} s and needs {number} for {CONNECTIONS} connections"
            )
        time.sleep(0.01)  # nothing tells when another process accepts


@contextmanager
def opened(port: int) -> Iterator[list[socket.socket]]:
    """So many connections, ended with a reset."""
    with ExitStack() as stack:
        connections = []
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connections.append(connection)
        yield connections


def told(connection: socket.socket) -> str:
    """What it gets for a byte."""
    try:
        connection.sendall(b"x")
        return repr(connection.recv(1))
    except OSError as error:
        return type(error).__name__


def held(fault: str, promise: str) -> Iterator[Measured]:
    """Connections that have said nothing yet; where they live on after a byte and its answer, those too."""
    with tempfile.TemporaryDirectory(prefix="faultkit-idle-") as into, ExitStack() as stack:
        server = stack.enter_context(running(ours(fault, name=f"faultkit serve {fault}"), Path(into) / "log"))
        descriptors, before = server.process.num_fds(), memory(server.process)
        connections = stack.enter_context(opened(server.port))
        await_descriptors(server.process, descriptors + CONNECTIONS)
        yield Measured(f"{fault}: nothing said yet", before, memory(server.process))
        seen = Counter(map(told, connections))
        if seen != {promise: CONNECTIONS}:
            sys.exit(
                f"faultkit serve {fault}: {CONNECTIONS} idle connections were to be told {promise}, and were told {dict(seen)}"
            )
        if server.process.num_fds() >= descriptors + CONNECTIONS:
            yield Measured(f"{fault}: idle after an answer", before, memory(server.process))


def raise_limit() -> None:
    """Ours, which the server inherits: a connection is a descriptor on either side."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + SPARE:
        sys.exit(
            f"{CONNECTIONS} connections need a limit of {CONNECTIONS + SPARE} open files, and the hard one here is {hard}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    raise_limit()
    rows = [*held("linger", "ConnectionResetError"), *held("ok", "b'x'")]
    table = Table(f"{CONNECTIONS:,} connections")
    for heading in ("RSS before", "RSS with them", "RSS each", "PSS each", "USS each", "promised"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.what,
            f"{row.before['rss'] / 2**20:.1f} MiB",
            f"{row.after['rss'] / 2**20:.1f} MiB",
            *(f"{row.each(kind):.2f} KiB" for kind in KINDS),
            f"under {PROMISED} KiB",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"Linux {platform.release()}, Python {platform.python_version()}, uid {os.geteuid()}")
    console.print(table)


if __name__ == "__main__":
    main()
