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
from faultkit.commands.proxy import command
from faultkit.witness.wire import Refused, packet_socket
from tests import ordinary
from tests.proxying.behind import outcome


@contextlib.contextmanager
def running(*options: str, user: str = "") -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command in front of an echo, with what it says first."""
    with faultkit.serve() as service:
        argv = ["-m", "faultkit", "proxy", "0", f"127.0.0.1:{service.port}", "--json", *options]
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
        assert json.loads(process.stdout.readline())["ended"] == "disabled"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", opening["port"]))


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
        (["--fault", "refuse", "--connections", "1"], "lets no connection in, so --connections 1 never comes"),
        (["--after-sent", "1"], "no fault"),
        (["--host", "0.0.0.0"], "--beyond-loopback"),
        (["--pcap", "/nowhere/at/all"], "/nowhere/at/all cannot be written: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(options: list[str], sentence: str) -> None:
    with pytest.raises((faultkit.Misuse, click.UsageError), match=re.escape(sentence)):
        command.main(["0", "localhost:1", *options], prog_name="proxy", standalone_mode=False)


def test_descriptors_that_have_run_out_are_said_with_the_cure() -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)); sys.argv[0] = 'faultkit';"
        "from faultkit.__main__ import main; main()"
    )
    with faultkit.serve() as service:
        argv = [sys.executable, "-c", code, "proxy", "0", f"127.0.0.1:{service.port}", "--json"]
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
