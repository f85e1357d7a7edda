"""The command, the API, its page and the fixtures as an ordinary user who can make no namespace."""

from __future__ import annotations

import json
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import faultkit
from tests.controlling import served
from tests.controlling.served import connect, echo
from tests.ordinary import CHECKOUT, as_nobody
from tests.proxying.behind import outcome
from tests.shell import start

TOXICS = [
    {"type": "latency", "attributes": {"latency": 10}},
    {"type": "slicer", "attributes": {"average_size": 3}, "stream": "both"},
    {"type": "bandwidth", "attributes": {"rate": 1000}},
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Everybody's: pytest's own are for who runs it alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        yield Path(made)


def test_the_command(folder: Path) -> None:
    record = folder / "run.json"
    with faultkit.serve() as service:
        typed = ["0", f"127.0.0.1:{service.port}", "--json", "--plan", "linger,unread,crash,ok", "--latency", "5"]
        typed += ["--record", str(record), "--connections", "4"]
        with start("proxy", *typed, user="nobody", denied=True) as process:
            assert process.stdout
            port = json.loads(process.stdout.readline())["port"]
            told = []
            for _ in range(4):
                with socket.create_connection(("127.0.0.1", port), served.PATIENCE) as client:
                    client.sendall(b"x")
                    told.append(outcome(lambda: client.recv(1)))
            _, errors = process.communicate(timeout=20)
    assert told[:2] == ["ConnectionResetError"] * 2
    assert told[3] == b"x"
    assert (process.returncode, errors) == (0, "")
    assert [one["fault"] for one in json.loads(record.read_text())["connections"]] == [
        "linger",
        "unread",
        "crash",
        "ok",
    ]


def test_what_it_may_not_do_is_a_sentence(folder: Path) -> None:
    """Of a capture as nobody: what is missing, at once."""
    with start("proxy", "0", "localhost:1", "--pcap", str(folder / "x.pcap"), user="nobody", denied=True) as process:
        out, errors = process.communicate(timeout=20)
    assert (process.returncode, out) == (3, "")
    assert "CAP_NET_RAW" in errors
    assert errors.count("\n") == 1
    assert not list(folder.iterdir())


@pytest.mark.parametrize("page", [False, True], ids=["API", "page"])
def test_the_api(page: bool) -> None:
    with echo() as upstream, served.api(*(["--ui"] if page else []), user="nobody", denied=True) as api:
        assert Path(f"/proc/{api.process.pid}").stat().st_uid != 0
        body = {"name": "x", "listen": "localhost:0", "upstream": upstream, "toxics": TOXICS}
        listen = api.ask("POST", "/proxies", body).json["listen"]
        with connect(listen) as client:
            client.sendall(b"12345")
            assert client.makefile("rb").read(5) == b"12345"
            assert api.ask("POST", "/proxies/x/toxics", {"type": "linger"}).status == 200
            assert outcome(lambda: client.recv(1)) == "ConnectionResetError"  # it has said its first byte long ago
        assert api.ask("GET", "/").status == (200 if page else 404)
        assert api.end(signal.SIGINT) == 0


FIXTURES = """
import socket
import faultkit

def ask(address):
    with socket.create_connection(address, 5) as client:
        client.sendall(b"hello")
        return client.recv(100)

def test_sync(fault_server, fault_proxy):
    proxy = fault_proxy(fault_server().address)
    proxy.add(faultkit.latency(0.01))
    assert ask(proxy.address) == b"hello"

async def test_trio(fault_server, trio_fault_proxy):
    import trio
    proxy = trio_fault_proxy(fault_server().address, "linger")
    client = await trio.open_tcp_stream(*proxy.address)
    async with client:
        await client.send_all(b"x")
        try:
            assert await client.receive_some(1) == b""
        except trio.BrokenResourceError as error:
            assert isinstance(error.__cause__, ConnectionResetError)
"""


def test_the_fixtures(folder: Path) -> None:
    file = folder / "test_it.py"
    file.write_text(FIXTURES)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true", str(file)]
    ended = as_nobody(*argv, denied=True, cwd=CHECKOUT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout
