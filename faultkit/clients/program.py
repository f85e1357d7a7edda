"""The clients, one row each, and how the plain ones are run: a command, what it wrote, its exit status."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import trio

ENOUGH = 15.0  # seconds beyond its own limit, after which a client is taken to wait on; arbitrary
ASKING = Path(__file__).with_name("asking")


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
        return shutil.which(self.needs) is not None


def printed(*argv: str) -> Callable[[], str]:
    """A version by a command's own account."""

    def version() -> str:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        found = re.search(r"\d+(\.\d+)+", ended.stdout)
        return found[0] if found else ""

    return version


def _environment(home: Path) -> dict[str, str]:
    """Nobody's settings, proxies or languages."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}


def command(
    argv: Callable[[Call, Path], list[str]], said: Callable[[str], list[str]], *, gated: bool = True
) -> Callable[[Path], AbstractAsyncContextManager[Ask]]:
    """A client that is a process of its own for each call. `said` takes the lines that tell from its standard error."""

    @contextlib.asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[Ask]:
        async def ask(call: Call) -> Said:
            if not gated:
                call = Call(
                    tuple(url for url in call.urls if url != call.gate),
                    call.limit_seconds,
                    call.upload,
                    pause_seconds=call.pause_seconds,
                )
            ended = await trio.run_process(
                argv(call, directory),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                cwd=directory,
                env=_environment(directory),
            )
            # What a child of the interpreter's prints is all ours; bytes that mean nothing may be in it.
            return Said(
                tuple(said(ended.stderr.decode(errors="replace"))) if ended.returncode else (), ended.returncode
            )

        yield ask

    return opened


def _body(call: Call, directory: Path) -> str:
    file = directory / f"body-{call.upload}"
    if not file.exists():
        file.write_bytes(bytes(call.upload))
    return str(file)


def _curl(call: Call, directory: Path) -> list[str]:
    upload = ["--data-binary", f"@{_body(call, directory)}"] if call.upload else []
    limit = ["--max-time", f"{call.limit_seconds:g}", "--silent", "--show-error", "--output", "/dev/null"]
    urls: list[str] = []
    for url in call.urls:
        urls += [*(["--next"] if urls else []), *limit, *upload, url]
    return ["curl", "--disable", *urls]


def _wget(call: Call, directory: Path) -> list[str]:
    upload = [f"--post-file={_body(call, directory)}"] if call.upload else []
    limit = [f"--timeout={call.limit_seconds:g}", f"--wait={call.pause_seconds:g}"]
    # Twenty tries, a second and more apart, are its default; whether it tries again is seen with two.
    tries = ["--tries=2", "--waitretry=0"]
    return ["wget", "--no-config", "--output-document=/dev/null", *tries, *limit, *upload, *call.urls]


def _wget_said(text: str) -> list[str]:
    """What ends a try, without the number of tries."""
    asking = r"HTTP request sent, awaiting response\.\.\. \D|Failed writing HTTP request: "
    failed = rf"^(?:Connecting to \S+\.\.\. failed: |{asking}).*$"
    broken = r"(?<=\) - ).*?(?= Retrying\.| Giving up\.)"
    return list(dict.fromkeys(re.findall(f"{failed}|{broken}", text, re.MULTILINE)))


def _script(interpreter: str, name: str) -> Callable[[Call, Path], list[str]]:
    def argv(call: Call, directory: Path) -> list[str]:
        return [interpreter, str(ASKING / name), f"{call.limit_seconds:g}", str(call.upload), *call.urls]

    return argv


def _last(text: str) -> list[str]:
    """The line that ends a traceback."""
    return text.strip().splitlines()[-1:]


def _node_said(text: str) -> list[str]:
    """An uncaught error's own line, and its causes'."""
    found = re.findall(r"^ *((?:\[cause\]: )?(?:\w*Error|DOMException)\b.*?:.*?)(?: \{)?$", text, re.MULTILINE)
    return [line for line in found if not line.startswith("Error.captureStackTrace")]


def _python(name: str, module: str) -> Client:
    version = printed(sys.executable, "--version") if module == "http" else lambda: importlib.metadata.version(module)
    file = f"python_{name.replace('.', '_')}.py"
    return Client(name, f".{module}", f"pip install {module}", version, command(_script(sys.executable, file), _last))


def clients() -> tuple[Client, ...]:
    """Every client that is known, in the order in which they are shown."""
    from faultkit.clients import chromium

    node = printed("node", "--version")
    return (
        Client("curl", "curl", "apt-get install curl", printed("curl", "--version"), command(_curl, _last)),
        Client(
            "wget",
            "wget",
            "apt-get install wget",
            printed("wget", "--version"),
            command(_wget, _wget_said, gated=False),
        ),
        Client(
            "Node fetch",
            "node",
            "apt-get install nodejs",
            node,
            command(_script("node", "node_fetch.mjs"), _node_said),
        ),
        Client(
            "Node http", "node", "apt-get install nodejs", node, command(_script("node", "node_http.mjs"), _node_said)
        ),
        Client("Chromium", "chromium", "apt-get install chromium", printed("chromium", "--version"), chromium.opened),
        _python("http.client", "http"),
        _python("requests", "requests"),
        _python("httpx", "httpx"),
        _python("aiohttp", "aiohttp"),
    )
