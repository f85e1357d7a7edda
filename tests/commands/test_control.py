"""`faultkit serve` under control: orders by lines and by signals, several ports, any bytes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_serve_command import run
from tests.ordinary import CHECKOUT
from tests.serving.client import PATIENCE


class Controlled:
    """A running `faultkit serve --json`, with a pipe to its standard input."""

    def __init__(self, process: subprocess.Popen[str], servers: int) -> None:
        self.process = process
        openings = [self.next() for _ in range(servers)]
        self.opening = openings[0]
        self.addresses = [(told["host"], told["port"]) for told in openings]

    def next(self) -> dict[str, Any]:
        assert self.process.stdout
        found = json.loads(self.process.stdout.readline())
        assert isinstance(found, dict)
        return found

    def told(self, event: str) -> dict[str, Any]:
        """The next line of that kind."""
        while (found := self.next())["event"] != event:
            pass
        return found

    def order(self, line: str) -> str | None:
        """Carried out when this returns; why it was refused."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        found = self.told("control")
        assert found["order"] == line
        refused: str | None = found["refused"]
        return refused


@contextlib.contextmanager
def controlled(*arguments: str, servers: int = 1) -> Iterator[Controlled]:
    argv = [sys.executable, "-m", "faultkit", "serve", *arguments, "--json"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(argv, text=True, cwd=CHECKOUT, **pipes) as process:
        try:
            yield Controlled(process, servers)
        finally:
            process.kill()


def met(address: tuple[str, int]) -> str:
    """What one client is told."""
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(address)
            client.sendall(b"x")
            return client.recv(100).decode() or "EOF"
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def test_orders_are_done_when_they_are_answered() -> None:
    with controlled("linger", "--at", "fire", "--control", "-") as serve:
        (address,) = serve.addresses
        for _ in range(20):
            with socket.create_connection(address, timeout=PATIENCE) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                assert serve.order("fire") is None
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            assert serve.order("heal") is None
            assert met(address) == "x"
            assert serve.order("arm refuse") is None
            assert met(address) == "ECONNREFUSED"
            assert serve.order("arm linger@fire") is None
        with socket.create_connection(address, timeout=PATIENCE) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert serve.order("restart 60000") is None
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert met(address) == "ECONNREFUSED"
            assert serve.order("restart") is None
            assert met(address) == "x"
        assert serve.order("quit") is None
        assert serve.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("order", ["forget", "arm linger"])
@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_who_is_forgotten_has_come_for_all_that(order: str, udp: bool) -> None:
    with controlled("ok", *["--udp"] * udp, "--control", "-") as serve:
        (address,) = serve.addresses
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            client.connect(address)
            client.send(b"x")
            assert client.recv(1) == b"x"
        assert serve.order(order.replace("linger", "silence") if udp else order) is None
        assert serve.order("quit") is None
        assert serve.process.wait(PATIENCE) == 0


def test_signals() -> None:
    with controlled("linger", "--at", "fire") as serve:
        (address,) = serve.addresses
        with socket.create_connection(address, timeout=PATIENCE) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            serve.process.send_signal(signal.SIGUSR1)
            assert serve.told("control")["order"] == "fire"
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        serve.process.send_signal(signal.SIGUSR2)
        assert serve.told("control")["order"] == "heal"
        with socket.create_connection(address, timeout=PATIENCE) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            serve.process.send_signal(signal.SIGRTMIN)
            assert serve.told("control")["order"] == "restart"
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        serve.process.send_signal(signal.SIGTERM)
        assert serve.process.wait(PATIENCE) == 0


def test_several_ports_each_with_its_fault() -> None:
    with controlled(
        "--port", "0=linger", "--port", "0=refuse", "--port", "0=slices:1 + linger@sent=1", "--control", "-", servers=3
    ) as serve:
        reset, refused, sliced = serve.addresses
        assert [met(reset), met(refused), met(sliced), met(sliced)] == ["ECONNRESET", "ECONNREFUSED", "x", "x"]
        assert {serve.told("connection")["port"] for _ in range(3)} == {reset[1], sliced[1]}
        assert serve.order(f"heal port={refused[1]}") is None
        assert [met(reset), met(refused)] == ["ECONNRESET", "x"]
        assert serve.order("heal") is None
        assert [met(reset), met(refused), met(sliced)] == ["x", "x", "x"]
        sentence = serve.order("heal port=1")
        assert sentence == f"port=1 is none of these: {reset[1]}, {refused[1]}, {sliced[1]}"


def test_one_fault_at_several_ports_ends_after_so_many_of_all() -> None:
    with controlled("linger", "--port", "0", "--port", "0=ok", "--connections", "3", servers=2) as serve:
        first, second = serve.addresses
        assert [met(first), met(second), met(first)] == ["ECONNRESET", "x", "ECONNRESET"]
        assert serve.process.wait(PATIENCE) == 0


REFUSED = {
    "explode": "'explode' is none of what can be told: fire, heal, restart [MS], arm FAULT, forget, quit; port=N behind it "
    "names one of several",
    "fire now": "fire takes nothing, not 'now'",
    "arm": "arm takes FAULT, not ''",
    "arm lingr": "there is no fault 'lingr': did you mean linger?",
    "restart soon": "restart soon: it takes a whole number of milliseconds, in which it is down",
    "fire port=x": "port=x: it is port=N, once",
}


def test_what_cannot_be_done_is_one_sentence_and_all_goes_on() -> None:
    with controlled("ok", "--control", "-") as serve:
        for line, sentence in REFUSED.items():
            assert serve.order(line) == sentence
        refused = serve.order("fire")
        assert refused == "fire(): this server has no fault to set in: name one, as in serve('linger', at='fire')"
        assert met(serve.addresses[0]) == "x"
        assert serve.process.stdin
        serve.process.stdin.close()  # the end of the orders is not the end of the server
        assert met(serve.addresses[0]) == "x"


def test_orders_from_a_fifo(tmp_path: Path) -> None:
    fifo = tmp_path / "orders"
    os.mkfifo(fifo)
    with controlled("ok", "--control", str(fifo)) as serve:
        with open(fifo, "w") as orders:
            orders.write("arm linger\n")
            orders.flush()
            assert serve.told("control")["refused"] is None
            assert met(serve.addresses[0]) == "ECONNRESET"
            orders.write("quit")  # the last line needs no end
        assert serve.process.wait(PATIENCE) == 0
        assert serve.process.stderr
        assert serve.process.stderr.read() == ""


def test_any_bytes_from_a_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 300
    (tmp_path / "body").write_bytes(content)
    with (
        controlled("ok", "--body-file", str(tmp_path / "body")) as serve,
        socket.create_connection(serve.addresses[0], timeout=PATIENCE) as client,
    ):
        client.sendall(b"x")
        came = b""
        while len(came) < len(content):
            came += client.recv(65536)
    assert came == content


def test_tls_as_it_is_asked_for() -> None:
    asked = ("--cert", "example.org", "--client-cert", "--alpn", "x,y", "--status", "503", "--header", "Retry-After: 9")
    with controlled("ok", *asked, "--json") as serve:
        trusting = ssl.create_default_context(cafile=serve.opening["ca_file"])
        trusting.load_cert_chain(serve.opening["client_cert_file"])
        trusting.set_alpn_protocols(["y"])
        with (
            socket.create_connection(serve.addresses[0], timeout=PATIENCE) as plain,
            trusting.wrap_socket(plain, server_hostname="example.org") as client,
        ):
            assert client.selected_alpn_protocol() == "y"
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 503 \r\nContent-Type: text/plain\r\nRetry-After: 9\r\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ok", "--body", "x", "--body-file", "y"), "serve: --body and --body-file: leave one of them out"),
        (("ok", "--body-file", "/no/such"), "serve: --body-file /no/such cannot be read (No such file or directory)"),
        (("ok", "--control", "/no/such"), "control /no/such: it cannot be read: take a file, a FIFO, or -"),
        (("--port", "0=linger", "--port", "0"), "serve: no fault is named"),
        (("linger", "--port", "0="), "0=: a fault is named behind the ="),
        (("linger", "--port", "70000"), "--port 70000 is no port"),
    ],
)
def test_misuse_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert sentence in ended.stderr
