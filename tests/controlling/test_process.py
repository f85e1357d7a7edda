"""The process: flags, environment, configuration, journal, signals."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from faultkit.commands.line.main import run
from faultkit.controlling.journal import Journal
from tests.controlling import served
from tests.controlling.served import connect, echo
from tests.ordinary import CHECKOUT
from tests.shell import ENVIRONMENT, faultkit

SERVER = [sys.executable, "-c", "from faultkit.__main__ import toxiproxy_server; toxiproxy_server()"]


def server(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVER, *flags], capture_output=True, text=True, cwd=CHECKOUT, env=ENVIRONMENT, timeout=30)


@pytest.mark.parametrize("flag", ["-version", "--version", "-version=true"])
def test_version(flag: str) -> None:
    ended = server(flag)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"toxiproxy-server version 2\.\d+\.\d+\n", ended.stdout)


@pytest.mark.parametrize(
    ("flags", "status", "sentence"),
    [
        (["-nonsense"], 2, "No such option"),
        (["-port", "x"], 2, "x is not a whole number"),
        (["-port", "70000"], 2, "--port 70000 is none: it is 0 to 65535"),
        (["-proxy-metrics=perhaps"], 2, "perhaps is neither true nor false"),
        (["-host", "no.invalid"], 2, "--host no.invalid is no address here"),
        (["-token", ""], 2, "--token is empty"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    flags: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["proxy", "--api", "-port=0", *flags]) == status
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_where_its_libraries_are_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "starlette", None)
        assert run(["proxy", "--api"]) == 3
    sentence = "proxy --api needs starlette, which is not installed: pip install starlette"
    assert capsys.readouterr() == ("", f"faultkit: {sentence}\n")


def test_the_command_is_the_same_program() -> None:
    ended = faultkit("proxy", "--api", "-version")
    assert (ended.returncode, ended.stdout) == (0, server("--version").stdout)


def test_a_port_that_is_taken_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = server("-host", "localhost", "-port", str(port))
    reason = f"listen tcp 127.0.0.1:{port}: bind: address already in use"
    assert ended.returncode == 3
    assert reason in ended.stderr
    last = json.loads(ended.stdout.splitlines()[-1])
    assert (last["level"], last["message"], last["error"]) == ("error", "Server finished with error", reason)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: int) -> None:
    with echo() as upstream, served.api() as api:
        body = {"name": "x", "listen": "localhost:0", "upstream": upstream}
        listen = api.ask("POST", "/proxies", body).json["listen"]
        with connect(listen) as client, socket.create_connection(("127.0.0.1", api.port)):
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert api.end(number) == 0
            assert client.recv(1) == b""
        assert api.said("Shutdown started")["level"] == "info"
        with pytest.raises(ConnectionRefusedError):
            connect(listen)


def test_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    proxy = {"name": "redis", "listen": "127.0.0.1:0", "upstream": "localhost:1", "toxics": [{"type": "noop"}]}
    file.write_text(json.dumps([proxy, {**proxy, "name": "off", "enabled": False}]))
    with served.api("-config", str(file)) as api:
        assert api.said("Populated proxies from file")["proxies"] == 2
        proxies = api.ask("GET", "/proxies").json
        assert [(name, one["enabled"], len(one["toxics"])) for name, one in proxies.items()] == [
            ("off", False, 1),
            ("redis", True, 1),
        ]
        assert api.end() == 0


@pytest.mark.parametrize(
    ("text", "message", "error", "left"),
    [
        (None, "Error reading config file", "open {}: no such file or directory", []),
        ("[{", "Failed to populate proxies from file", "bad request body: unexpected EOF", []),
        (
            '[{"name": "a", "upstream": "u:1", "listen": "localhost:0"}, {"name": "b", "upstream": "u:1", "listen": "X"}]',
            "Failed to populate proxies from file",
            "listen tcp: address X: missing port in address",
            ["a"],
        ),
    ],
)
def test_a_bad_configuration_is_said_and_the_server_runs(
    tmp_path: Path, text: str | None, message: str, error: str, left: list[str]
) -> None:
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    with served.api("--config", str(file)) as api:
        line = api.said(message)
        assert (line["level"], line["error"]) == ("error", error.format(file))
        assert list(api.ask("GET", "/proxies").json) == left
        assert api.ask("GET", "/metrics").status == 404


def test_a_configuration_without_an_end_is_said(tmp_path: Path) -> None:
    with served.api("--config", "/dev/zero") as api:
        line = api.said("Error reading config file")
        assert line["error"] == "it is larger than 16777216 bytes"
        assert api.ask("GET", "/version").status == 200


def test_the_journal(tmp_path: Path) -> None:
    with served.api() as api:
        api.ask("GET", "/version", User_Agent="curl")
        assert api.end() == 0
        api._reader.join()
        line = next(one for one in api.journal if one.get("handler"))
    assert (line["level"], line["method"], line["url"], line["status"]) == ("debug", "GET", "/version", 200)
    assert line["user_agent"] == "curl"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        (None, ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("WARNING", ["warn", "error"]),
        ("panic", []),
        ("trace", ["trace", "debug", "info", "warn", "error"]),
        ("nonsense", ["error", "debug", "info", "warn", "error"]),
    ],
)
def test_log_level(level: str | None, levels: list[str]) -> None:
    lines: list[str] = []
    journal = Journal(lines.append, level)
    for one in ("trace", "debug", "info", "warn", "error"):
        journal.add(one, "x")
    assert [json.loads(line)["level"] for line in lines] == levels
    if level == "nonsense":
        assert json.loads(lines[0])["message"] == 'unknown LOG_LEVEL value: "nonsense"'


def test_log_level_is_of_the_environment() -> None:
    with served.api(LOG_LEVEL="info") as api:
        api.ask("GET", "/version")
        assert api.end() == 0
        api._reader.join()
    assert {line["level"] for line in api.journal[:-1]} == {"info"}


def test_a_seed_repeats_who_is_met() -> None:
    def lots() -> list[bytes]:
        with echo() as upstream, served.api("-seed", "7") as api:
            toxics = [{"type": "limit_data", "toxicity": 0.5, "attributes": {"bytes": 0}}]
            body = {"name": "x", "listen": "localhost:0", "upstream": upstream, "toxics": toxics}
            listen = api.ask("POST", "/proxies", body).json["listen"]
            met = []
            for _ in range(20):
                with connect(listen) as client:
                    client.sendall(b"x")
                    met.append(client.recv(1))
            return met

    first = lots()
    assert first == lots()
    assert set(first) == {b"", b"x"}


def test_runtime_metrics() -> None:
    with served.api("-runtime-metrics") as api:
        text = api.ask("GET", "/metrics").body.decode()
        assert re.search(r'^go_build_info\{checksum="[^"]*",path="[^"]*",version="[^"]*"\} 1$', text, re.M)
        found = re.search(r"^process_open_fds (\d+)$", text, re.M)
        assert found
        assert 5 < int(found[1]) < 100
        assert "toxiproxy_proxy" not in text


@pytest.mark.parametrize("name", ["a/b", "ä %", "a%2Fb", "//", "?x=1#y", "..", "100%"])
def test_a_name_may_be_any(api: served.Api, name: str) -> None:
    """A slash of the name goes as %2F, as every client's escaping of a path segment has it."""
    path = f"/proxies/{quote(name, safe='')}"
    made = api.ask("POST", "/populate", [{"name": name, "upstream": "u"}, {"name": "other", "upstream": "u"}])
    assert made.status == 201
    try:
        assert api.ask("GET", path).json["name"] == name
        toxic = api.ask("POST", f"{path}/toxics", {"type": "noop", "name": name}).json
        assert toxic["name"] == name
        assert api.ask("GET", f"{path}/toxics/{quote(name, safe='')}").json == toxic
        assert api.ask("DELETE", f"{path}/toxics/{quote(name, safe='')}").status == 204
    finally:
        assert api.ask("DELETE", path).status == 204
    assert list(api.ask("GET", "/proxies").json) == ["other"]
    assert api.ask("DELETE", "/proxies/other").status == 204


def test_a_slash_that_is_not_escaped_parts_the_path(api: served.Api) -> None:
    assert api.ask("GET", "/proxies/a/b").status == 404
    assert api.ask("GET", "/%70roxies").status == 200


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def test_there_is_no_http_2(api: served.Api) -> None:
    assert api.raw(PREFACE).startswith(b"HTTP/1.1 505 ")
    upgrade = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    answer = api.raw(b"GET /version HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"version": "2.12.0"}\n')


@pytest.mark.parametrize(
    "begun", [b"GET /ver", b"POST /proxies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"]
)
def test_a_request_that_is_under_way_holds_up_no_end(begun: bytes) -> None:
    with served.api() as api, socket.create_connection(("127.0.0.1", api.port), served.PATIENCE) as client:
        client.sendall(begun)
        assert api.ask("GET", "/version").status == 200  # so the other has been read
        began = time.monotonic()
        assert api.end() == 0
        assert time.monotonic() - began < 0.4
        if begun.startswith(b"POST"):
            assert client.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_a_reader_of_the_journal_that_goes_away_ends_nothing() -> None:
    """It is closed before anything is asked: what the server writes is refused from then on."""
    with echo() as upstream, served.api() as api:
        descriptor = api.process.stdout
        assert descriptor
        body = {"name": "x", "listen": "localhost:0", "upstream": upstream}
        listen = api.ask("POST", "/proxies", body).json["listen"]
        with connect(listen) as client:
            api.hang_up()
            for _ in range(5):
                assert api.ask("GET", "/proxies").status == 200
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert api.end() == 0


def test_descriptors_that_have_run_out_are_told_in_the_journal() -> None:
    with served.api(most_files=30) as api, contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", api.port), served.PATIENCE))
        line = api.said("accept returned EMFILE")
        assert line["level"] == "error"
        stack.close()
        assert api.ask("GET", "/version").status == 200
        assert api.end() == 0


def test_a_connection_ends_with_its_client(api: served.Api) -> None:
    descriptors = Path(f"/proc/{api.process.pid}/fd")
    assert api.ask("GET", "/version").status == 200
    before = len(list(descriptors.iterdir()))
    for _ in range(30):
        socket.create_connection(("127.0.0.1", api.port)).close()
    deadline = time.monotonic() + served.PATIENCE
    while len(list(descriptors.iterdir())) > before:
        assert time.monotonic() < deadline
