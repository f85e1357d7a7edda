"""The other servers that can reset a connection, each got from where it is published, into a temporary directory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from servers import Server, ours

HERE = Path(__file__).parent
REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

# Looked for in November 2026: PyPI and npm carry clients of it and no server, Debian 12 has no package.
TOXIPROXY = "it is a Go program; PyPI and npm have only clients of it, and Debian 12 has no package"


class NotHere(Exception):
    """A server that cannot be had on this machine: the reason in a sentence."""


def compiled(source: str, into: Path) -> str:
    """The path of a C program of this directory, compiled.

    Raises:
        NotHere: there is no gcc.
    """
    if not shutil.which("gcc"):
        raise NotHere(f"{source} needs gcc, and there is none; install gcc and libc6-dev")
    program = into / Path(source).stem
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(HERE / source)], check=True)
    return str(program)


def from_npm(package: str, into: Path) -> tuple[Path, str]:
    """Where npm has put the package, and its version.

    Raises:
        NotHere: npm is missing or could not get it.
    """
    if not shutil.which("npm") or not shutil.which("node"):
        raise NotHere("it comes from npm, and there is no npm and node here")
    quietly = ["--no-audit", "--no-fund", "--loglevel=error", "--cache", str(into / "npm-cache")]
    got = subprocess.run(["npm", "install", *quietly, "--prefix", str(into), package], capture_output=True, text=True)
    if got.returncode:
        why = [line for line in got.stderr.splitlines() if line.startswith("npm error")] or ["it does not say why"]
        raise NotHere(f"npm install {package} failed: {'; '.join(why[:3])}")
    where = into / "node_modules" / package
    return where, json.loads((where / "package.json").read_text())["version"]


def ours_by_request() -> Server:
    """Ours with the trigger that an HTTP server needs, for a fair pair."""
    return ours("linger", name="faultkit serve linger, a request", trigger=REQUEST)


def c(into: Path) -> Server:
    return Server("C epoll", [compiled("reset_server.c", into)])


def trio() -> Server:
    return Server("trio.serve_tcp", [sys.executable, str(HERE / "trio_server.py")])


def mockttp(into: Path) -> Server:
    _, version = from_npm("mockttp", into)
    command = ["node", str(HERE / "mockttp_server.js")]
    return Server(f"mockttp {version}", command, REQUEST, setting=(("NODE_PATH", str(into / "node_modules")),))


def wiremock(into: Path) -> Server:
    if not shutil.which("java"):
        raise NotHere("it needs a Java runtime, and there is no java here")
    where, version = from_npm("wiremock", into)
    [jar] = where.glob("build/wiremock-standalone-*.jar")
    mappings = into / "wiremock" / "mappings"
    mappings.mkdir(parents=True)
    stub = {"request": {"urlPattern": ".*"}, "response": {"fault": "CONNECTION_RESET_BY_PEER"}}
    (mappings / "reset.json").write_text(json.dumps(stub))
    # Its journal would keep each request in memory, and its log would print it.
    quiet = ["--no-request-journal", "--disable-request-logging"]
    root = ["--root-dir", str(mappings.parent)]
    command = ["java", "-jar", str(jar), "--port", "0", *root, *quiet]
    # Java compiles while it runs, on the same core: it gets faster for as long as that.
    return Server(f"WireMock {version}", command, REQUEST, r"^port:\s+(\d+)$", warm_up=150_000)
