"""What the tests of the API stand on: a server in a process of its own, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.ordinary import CHECKOUT, command
from tests.shell import ENVIRONMENT

PATIENCE = 10.0  # seconds; never waited for where all is well


class Answer(NamedTuple):
    """What came."""

    status: int
    headers: Mapping[str, str]  # by their names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a document."""
        return json.loads(self.body)


class Api:
    """The server, and its journal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.journal: list[dict[str, Any]] = []
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.port = int(self.said("Starting Toxiproxy HTTP server")["address"].rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._came:
                self.journal.append(json.loads(line))
                self._came.notify_all()
        with self._came:
            self.journal.append({"message": "its end"})
            self._came.notify_all()

    def hang_up(self) -> None:
        """Read no more of the journal, as a reader that ends."""
        assert self.process.stdout
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), self.process.stdout.fileno())

    def said(self, message: str) -> dict[str, Any]:
        """Wait for a line of the journal that begins so, and give it."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.journal if one.get("message", "").startswith(message)), None)

        with self._came:
            assert self._came.wait_for(lambda: found() or self.journal[-1:] == [{"message": "its end"}], PATIENCE)
        line = found()
        assert line, self.journal
        return line

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request: a body that is no bytes goes as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, data, names)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """What comes to these bytes, until the end."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit status after that signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def api(
    *flags: str, most_files: int | None = None, user: str = "", denied: bool = False, **environment: str
) -> Iterator[Api]:
    """The server, started as toxiproxy's is, at a free port, by that user ("": who we are)."""
    start = "from faultkit.__main__ import toxiproxy_server; toxiproxy_server()"
    if most_files:
        start = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({most_files}, {most_files})); {start}"
    argv = [sys.executable, "-c", start, "-host", "127.0.0.1", "-port=0", *flags]
    process = subprocess.Popen(
        command(*argv, ordinary=user == "nobody", denied=denied),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env=ENVIRONMENT | environment,
    )
    with process:
        try:
            one = Api(process)
            yield one
        finally:
            process.kill()
        assert process.stderr
        assert process.stderr.read() == ""
        one._reader.join(PATIENCE)


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """A service that says what it hears; its address."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve(sock: socket.socket) -> None:
            with contextlib.suppress(OSError), sock:
                while data := sock.recv(65536):
                    sock.sendall(data)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield "{}:{}".format(*door.getsockname())
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def connect(listen: str) -> socket.socket:
    """To a proxy, by the address that the API told."""
    host, _, port = listen.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def silent(sock: socket.socket) -> bool:
    """Is there nothing to read?"""
    return not select.select([sock], [], [], 0)[0]


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
