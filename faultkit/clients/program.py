"""The clients, one row each, and how the plain ones are run: a command, what it wrote, its exit status."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from faultkit.errors import starting
from faultkit.stage.firewall import find

ENOUGH = 15.0  # seconds beyond its own limit, after which a client is taken to wait on; arbitrary
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
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


def _body(call: Call, directory: Path) -> str:
    file = directory / f"body-{call.upload}"
    if not file.exists():
        file.write_bytes(bytes(call.upload))
    return str(file)


def _curl(call: Call, directory: Path) -> list[str]:
    limit = ["--max-time", f"{call.limit_seconds:g}", "--silent", "--show-error", "--output", "/dev/null"]
    first, *further = [[*limit, url] for url in call.urls]
    if call.upload:
        (further or [first])[-1].extend(["--data-binary", f"@{_body(call, directory)}"])
    return ["curl", "--disable", *first, *(word for words in further for word in ("--next", *words))]


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
    broken = r"(?<=\) - ).*?(?= ?Retrying\.| ?Giving up\.)"
    return list(dict.fromkeys(re.findall(f"{failed}|{broken}", text, re.MULTILINE)))


def _script(interpreter: str, name: str, *words: str) -> Callable[[Call, Path], list[str]]:
    def argv(call: Call, directory: Path) -> list[str]:
        return [interpreter, str(ASKING / name), *words, *_asked(call)]

    return argv


def _asked(call: Call) -> list[str]:
    """What the programs of `asking` take."""
    return [f"{call.limit_seconds:g}", str(call.upload), *call.urls]


def _last(text: str) -> list[str]:
    """The line that ends a traceback."""
    return text.strip().splitlines()[-1:]


def _node_said(text: str) -> list[str]:
    """An uncaught error's own line, and its causes'."""
    found = re.findall(r"^ *((?:\[cause\]: )?(?:\w*Error|DOMException)\b.*?:.*?)(?: \{)?$", text, re.MULTILINE)
    return [line for line in found if not line.startswith("Error.captureStackTrace")]


def _java_said(text: str) -> list[str]:
    """An exception's own line, and its causes'."""
    found = re.findall(r"^(?:Exception in thread \"main\" |(Caused by: ))(.*)$", text, re.MULTILINE)
    return [caused + line for caused, line in found]


_NO_FILES = "-XX:-UsePerfData"  # else /tmp/hsperfdata_USER, wherever TMPDIR is


def _java(name: str) -> Client:
    def argv(call: Call, directory: Path) -> list[str]:
        return ["java", _NO_FILES, "-XX:+UseSerialGC", "-cp", str(directory), "Ask", name, *_asked(call)]

    version = printed("java", _NO_FILES, "--version")
    built = ("javac", f"-J{_NO_FILES}", "-d", ".", str(ASKING / "Ask.java"))
    return Client(
        f"Java {name}", "javac", "apt-get install default-jdk", version, command(argv, _java_said, built=built)
    )


def _nginx_said(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\[error\].*? \*\d+ (.*?), client: ", text)))


def _haproxy_said(text: str) -> list[str]:
    """Status and termination state of what did not end well (option httplog)."""
    found = re.findall(r" \S+/s [-\d/+]+ (-?\d+) \d+ - - ([^-]\S{3}) ", text)
    return [f"{status} <number> - - {state}" for status, state in dict.fromkeys(found)]


def _proxy(name: str, said: Callable[[str], list[str]], *version: str) -> Client:
    command_line = command(_script(sys.executable, "proxied.py", name.casefold()), said, logs=True)
    return Client(name, name.casefold(), f"apt-get install {name.casefold()}", printed(*version), command_line)


def _go() -> Client:
    def argv(call: Call, directory: Path) -> list[str]:
        return [str(directory / "ask"), *_asked(call)]

    built = ("go", "build", "-o", "ask", str(ASKING / "ask.go"))
    version = printed("go", "version")
    return Client("Go", "go", "apt-get install golang-go", version, command(argv, _go_said, built=built))


def _go_said(text: str) -> list[str]:
    """Which method it was makes no difference."""
    return [re.sub(r'^(?:Get|Post) (?=")', "<name> ", line) for line in _last(text)]


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
        _go(),
        _proxy("nginx", _nginx_said, "nginx", "-v"),
        _proxy("HAProxy", _haproxy_said, "haproxy", "-v"),
        _java("HttpURLConnection"),
        _java("HttpClient"),
    )
