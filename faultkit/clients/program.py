"""What a client is, and how the plain ones are run: a command, what it wrote, its exit status."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from faultkit.errors import starting
from faultkit.stage.firewall import find

ENOUGH = 15.0  # seconds beyond its own limit, after which a client is taken to wait on; arbitrary
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Call:
    """What a client is to do: ask for each URL in turn, the last with a POST if something is to be uploaded."""

    urls: tuple[str, ...]
    limit_seconds: float
    upload: int  # bytes
    gate: str | None = None  # the one of the URLs whose server answers when it is time to go on
    pause_seconds: float = 0.0  # for a client that keeps one connection only, instead of the gate


@dataclass(frozen=True)
class Said:
    """What it said, line by line; nothing where it got its answer. `code` is None where it said nothing to the end."""

    lines: tuple[str, ...]
    code: int | None


Ask = Callable[[Call], Awaitable[Said]]


@dataclass(frozen=True)
class Client:
    """One row: adding a client is adding one."""

    name: str
    needs: str  # a command, or a Python module after a dot
    package: str  # what gets it
    version: Callable[[], str]
    open: Callable[[Path], AbstractAsyncContextManager[Ask]]  # takes an empty directory of its own

    @property
    def there(self) -> bool:
        if self.needs.startswith("."):
            return importlib.util.find_spec(self.needs[1:]) is not None
        return find(self.needs) is not None


def printed(*argv: str) -> Callable[[], str]:
    """A version by a command's own account."""

    def version() -> str:
        path = find(argv[0])
        assert path
        with starting():
            ended = subprocess.run([path, *argv[1:]], capture_output=True, text=True, timeout=30, check=False)
        found = re.search(r"\d+(\.\d+)+", ended.stdout + ended.stderr)
        return found[0] if found else ""

    return version


def environment(home: Path) -> dict[str, str]:
    """Nobody's settings, proxies or languages; and nothing is left in anybody's directories."""
    return {"PATH": PATH, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}


def command(
    argv: Callable[[Call, Path], list[str]],
    said: Callable[[str], list[str]],
    *,
    gated: bool = True,
    logs: bool = False,
    built: Sequence[str] = (),
) -> Callable[[Path], AbstractAsyncContextManager[Ask]]:
    """A client that is a process of its own for each call. `said` takes the lines that tell from its standard error; `built` is
    the command that makes it in its directory; where it `logs`, it speaks also when all went well."""

    @contextlib.asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[Ask]:
        if built:
            with starting():
                await trio.run_process(built, cwd=directory, env=environment(directory))

        async def ask(call: Call) -> Said:
            if not gated:
                call = replace(call, urls=tuple(url for url in call.urls if url != call.gate))
            with trio.move_on_after(call.limit_seconds + ENOUGH), starting():
                ended = await trio.run_process(
                    argv(call, directory),
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    cwd=directory,
                    env=environment(directory),
                )
                # Bytes that mean nothing may be in what it says.
                lines = said(ended.stderr.decode(errors="replace")) if ended.returncode or logs else []
                return Said(tuple(lines), ended.returncode)
            return Said((), None)

        yield ask

    return opened
