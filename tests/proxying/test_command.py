"""`faultkit proxy` as its users have it: what it says, what it leaves, and that it ends in order."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import faultkit
from faultkit.commands.line.main import run
from faultkit.commands.proxy import command
from faultkit.witness.wire import Refused, packet_socket
from tests import ordinary
from tests.proxying.behind import outcome
from tests.watch import until


@contextlib.contextmanager
def running(
    *options: str, user: str = "", to: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command in front of an echo, or of another port, with what it says first."""
    with faultkit.serve() as service:
        argv = ["-m", "faultkit", "proxy", "0", f"127.0.0.1:{to or service.port}", "--json", *options]
        argv = ordinary.command(sys.executable, *argv, ordinary=user == "nobody")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                yield process, json.loads(process.stdout.readline() or "{}")
            finally:
                process.kill()


def talk(port: int) -> object:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"x" * 150)
        return outcome(lambda: client.recv(1000))


def test_it_passes_and_says_a_line_for_each_connection(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    with running("--fault", "linger", "--after-sent", "100", "--connections", "2", "--record", str(record)) as (
        process,
        opening,
    ):
        assert opening["event"] == "listening"
        assert [talk(opening["port"]) for _ in range(2)] in ([b"x" * 100] * 2, [b"x" * 100, b"x" * 100])
        out, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
        lines = [json.loads(line) for line in out.splitlines()]
        assert [(line["number"], line["fault"], line["sent"], line["ended"]) for line in lines] == [
            (1, "linger", 100, "abort"),
            (2, "linger", 100, "abort"),
        ]
    kept = json.loads(record.read_text())
    assert [one["number"] for one in kept["connections"]] == [1, 2]
    assert [one["kind"] for one in kept["events"] if one["connection"] == 1] == [
        "accepted",
        "connected",
        "fault",
        "ended",
    ]
    assert kept["seed"] == opening["seed"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_ends_it_in_order(number: int) -> None:
    with running("--latency", "60000") as (process, opening):
        with socket.create_connection(("127.0.0.1", opening["port"]), timeout=10) as client:
            client.sendall(bytes(1000))
            process.send_signal(number)
            assert outcome(lambda: client.recv(1)) == b""
        assert process.wait(20) == 0
        assert process.stdout
        assert json.loads(process.stdout.readline())["ended"] == signal.Signals(number).name
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", opening["port"]))


def test_a_reader_that_goes_away_ends_no_connection(tmp_path: Path) -> None:
    """As of `faultkit proxy ... | head -1`."""
    record = tmp_path / "run.json"
    with running("--record", str(record)) as (process, opening):
        with socket.create_connection(("127.0.0.1", opening["port"]), timeout=10) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert process.stdout
            process.stdout.close()
            for _ in range(3):
                assert talk(opening["port"]) == b"x" * 150
            client.sendall(b"y")
            assert client.recv(1) == b"y"
            process.terminate()
            assert client.recv(1) == b""
        assert process.stderr
        assert process.stderr.read() == (
            "faultkit: proxy: nobody read standard output: lines that did not get there: 4\n"
        )
        assert process.wait(20) == 0
    kept = json.loads(record.read_text())
    assert [(one["number"], one["ended"]) for one in kept["connections"]][-1] == (1, "SIGTERM")
    assert kept["events"][-1]["text"] == f"127.0.0.1:{opening['port']}: SIGTERM"


def test_a_disk_that_is_full_ends_no_connection(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    with faultkit.serve() as service, open("/dev/full", "w") as full:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        argv = [sys.executable, "-m", "faultkit", "proxy", str(port), f"127.0.0.1:{service.port}"]
        argv += ["--connections", "2", "--record", str(record)]
        with subprocess.Popen(argv, stdout=full, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: outcome(lambda: talk(port)) == b"x" * 150, process)
            assert talk(port) == b"x" * 150
            _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (
        3,
        "faultkit: the output cannot be written: No space left on device\n",
    )
    assert len(json.loads(record.read_text())["connections"]) == 2


def test_an_ordinary_user_has_it_too() -> None:
    with running("--toxic", "slicer,average_size=10,towards=upstream", "--connections", "1", user="nobody") as (
        process,
        opening,
    ):
        assert talk(opening["port"])
        assert process.wait(20) == 0


def test_a_thousand_that_say_nothing() -> None:
    """9,000 of them, and their memory, are in benchmarks/proxy.py."""
    many = 1000
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        argv = [sys.executable, "-m", "faultkit", "proxy", "0", f"127.0.0.1:{service.getsockname()[1]}", "--json"]
        process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout
        address = ("127.0.0.1", json.loads(process.stdout.readline())["port"])
        pairs = []
        for _ in range(many):
            client = stack.enter_context(socket.create_connection(address, timeout=10))
            pairs.append((client, stack.enter_context(service.accept()[0])))
        for number, (client, _) in enumerate(pairs):
            client.sendall(number.to_bytes(4, "big"))
        assert sorted(int.from_bytes(server.recv(4), "big") for _, server in pairs) == list(range(many))


def test_no_client_is_said() -> None:
    with running() as (process, _):
        process.terminate()
        out, errors = process.communicate(timeout=20)
        assert (process.returncode, out, errors) == (1, "", "faultkit: proxy: no client came\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rate", "0"], "0 is no number of bytes per second, such as 50k"),
        (["--toxic", "slicer,size=1"], "slicer takes no size: it takes average_size, size_variation, delay"),
        (["--toxic", "slicer,average_size=1,size_variation=2"], "size_variation=2 is more than average_size=1"),
        (["--toxic", "latence"], "did you mean latency?"),
        (
            ["--toxic", "latency,latency=-1"],
            "--toxic latency,latency=-1: latency: latency=-1 ms makes no sense: it is 0 to ",
        ),
        (["--toxic", "linger,after_bytes=1,after_ms=1"], "linger: after_bytes and after_ms: it has one moment"),
        (["--toxic", "latency,latency=x"], "--toxic latency,latency=x: latency=x is no number"),
        (["--toxic", "latency,,"], "nothing behind a comma is no KEY=N"),
        (["--toxic", "latency,latency=1,latency=2"], "latency is there twice"),
        (["--latency", "-1"], "--latency -1 ms makes no sense: it is 0 to 2147483647"),
        (["--fault", "refuse", "--connections", "1"], "lets no connection in, so --connections 1 never comes"),
        (["--after-sent", "1"], "no fault"),
        (["--host", "0.0.0.0"], "--beyond-loopback"),
        (["--pcap", "/nowhere/at/all"], "/nowhere/at/all cannot be written: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(options: list[str], sentence: str) -> None:
    with pytest.raises((faultkit.Misuse, click.UsageError), match=re.escape(sentence)):
        command.main(["0", "localhost:1", *options], prog_name="proxy", standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["70000", "localhost:1"], "PORT 70000 is no port: it is 0 to 65535, 0 for a free one"),
        (["TAKEN", "localhost:1"], "is in use on 127.0.0.1: take another, or 0 for a free one"),
        (["-nope", "localhost:1"], "No such option '-nope'"),
        (["0", ""], "'' names no port: write HOST:PORT, such as localhost:6379"),
        (["0", "localhost:0"], "localhost:0 names port 0, where nobody listens"),
        (["0", "localhost:" + "9" * 5000], "names a port that is none"),
    ],
)
def test_what_is_no_port_and_no_service(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        typed = [str(taken.getsockname()[1]) if one == "TAKEN" else one for one in arguments]
        assert run(["proxy", *typed]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_descriptors_that_have_run_out_are_said_with_the_cure(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)); sys.argv[0] = 'faultkit';"
        "from faultkit.__main__ import main; main()"
    )
    with faultkit.serve() as service:
        argv = [
            sys.executable,
            "-c",
            code,
            "proxy",
            "0",
            f"127.0.0.1:{service.port}",
            "--json",
            "--record",
            str(record),
        ]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout
            port = json.loads(process.stdout.readline())["port"]
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(30)]
                clients[0].sendall(b"still there")
                assert clients[0].recv(100) == b"still there"
            process.terminate()
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert json.loads(record.read_text())["connections"]
    assert (
        "no more than 40 files may be open at once here (ulimit -n), which is too few: as root ulimit -n 1024" in errors
    )


def test_a_capture_of_both_sides_is_explained_as_the_fault(tmp_path: Path) -> None:
    try:
        packet_socket().close()
    except Refused:
        pytest.skip("packet capture")
    capture = tmp_path / "run.pcap"
    with running("--fault", "unread", "--pcap", str(capture), "--connections", "1") as (process, opening):
        assert talk(opening["port"]) == "ConnectionResetError"
        assert process.wait(20) == 0
    argv = [sys.executable, "-m", "faultkit", "explain", str(capture), "--json"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "200"})
    assert "unread" in ended.stdout
    assert str(opening["port"]) in ended.stdout
