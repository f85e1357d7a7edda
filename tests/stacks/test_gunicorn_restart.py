"""gunicorn-restart, seen through its command: whose words, whose RST; and what `reuse_port` makes of SIGHUP."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faultkit import check_cause
from faultkit.acting.exchange import Client
from faultkit.acting.play import Play
from faultkit.acting.program import Part
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing import stack
from tests.shell import USERS, faultkit

STACK = stack.load("gunicorn-restart")
NGINX, APP = Address("127.0.0.1", 8080), Address("127.0.0.1", 8081)
every_user = pytest.mark.parametrize("user", USERS)

# As nginx 1.22 and gunicorn 27 or 20 write them, from the first letter to the last.
NGINX_SAYS = (
    r"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ {words} while reading response header from upstream, "
    r'client: 127\.0\.0\.10, server: , request: "{request} HTTP/1\.1", upstream: "http://127\.0\.0\.1:8081/\w+", '
    r'host: "127\.0\.0\.1:8080"'
)
CLOSED = NGINX_SAYS.format(words="upstream prematurely closed connection", request="GET /kill")
RESET = NGINX_SAYS.format(words=r"recv\(\) failed \(104: Connection reset by peer\)", request="POST /term")
GUNICORN_SAYS = (
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] "
    r"(\[ERROR\] Worker \(pid:\d+\) was sent SIGKILL! Perhaps out of memory\?"
    r"|\[WARNING\] Worker with pid \d+ was terminated due to signal 9)"
)


def document(*typed: str, user: str = "") -> dict[str, Any]:
    ended = faultkit("stack", "gunicorn-restart", "--json", *typed, user=user)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    return told


def said(told: dict[str, Any], program: str) -> list[str]:
    return [line["text"] for line in told["transcript"]["lines"] if line["program"] == program]


def answers(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["request"], one["outcome"]) for one in told["transcript"]["exchanges"]]


def flags(told: dict[str, Any], flag: str) -> list[str]:
    """Who sent segments with that flag on nginx's connections, in order."""
    packets, roles = told["transcript"]["packets"], told["transcript"]["roles"]
    return [
        packet["from"]
        for packet in packets
        if flag in packet["flags"] and "client" not in (packet["from"], roles[packet["destination"]])
    ]


@every_user
def test_a_killed_worker_had_read_the_request_so_its_kernel_sends_a_fin(user: str) -> None:
    told = document("--by", "kill", user=user)
    assert answers(told) == [("GET /kill", "502")]
    [line] = said(told, "nginx")
    assert re.fullmatch(CLOSED, line)
    assert any(re.fullmatch(GUNICORN_SAYS, line) for line in said(told, "app"))
    assert flags(told, "RST") == []
    assert flags(told, "FIN")[0] == "app"
    assert told["causes"] == ["crash --request read"]


@every_user
def test_the_arbiter_kills_after_graceful_timeout_and_the_unread_body_is_a_rst(user: str) -> None:
    told = document("--by", "term", user=user)
    assert answers(told) == [("POST /term", "502")]
    [line] = said(told, "nginx")
    assert re.fullmatch(RESET, line)
    assert flags(told, "RST") == ["app"]
    assert told["causes"] == ["crash"]
    [asked] = told["transcript"]["exchanges"]
    assert asked["ended"] - asked["began"] > 1.0  # graceful_timeout


@every_user
def test_sighup_loses_nothing(user: str) -> None:
    told = document("--by", "hup", user=user)
    assert answers(told) == [("GET /hup", "200")]
    assert (said(told, "nginx"), flags(told, "RST")) == ([], [])


def test_with_the_fix_the_worker_still_dies_and_the_next_one_answers() -> None:
    told = document("--by", "kill", "--fixed")
    assert answers(told) == [("GET /kill", "200")]
    assert said(told, "app").count("GET /kill is being worked on") == 2
    [line] = said(told, "nginx")
    assert re.fullmatch(CLOSED, line)


async def _queue_behind_a_request(play: Play) -> None:
    """A request that waits in the accept queue while the worker has another, and then SIGHUP."""
    play.programs.callers({NGINX: "client", APP: "nginx"})
    nginx = await play.programs.start("nginx", Part("nginx", "nginx"), "-e", "stderr", "-p", ".", "-c", "nginx.conf")
    await nginx.listens(NGINX)
    os.mkfifo(play.programs.directory / "go")
    go = os.open(play.programs.directory / "go", os.O_RDWR)
    play.leaving.callback(os.close, go)
    app = await play.programs.start("app", Part("gunicorn", "gunicorn"), "-c", "gunicorn.conf.py", "app")
    await app.said("ready")
    await app.listens(APP)
    first, second = Client(play, NGINX), Client(play, NGINX)
    await first.ask("GET", "/first")
    await app.said("GET /first")
    tap = play.scenery.tap()
    await second.ask("GET", "/second")
    await tap.hear(lambda packet: packet.destination == APP and packet.payload > 0)
    at = len(app.lines)
    app.signal(signal.SIGHUP)
    await app.said("ready", since=at)
    # The arbiter takes its signals one after the other: when it comes to this one, the old worker has its SIGTERM.
    app.signal(signal.SIGWINCH)
    await app.said("Handling signal: winch")
    os.write(go, b"..")
    await first.answer()
    await second.answer()


@pytest.mark.parametrize("reuse_port", [False, True])
def test_reuse_port_gives_each_worker_a_queue_which_dies_with_it(tmp_path: Path, reuse_port: bool) -> None:
    """Since some version after 20.1, which took one socket for all workers all the same."""
    folder = tmp_path / STACK.name
    shutil.copytree(STACK.folder, folder)
    config = folder / "gunicorn.conf.py"
    config.write_text(config.read_text().replace('"warning"', '"info"') + f"reuse_port = {reuse_port}\n")
    lost = Promise(
        calls={},
        packets=None,
        resets=[Rst("app", "TCP_STATE")],
        counters={"TcpOutRsts": 1, "TcpEstabResets": 2},
        exchanges=["GET /first 200", "GET /second 502"],
        lines={"nginx": ["recv() failed (104: Connection reset by peer) while reading response header from upstream"]},
        seconds=2.0,
    )
    kept = replace(lost, resets=[], counters={}, exchanges=["GET /first 200", "GET /second 200"], lines={"nginx": []})
    played = replace(
        STACK,
        folder=folder,
        script=_queue_behind_a_request,
        promise=lambda options, play: lost if reuse_port else kept,
    )
    assert check_cause(played, 3).produced == 3
