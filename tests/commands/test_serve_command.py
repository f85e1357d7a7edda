"""`faultkit serve`, as a client in any language meets it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import smtplib
import socket
import ssl
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


NOBODYS = "is nobody's: leave it out, or name a --port without one"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("stall --port 0=linger", f"serve: every --port has a fault of its own, so FAULT {NOBODYS}"),
        ("--port 0=linger --plan stall,ok", f"serve: every --port has a fault of its own, so --plan {NOBODYS}"),
        ("--port 0=linger --random 0.5", f"serve: every --port has a fault of its own, so --random {NOBODYS}"),
        ("linger --port 7001 --port 7001", "serve: --port 7001 stands there twice: take another, 0 for a free one"),
        ("silence --udp --tls", "serve: --tls is of TCP, and --udp is not: leave one of them out"),
        ("linger --udp", "there is no fault 'linger' of UDP: it is one of silence, "),
        ("--udp --port 7001", "serve: no fault is named: name one, ok for none; faultkit serve --udp lists them"),
        ("ok --udp --answer http", "--answer http is nothing to answer: take 'echo', 'dns', bytes"),
        ("ok --udp --answer dns --body x", "serve: --answer dns and --body: leave one of them out"),
        ("ok --starttls", "serve: --starttls is of SMTP: add --answer smtp"),
        ("ok --no-pongs", "serve: --no-pongs is of a WebSocket: add --answer websocket"),
        (
            "ok --http --header Content-Length:5",
            "--header Content-Length:5: the body has 20 bytes: leave it out, or write such an answer as bytes",
        ),
        (
            "ok --answer http2 --header Connection:close",
            "--header Connection:close: HTTP/2 has no such header: leave it out",
        ),
        ("ok --status 99", "--status 99: it is 200 to 599"),
        ("ok --unix=", "--unix '' is no path of a file: take one such as /run/x.sock, or True"),
    ],
)
def test_what_would_be_dropped_is_refused(typed: str, sentence: str) -> None:
    ended = run(*typed.split())
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"faultkit: {sentence}"), ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_without_a_fault_of_its_own_has_the_one_that_is_named() -> None:
    with served("stall", "--port", "0=linger", "--port", "0", "--json") as server:
        second = json.loads(server.stdout.readline())
        assert told(server.address) == 104
        with socket.create_connection((second["host"], second["port"])) as client:
            client.sendall(b"x")
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)
        assert server.end()[0] == 0


AT_IMPORT = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Ends(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

from faultkit.__main__ import main
sys.meta_path.insert(0, Ends())
main({arguments!r})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("module", ["faultkit.commands.line.main", "click", "faultkit.serving.foreground", "trio"])
def test_a_signal_that_comes_while_it_begins_ends_it_in_order(module: str, number: int) -> None:
    arguments = ["serve", "linger", "--body", "x"]
    script = AT_IMPORT.format(module=module, number=int(number), arguments=arguments)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "faultkit: serve: no client came\n")


def test_a_proxy_too() -> None:
    script = AT_IMPORT.format(module="trio", number=15, arguments=["proxy", "0", "127.0.0.1:9"])
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "faultkit: proxy: no client came\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_body_that_nobody_writes_holds_nothing_up(number: signal.Signals, tmp_path: Path) -> None:
    body = tmp_path / "body"
    os.mkfifo(body)
    argv = [sys.executable, "-m", "faultkit", "serve", "ok", "--body-file", str(body)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        # It waits in open(2), which is seen from outside alone.
        until(lambda: Path(f"/proc/{process.pid}/wchan").read_text() in ("wait_for_partner", "fifo_open"))
        process.send_signal(number)
        assert process.stderr
        assert (process.stderr.read(), process.wait(PATIENCE)) == ("faultkit: serve: no client came\n", 1)


def asked_by_udp(address: tuple[str, int], data: bytes) -> bytes | None:
    """What one datagram is answered with; None for nothing in a while."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(address)
        client.send(data)
        return client.recv(65536)


def test_udp_says_what_came() -> None:
    with served("--udp", "--plan", "truncate:1,ok", "--connections", "2") as server:
        where = server.first.split()[2]
        assert where.startswith("udp://127.0.0.1:")
        address = "127.0.0.1", int(where.rpartition(":")[2])
        assert (asked_by_udp(address, b"abc"), asked_by_udp(address, b"abc")) == (b"a", b"abc")
        out, err = server.process.communicate(timeout=PATIENCE)
    assert (server.process.returncode, err) == (0, "")
    assert [(words[0], words[2:]) for words in map(str.split, out.splitlines())] == [
        ("1", ["truncate:1", "3", "in", "1", "out"]),
        ("2", ["ok", "3", "in", "3", "out"]),
    ]


def test_udp_for_machines_and_under_control(tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    os.mkfifo(orders)
    with served("port-unreachable", "--udp", "--answer", "dns", "--json", "--control", str(orders)) as server:
        assert json.loads(server.first)["url"] == f"udp://127.0.0.1:{server.address[1]}"
        with pytest.raises(ConnectionRefusedError):
            asked_by_udp(server.address, b"x")
        with orders.open("w") as told:
            print("heal\nrestart\narm duplicate", file=told, flush=True)
            lines = [json.loads(server.stdout.readline()) for _ in range(3)]
            assert [line["refused"] for line in lines] == [
                None,
                "restart: a server of UDP has no connections to reset: fire and heal do what there is to do",
                None,
            ]
            query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"
            answer = asked_by_udp(server.address, query)
            assert answer and answer.endswith(socket.inet_aton("127.0.0.1"))
            line = json.loads(server.stdout.readline())
            assert (line["event"], line["number"], line["fault"], line["received"]) == ("datagram", 1, "duplicate", 19)
            assert line["sent"] == 2 * len(answer)
            print("quit", file=told, flush=True)
            assert server.process.wait(PATIENCE) == 0


def test_the_faults_of_udp_are_listed() -> None:
    ended = run("--udp")
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.splitlines() if line[:1].strip()] == [
        "silence",
        "port-unreachable",
        "truncate[:N]",
        "garbage[:N]",
        "duplicate",
        "other-port",
    ]


def test_starttls() -> None:
    with served("linger", "--at", "handshake", "--starttls", "--answer", "smtp", "--json") as server:
        context = ssl.create_default_context(cafile=json.loads(server.first)["ca_file"])
        with smtplib.SMTP(*server.address, timeout=PATIENCE) as mail:
            mail.ehlo()
            assert mail.has_extn("starttls")
            with pytest.raises((OSError, smtplib.SMTPServerDisconnected)):
                mail.starttls(context=context)
                mail.ehlo()
        assert server.end()[0] == 0


def test_pings_without_pongs() -> None:
    from websockets.sync.client import connect

    for arguments, comes in (((), True), (("--no-pongs",), False)):
        with served("ok", "--answer", "websocket", *arguments) as server:
            host, port = server.address
            with connect(f"ws://{host}:{port}/") as client:
                pong = client.ping()
                client.send("x")
                assert client.recv(PATIENCE) == "x"  # a pong would have come before it
                assert pong.is_set() is comes


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
            "serve: refuse lets nobody in, so --connections 1 never comes: leave it out",
        ),
    ],
)
def test_what_would_not_be_heard_of_is_refused(typed: list[str], sentence: str) -> None:
    ended = faultkit("serve", *typed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"faultkit: {sentence}\n")
