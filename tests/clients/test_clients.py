"""The clients that are here, run for real, say what is kept of them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from faultkit.clients import kept, known, play, scene
from faultkit.clients.program import Call, Said
from faultkit.clients.rows import clients
from faultkit.serving import faults
from tests.shell import ENVIRONMENT, USERS, complaint, faultkit, start
from tests.watch import inside, moved, until

SAVE = "faultkit clients --repeat 4 --save faultkit/clients/messages.json"
# A reset as early as that is told by connect(), send() or recv(); an answer in the middle of an upload is read or not; what comes
# slowly comes even later on a busy machine, where a client has a limit of silence.
BY_CHANCE = {"accept-then-reset", "listener-closed", "early-response", "slow"}
REUSED = {one.fault for one in scene.scenes(own_kernel=True) if one.reused}
# What .ci/test installs, and the Python packages of the tests.
REAL = (
    "curl",
    "wget",
    "Node fetch",
    "Node http",
    "Chromium",
    "http.client",
    "requests",
    "httpx",
    "aiohttp",
    "nginx",
    "HAProxy",
)
HERE = [client.name for client in clients() if client.there]
KEPT = known.seen_document()


def outcomes(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], set[tuple[str, bool]]]:
    found: dict[tuple[str, ...], set[tuple[str, bool]]] = {}
    for row in rows:
        found.setdefault((row["client"], row["fault"], row["ending"], row["method"]), set()).add(
            (row["message"], row["answered"])
        )
    return found


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, Any]]:
    """Everything, once: most of it is waiting, which is done at the same time."""
    ended = faultkit("clients", "--json", timeout=300)
    assert complaint(ended) == ""
    document = json.loads(ended.stdout)
    assert (ended.returncode, document["stage"]) == (0, "namespace")
    yield document


def test_the_real_clients_are_here() -> None:
    assert set(REAL) <= set(HERE)


def test_every_fault_is_met_by_every_client(played: dict[str, Any]) -> None:
    wanted = {(client, *one.key) for client in HERE for one in scene.scenes(own_kernel=True)}
    assert set(outcomes(played["seen"])) == wanted
    assert {name for name, _, _ in faults.known()} == {one.fault for one in scene.scenes(own_kernel=True)}
    assert all(row["met"] for row in played["seen"])


def test_what_is_said_of_a_fault_by_name_is_of_one_that_is_there() -> None:
    named = scene._AT_NEXT_WRITE | scene._WITH_UPLOAD | scene._BY_KERNEL | scene._HELD
    assert named | BY_CHANCE <= {name for name, _, _ in faults.known()}


@pytest.mark.parametrize("client", HERE)
def test_it_says_what_is_kept(played: dict[str, Any], client: str) -> None:
    kept = outcomes(KEPT["seen"])
    lines = {line for (who, *_), told in kept.items() if who == client for text, _ in told for line in text.split("\n")}
    version = played["versions"][client]
    for key, told in outcomes(played["seen"]).items():
        if key[0] != client:
            continue
        # A POST leaves in two sends, and either is told, or recv(); Chromium may have opened a second connection ahead. What
        # comes in the middle of a body is read with it or after it.
        early = key[1] in BY_CHANCE or (key[1] in REUSED and (key[3] == "POST" or client == "Chromium"))
        early = early or "mid-body" in key[1]
        if early or len(kept[key]) > 1:
            # A rare outcome may never have been kept: it is one of those that the client has for other faults.
            told = {one for one in told if not lines.issuperset(one[0].split("\n"))}
        assert told <= kept[key], (
            f"{client} {version} says {told} to {key[1]}, and kept is {kept[key]} of {KEPT['versions'][client]}: "
            f"if that is what it says now, {SAVE}"
        )


def test_where_a_client_tries_again_is_seen_at_the_server(played: dict[str, Any]) -> None:
    rows = [row for row in played["seen"] if (row["ending"], row["method"]) == ("fault", "GET")]
    connects = {(row["client"], row["fault"]): row["connections"] for row in rows}
    assert connects["http.client", "keepalive-race:unsent"] == [1]
    assert connects["curl", "keepalive-race:unsent"] == [2]  # reused and reset before an answer: once more
    assert connects["curl", "linger"] == [1]
    assert connects["wget", "linger"] == [2]
    assert connects["curl", "closed-port"] == [1]  # no server sees it: the SYN on the wire does
    assert connects["wget", "closed-port"] == [1]


async def test_a_client_that_was_too_slow_for_its_fault_plays_again() -> None:
    tries: list[str] = []

    async def ask(call: Call) -> Said:
        good, gate, again = (urllib.parse.urlsplit(url) for url in call.urls)
        assert good == again
        stream = await trio.open_tcp_stream(str(good.hostname), good.port or 0)
        tries.append("too slow" if not tries else "in time")
        async with stream:
            if tries == ["too slow"]:
                with pytest.raises(trio.BrokenResourceError):  # nothing is asked: it is found idle
                    await stream.receive_some()
                return Said(("Connection reset by peer",), 1)
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            async with await trio.open_tcp_stream(str(gate.hostname), gate.port or 0) as other:
                await other.send_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                assert (await other.receive_some()).startswith(b"HTTP/1.1 200")
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                await stream.receive_some()
        return Said(("in time",), 1)

    idle = scene.Scene(
        "load-balancer-idle", "fault", {"after_idle_seconds": 0.2}, reused=True, pause=True, arrives=True
    )
    with contextlib.closing(play.Dialled()) as dialled:
        seen = await play._meet("mine", ask, idle, dialled)
    assert (seen.lines, tries) == (("in time",), ["too slow", "in time"])


@pytest.mark.parametrize("user", USERS)
def test_on_the_host_s_loopback_where_namespaces_are_denied(user: str) -> None:
    ended = faultkit("clients", "curl", "--fault", "linger", "--fault", "connect-hang", user=user, denied=True)
    assert (ended.returncode, complaint(ended)) == (0, "")
    assert "the host's loopback" in ended.stdout
    assert "curl: (56) Recv failure: Connection reset by peer" in " ".join(ended.stdout.split())
    assert "kernel's timers (ETIMEDOUT) are not waited for" in ended.stdout


@pytest.mark.parametrize("user", USERS)
def test_an_ordinary_user_s_chromium(user: str) -> None:
    ended = faultkit("clients", "chromium", "--fault", "linger", "--json", user=user)
    [row] = json.loads(ended.stdout)["seen"]
    assert (ended.returncode, row["message"]) == (0, "net::ERR_CONNECTION_RESET")


def test_what_is_to_be_saved_in_shared_memory_is_saved_there() -> None:
    """Where a directory of our own lies over it meanwhile."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        faultkit("clients", "curl", "--fault", "linger", "--save", f"{place}/kept.json")
        assert [row["client"] for row in json.loads(Path(place, "kept.json").read_text())["seen"]] == ["curl"]


def test_what_is_saved_is_what_was_printed_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "messages.json"
    for client in ("curl", "wget", "curl"):
        ended = faultkit("clients", client, "--fault", "linger", "--json", "--save", str(file))
        assert ended.returncode == 0, ended.stderr
    saved = json.loads(file.read_text())
    assert [row["client"] for row in saved["seen"]] == ["curl", "wget"]
    assert json.loads(ended.stdout)["seen"] == saved["seen"][:1]
    assert set(saved["versions"]) == {"curl", "wget"}


def test_what_was_told_by_chance_stays_until_there_is_another_version(tmp_path: Path) -> None:
    file = tmp_path / "messages.json"
    file.touch()

    def save(version: str, message: str, connections: int) -> list[tuple[str, list[int]]]:
        row = {
            "fault": "linger",
            "ending": "fault",
            "client": "curl",
            "message": message,
            "code": 56,
            "answered": False,
        }
        row |= {"connections": [connections], "met": True, "method": "GET"}
        with kept.opened(str(file)) as store:
            kept.keep(store, {"kernel": "6.18", "versions": {"curl": version}, "seen": [row]})
        return [(one["message"], one["connections"]) for one in json.loads(file.read_text())["seen"]]

    assert save("8.0", "reset", 1) == [("reset", [1])]
    assert save("8.0", "closed", 1) == [("closed", [1]), ("reset", [1])]
    assert save("8.0", "reset", 2) == [("closed", [1]), ("reset", [1, 2])]
    assert save("8.1", "broken", 1) == [("broken", [1])]


def test_a_client_that_is_not_here_is_named_with_its_package(tmp_path: Path) -> None:
    bare = {**ENVIRONMENT, "PATH": str(tmp_path)}
    ended = faultkit("clients", "http.client", "wget", "--fault", "linger", env=bare)
    assert ended.returncode == 0, ended.stderr
    assert "wget is not here: apt-get install wget" in ended.stdout
    alone = faultkit("clients", "wget", env=bare)
    assert (alone.returncode, alone.stdout) == (3, "")
    assert alone.stderr == "faultkit: clients: wget is not installed: apt-get install wget\n"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["netscape"], "there is no client 'netscape': it is one of curl, wget, "),
        (["curl", "--fault", "lingr"], "'lingr' is no fault that is played here"),
        (["curl", "--repeat", "0"], "--repeat 0 plays nothing: take 1 or more"),
        (["curl", "--save", "/nowhere/at/all"], "--save /nowhere/at/all cannot be written"),
        (["curl", "--save", "/dev/full"], "--save /dev/full is no file that keeps anything"),
        (["curl", "--save", "README.md"], "--save README.md holds something else, which stays as it is"),
    ],
)
def test_what_cannot_mean_anything(typed: list[str], told: str) -> None:
    ended = faultkit("clients", *typed)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in ended.stderr


def test_what_is_too_large_to_be_what_was_saved_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(1 << 40)  # and takes no room
    ended = faultkit("clients", "curl", "--save", str(file))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"--save {file} holds something else" in ended.stderr


def test_what_was_saved_stays_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept.json"
    file.write_text('{"seen": []}')

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with kept.opened(str(file)) as store, pytest.raises(OSError, match="No space left"):
        kept.keep(store, {"kernel": "6.18", "versions": {}, "seen": []})
    assert file.read_text() == '{"seen": []}'


ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDINGS)
def test_an_interrupted_run_on_the_host_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    place = tmp_path / ("x" * 108)  # longer than the address of a socket may be
    place.mkdir()
    running = start("clients", "chromium", "--on", "host", env={**ENVIRONMENT, "TMPDIR": str(place)})
    until(lambda: any(place.glob("*/*/profile/Default")), running)  # Chromium has begun
    running.send_signal(number)
    _, told = running.communicate(timeout=30)
    how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (running.returncode, told.strip()) == (128 + number, f"faultkit: {how}; nothing is left behind")
    assert list(place.iterdir()) == []
    running_still = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running_still


@pytest.mark.parametrize("number", [*ENDINGS, signal.SIGKILL])
@pytest.mark.parametrize("user", USERS)
def test_a_run_that_is_ended_leaves_nothing(user: str, number: signal.Signals) -> None:
    places = [Path(place) for place in ("/dev/shm", tempfile.gettempdir())]
    before = [sorted(place.iterdir()) for place in places]
    running = start("clients", "chromium", "curl", user=user)
    namespace = moved(running)
    until(lambda: any(Path(f"/proc/{running.pid}/root/dev/shm").glob("*/profile/Default")), running)
    running.send_signal(number)
    running.communicate(timeout=30)
    assert running.returncode == (128 + number if number in ENDINGS else -number)
    until(lambda: not inside(namespace))  # a browser whose pipe is closed ends in its own time
    assert [sorted(place.iterdir()) for place in places] == before
