"""A server in a process of its own, from the line in which it says its port to its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

START_SECONDS = 60  # arbitrary: a Java server on a busy machine
END_SECONDS = 10  # arbitrary


@dataclass(frozen=True)
class Server:
    """A command that listens on 127.0.0.1 and says its port in the first line of its output that `port` matches."""

    name: str
    command: list[str]
    trigger: str = "x"
    port: str = r"^(\d+)$"
    setting: tuple[tuple[str, str], ...] = ()  # more of the environment
    warm_up: int = 5_000  # connections before it is measured


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    process: psutil.Process
    port: int


def ours(*arguments: str, name: str = "faultkit serve linger", trigger: str = "x") -> Server:
    """`faultkit serve` with these arguments."""
    command = [sys.executable, "-m", "faultkit", "serve", *arguments, "--port", "0", "--json"]
    return Server(name, command, trigger, r'"port": (\d+)')


def bound_to_us(core: int | None = None) -> list[str]:
    """What to put before a command: however this process ends, that one ends too; and it stays on that core."""
    return ["setpriv", "--pdeathsig", "KILL", *([] if core is None else ["taskset", "-c", str(core)])]


@contextmanager
def running(server: Server, log: Path, core: int | None = None) -> Iterator[Running]:
    """The server, its output in the file `log`, until the end of the block."""
    # Some containers set PYTHONUNBUFFERED, and each line would be a write(2) of its own.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [*bound_to_us(core), *server.command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**inherited, **dict(server.setting)}
        )
    try:
        yield Running(psutil.Process(process.pid), _listening(server, process, log))
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            sys.exit(f"{server.name} was still there {END_SECONDS} seconds after SIGTERM and has been killed")


def _listening(server: Server, process: subprocess.Popen[bytes], log: Path) -> int:
    """Its port, as soon as it has said it."""
    until = time.monotonic() + START_SECONDS
    while not (said := re.search(server.port, log.read_text(errors="replace"), re.MULTILINE)):
        if process.poll() is not None:
            sys.exit(f"{server.name} ended with status {process.returncode} before it listened:\n{log.read_text()}")
        if time.monotonic() > until:
            sys.exit(f"{server.name} did not listen in {START_SECONDS} s:\n{log.read_text()}")
        time.sleep(0.01)  # a file cannot be waited for
    return int(said[1])
