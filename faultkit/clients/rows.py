"""The clients, one row each."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Callable
from pathlib import Path

from faultkit.clients import chromium
from faultkit.clients.program import Call, Client, command, printed

ASKING = Path(__file__).with_name("asking")


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
