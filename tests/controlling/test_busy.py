"""Control never waits for data: toxics are changed a thousand times under traffic, beside a service that hangs and a reader that
stops, and not a byte is lost."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.controlling import served
from tests.controlling.served import PATIENCE, Api, connect, echo

CHANGES, MOST = 1000, 0.1  # seconds
TOXICS = (
    {"type": "latency", "attributes": {"latency": 3, "jitter": 2}},
    {"type": "bandwidth", "attributes": {"rate": 20_000}},
    {"type": "slicer", "attributes": {"average_size": 1000, "size_variation": 500, "delay": 10}},
    {"type": "noop", "toxicity": 0.5},
    {"type": "slow_close", "attributes": {"delay": 10}},
    {"type": "limit_data", "attributes": {"bytes": 1 << 40}},
)


def waited(pid: int) -> float:
    """Seconds that the main thread of a process has waited for a processor so far (proc(5), schedstat)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


class Traffic:
    """Bytes that go through a proxy to an echo and back, and are held against what was said."""

    def __init__(self, listen: str, seed: int) -> None:
        self.passed = 0
        self.wrong: str | None = None
        self._sock = connect(listen)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=one, args=(random.Random(seed),)) for one in (self._say, self._hear)]
        for thread in self._threads:
            thread.start()

    def _say(self, chance: random.Random) -> None:
        while not self._end.is_set():
            self._sock.sendall(chance.randbytes(4096))
            self._end.wait(0.002)  # a rate that leaves the machine to what is measured
        self._sock.shutdown(socket.SHUT_WR)

    def _hear(self, chance: random.Random) -> None:
        wanted = b""
        while data := self._sock.recv(65536):
            while len(wanted) < len(data):
                wanted += chance.randbytes(4096)
            if data != wanted[: len(data)]:
                self.wrong = f"after {self.passed} bytes"
                return
            wanted = wanted[len(data) :]
            self.passed += len(data)
        if wanted:
            self.wrong = f"the end after {self.passed} bytes, and {len(wanted)} more were said"

    def end(self) -> None:
        """The rest comes back, and the end."""
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._sock.close()


def changed(api: Api, names: list[str]) -> list[float]:
    """How long each of a thousand changes took, but for what the two processes waited for a processor."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE)
    took = []
    steps = itertools.cycle(
        (proxy, stream, toxic, step)
        for toxic in TOXICS
        for proxy in names
        for stream in ("upstream", "downstream")
        for step in ("POST", "PATCH", "DELETE")
    )
    for proxy, stream, toxic, step in itertools.islice(steps, CHANGES):
        path = f"/proxies/{proxy}/toxics"
        if step != "POST":
            path += f"/{toxic['type']}_{stream}"
        value = {**toxic, "stream": stream} if step == "POST" else toxic
        lost, began = waited(api.process.pid) + waited(os.getpid()), time.monotonic()
        connection.request(step, path, json.dumps(value))
        answer = connection.getresponse()
        told = answer.read()
        took.append(time.monotonic() - began - (waited(api.process.pid) + waited(os.getpid()) - lost))
        assert answer.status == (204 if step == "DELETE" else 200), (step, path, told)
    connection.close()
    return took


@contextlib.contextmanager
def full() -> Iterator[str]:
    """A service whose queue is full: a connect to it hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as door, contextlib.ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(door.getsockname())
        yield "{}:{}".format(*door.getsockname())


def test_a_thousand_changes_under_traffic() -> None:
    with echo() as upstream, full() as hanging, served.api() as api, contextlib.ExitStack() as stack:
        listen = {}
        for name, service in (("busy", upstream), ("stopped", upstream), ("hanging", hanging)):
            body = {"name": name, "listen": "localhost:0", "upstream": service}
            listen[name] = api.ask("POST", "/proxies", body).json["listen"]
        for _ in range(5):  # whose service does not answer
            stack.enter_context(connect(listen["hanging"])).sendall(b"x" * 1000)
        stopped = stack.enter_context(connect(listen["stopped"]))  # who does not read what comes back
        stopped.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                stopped.send(b"x" * 65536)
        traffic = [Traffic(listen["busy"], number) for number in range(4)]
        took = changed(api, list(listen))
        for one in traffic:
            one.end()
        assert [one.wrong for one in traffic] == [None] * 4
        assert min(one.passed for one in traffic) > 0
        assert max(took) < MOST
        assert api.ask("POST", "/reset").status == 204
        assert [api.ask("DELETE", f"/proxies/{name}").status for name in listen] == [204] * 3
        assert api.end() == 0
