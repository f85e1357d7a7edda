"""`faultkit serve`, as a client in any language meets it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faultkit.errors import Misuse, Unable
from faultkit.evidence.transcript import Address
from faultkit.playing.signals import endings
from faultkit.serving import faults
from faultkit.serving.record import Connection, Met
from faultkit.serving.waiting import Waiting
from faultkit.views.served import document, line
from tests.ordinary import CHECKOUT, command
from tests.serving.client import PATIENCE
from tests.shell import faultkit
from tests.watch import until

CURL = shutil.which("curl")


class Served:
    """A running `faultkit serve`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout
        self.stdout = process.stdout
        self.first = self.stdout.readline()

    @property
    def address(self) -> tuple[str, int]:
        if self.first.startswith("{"):
            told = json.loads(self.first)
            return told["host"], told["port"]
        host, _, port = (
            self.first.split()[2].removeprefix("http://").removeprefix("https://").rstrip("/").rpartition(":")
        )
        return host.strip("[]"), int(port)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit status, what it wrote after the first line, and what it complained of."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextlib.contextmanager
def served(*arguments: str, ordinary: bool = False) -> Iterator[Served]:
    argv = command(sys.executable, "-m", "faultkit", "serve", *arguments, ordinary=ordinary)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment
    ) as process:
        try:
            yield Served(process)
        finally:
            process.kill()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "faultkit", "serve", *arguments],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=60,
    )


def told(address: tuple[str, int], data: bytes = b"x") -> bytes | int:
    """What one request is told: bytes, or an errno."""
    with socket.create_connection(address) as client:
        client.settimeout(PATIENCE)
        client.sendall(data)
        try:
            return client.recv(65536)
        except OSError as error:
            return error.errno or 0


@pytest.mark.parametrize("ordinary", [False, True], ids=["root", "nobody"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_serves_until_it_is_told_to_end(number: signal.Signals, ordinary: bool) -> None:
    with served("linger", ordinary=ordinary) as server:
        assert server.first == f"listening on http://127.0.0.1:{server.address[1]}/ (Ctrl-C ends it)\n"
        assert told(server.address) == 104
        status, out, err = server.end(number)
    assert (status, err) == (0, "")
    words = out.split()
    assert (words[0], words[2:9]) == ("1", ["linger", "1", "in", "0", "out", "abort", "after"])


def test_nobody_came() -> None:
    with served("linger") as server:
        assert server.end(signal.SIGINT) == (1, "", "faultkit: serve: no client came\n")


def test_a_connection_that_goes_on_is_ended_with_it() -> None:
    with served("stall") as server, socket.create_connection(server.address) as client:
        client.sendall(b"x")
        with socket.create_connection(server.address):
            status, out, err = server.end()
    assert (status, err) == (0, "")
    assert [text.split()[0] for text in out.splitlines()] == ["1", "2"] or "server closed" in out


def test_lines_for_machines() -> None:
    with served("--plan", "linger,ok", "--json", "--connections", "2") as server:
        assert json.loads(server.first) == {
            "event": "listening",
            "host": "127.0.0.1",
            "port": server.address[1],
            "url": f"http://127.0.0.1:{server.address[1]}/",
        }
        assert told(server.address) == 104
        assert told(server.address) == b"x"
        out, err = server.process.communicate(timeout=PATIENCE)
    lines = [json.loads(text) for text in out.splitlines()]
    assert [(text["event"], text["number"], text["fault"], text["ended"]) for text in lines] == [
        ("connection", 1, "linger", "abort"),
        ("connection", 2, "ok", "peer closed"),
    ]
    assert (server.process.returncode, err) == (0, "")


def test_a_line_for_machines_is_the_document_of_the_connection() -> None:
    record = Connection(3, Address("::1", 4711), "linger", Waiting())
    record.ended, record.seconds = "close with 1 byte unread", 1.25
    record.met = [Met("linger", 0.5)]
    assert (
        line(record)
        == "  3  [::1]:4711       linger             0 in     0 out  close with 1 byte unread after 1250.0 ms"
    )
    record.ended = 'lost: "x"'
    assert json.loads(document(record)) == {"event": "connection", **record.document()}
    record.peer, record.met = None, []
    assert json.loads(document(record)) == {"event": "connection", **record.document()}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("linger",), "curl: (56) Recv failure: Connection reset by peer"),
        (("unread",), "curl: (56) Recv failure: Connection reset by peer"),
        (("accept-then-close",), "curl: (52) Empty reply from server"),
        (("truncate", "--http"), "curl: (18) transfer closed with 10 bytes remaining to read"),
        (("refuse",), "curl: (7) Failed to connect to 127.0.0.1 port"),
        (("connect-hang",), "curl: (28)"),
        (("ok", "--http", "--body", "hello"), ""),
    ],
)
def test_curl_says(arguments: tuple[str, ...], says: str) -> None:
    assert CURL
    with served(*arguments) as server:
        url = f"http://127.0.0.1:{server.address[1]}/"
        ended = subprocess.run(
            [CURL, "-sS", "--max-time", "1", "--noproxy", "*", url], capture_output=True, text=True, timeout=PATIENCE
        )
        assert ended.stderr.startswith(says)
        assert bool(ended.returncode) == bool(says)
        if not says:
            assert ended.stdout == "hello"
        assert server.end()[0] == 0


# Exit codes of curl: what is sent at once may meet connect(), send or recv, by chance.
@pytest.mark.parametrize(("at", "codes"), [("accept", {7, 35}), ("client-hello", {35}), ("handshake", {55, 56})])
def test_curl_over_tls(at: str, codes: set[int]) -> None:
    assert CURL
    with served("linger", "--tls", "--at", at, "--json") as server:
        opening = json.loads(server.first)
        assert opening["url"] == f"https://127.0.0.1:{opening['port']}/"
        ended = subprocess.run(
            [CURL, "-sS", "--cacert", opening["ca_file"], "--noproxy", "*", opening["url"]],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode in codes, ended.stderr
        assert server.end()[0] == 0
    assert not os.path.exists(opening["ca_file"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_authority_is_for_everybody_to_read_and_ends_with_the_server(number: signal.Signals) -> None:
    with served("ok", "--tls", "--json") as server:
        path = Path(json.loads(server.first)["ca_file"])
        reading = command("cat", str(path), ordinary=True)
        assert subprocess.run(reading, capture_output=True, check=True).stdout.startswith(b"-----BEGIN CERTIFICATE")
        server.end(number)
        until(lambda: not path.exists())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("lingr",), "there is no fault 'lingr': did you mean linger?"),
        (("linger", "--after-bytes", "-1"), "--after-bytes -1 never comes: take 0 or more"),
        (("linger", "--plan", "ok"), "fault 'linger' and a plan: the plan says what each connection gets"),
        (
            ("linger", "--host", "192.0.2.1"),
            "--host 192.0.2.1 is not loopback, and others could reach what is broken on purpose: say --beyond-loopback",
        ),
        (("linger", "--port", "70000"), "--port 70000 is no port: it is 0 to 65535, 0 for a free one"),
        (("linger", "--connections", "0"), "serve: --connections 0 would end at once: take 1 or more"),
        (("linger", "--random", "2"), "--random 2.0 is not a probability"),
        (("linger", "--after-idle", "-5"), "--after-idle -5 never comes: take more than 0"),
        (("linger", "--at", "handshake"), "--at handshake never comes without TLS: add --tls"),
        (("linger", "--host", "127.0.0.1", "--ipv6"), "--host 127.0.0.1 is no IPv6 address: leave --ipv6 out"),
        (("ok", "--body-file", "/dev/zero"), "serve: --body-file /dev/zero has more than 67108864 bytes"),
        (("linger", "--at", "lunch"), "serve: Invalid value for '--at'"),
    ],
)
def test_misuse_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"faultkit: {sentence}")
    assert ended.stderr.count("\n") == 1


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("linger", "--port", str(port))
    assert ended.returncode == 2
    assert ended.stderr == f"faultkit: port {port} is in use on 127.0.0.1: leave it out to get a free one\n"


def test_a_port_is_served_again_at_once() -> None:
    """With what is left of the last one's connections in TIME-WAIT."""
    with served("late-write") as first:
        assert told(first.address) == b""
        first.end()
    with served("linger", "--port", str(first.address[1])) as second:
        assert second.address == first.address
        assert told(second.address) == 104
        assert second.end()[0] == 0


def test_without_a_fault_it_lists_them() -> None:
    ended = run()
    assert ended.returncode == 0
    lines = {text.split()[0]: text for text in ended.stdout.splitlines()}
    named = [*(name for name, _, _ in faults.known()), *faults.SPOKEN]
    assert [name.removesuffix("[:N]") for name in lines] == named
    assert max(map(len, lines.values())) <= 150
    for name, text in lines.items():
        with contextlib.nullcontext() if name.endswith("[:N]") else pytest.raises((Misuse, Unable)):
            assert faults.fault(f"{name.removesuffix('[:N]')}:5").name.endswith(":5")
        assert ("; N: " in text) == name.endswith("[:N]")
    assert {name for name, text in lines.items() if "needs CAP_NET_ADMIN" in text} == {"half-open"}


def test_a_reader_that_goes_away_does_not_end_it() -> None:
    with served("linger", "--connections", "3") as server:
        server.stdout.close()
        assert [told(server.address) for _ in range(3)] == [104] * 3
        assert server.process.wait(PATIENCE) == 0
        assert server.process.stderr
        assert server.process.stderr.read() == (
            "faultkit: serve: nobody read standard output: lines that did not get there: 3\n"
        )


def test_out_of_descriptors_is_said() -> None:
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)); "
        "from faultkit.commands.line.main import main; main(['serve', 'stall'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", limited], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        server = Served(process)
        with contextlib.ExitStack() as clients:
            for _ in range(60):
                clients.enter_context(socket.create_connection(server.address)).sendall(b"x")
            first = clients.enter_context(socket.create_connection(server.address))
            first.close()
        # All have gone: whoever comes now is served.
        with socket.create_connection(server.address) as later:
            later.sendall(b"x")
            status, _, err = server.end()
    assert status == 3
    assert "no more than 40 files may be open at once here (ulimit -n)" in err
    assert err.count("\n") == 1


def test_what_nohup_ignores_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signal.SIGHUP in endings()
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    assert endings() == [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["--http"], "serve: no fault is named: name one, ok for none; faultkit serve lists them"),
        (
            ["refuse", "--connections", "1"],
            "serve: refuse lets no connection in, so --connections 1 never comes: leave it out",
        ),
    ],
)
def test_what_would_not_be_heard_of_is_refused(typed: list[str], sentence: str) -> None:
    ended = faultkit("serve", *typed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"faultkit: {sentence}\n")
