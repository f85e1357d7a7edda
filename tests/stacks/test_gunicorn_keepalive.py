"""gunicorn-keepalive, seen through its command: nginx's two lines, whose clock it was, and both fixes."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faultkit import check_cause
from faultkit.acting.play import rehearsal
from faultkit.cause import checked
from faultkit.playing import stack
from tests.shell import USERS, faultkit

STACK = stack.load("gunicorn-keepalive")
every_user = pytest.mark.parametrize("user", USERS)

# As nginx 1.22 writes them, from the first letter to the last.
LINE = (
    r"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ {words} while reading response header from upstream, "
    r'client: 127\.0\.0\.10, server: , request: "{method} /{fin} HTTP/1\.1", '
    r'upstream: "http://127\.0\.0\.1:8081/{fin}", host: "127\.0\.0\.1:8080"'
)
WORDS = {
    "in-flight": r"recv\(\) failed \(104: Connection reset by peer\)",
    "unprocessed": r"upstream prematurely closed connection",
}


def document(*typed: str, user: str = "") -> dict[str, Any]:
    ended = faultkit("stack", "gunicorn-keepalive", "--json", *typed, user=user)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize("fin", WORDS)
@every_user
def test_each_place_of_the_fin_gives_its_line_of_the_log(fin: str, user: str) -> None:
    told = document("--fin", fin, user=user)
    assert [(one["request"], one["outcome"]) for one in told["transcript"]["exchanges"]] == [
        ("GET /prime", "200"),
        (f"GET /{fin}", "200"),
        ("GET /prime", "200"),
        (f"POST /{fin}", "502"),
    ]
    get, post = told["transcript"]["lines"]
    for method, line in ("GET", get), ("POST", post):
        assert line["program"] == "nginx"
        assert re.fullmatch(LINE.format(words=WORDS[fin], method=method, fin=fin), line["text"])
    rsts = [packet for packet in told["transcript"]["packets"] if "RST" in packet["flags"]]
    assert [(packet["from"], packet["flags"]) for packet in rsts] == [("app", ["RST"])] * 2
    assert told["causes"] == [f"keepalive-race --fin {fin}"]


@every_user
def test_with_the_fix_all_requests_are_answered_on_one_connection(user: str) -> None:
    told = document("--fixed", user=user)
    assert {one["outcome"] for one in told["transcript"]["exchanges"]} == {"200"}
    assert told["transcript"]["lines"] == []
    syns = [packet for packet in told["transcript"]["packets"] if packet["flags"] == ["SYN"]]
    assert [packet["from"] for packet in syns] == ["client", "nginx"]


def test_the_time_is_gunicorns_own() -> None:
    told = document("--fin", "in-flight", "--keep-alive", "2000")
    for timed in told["evidence"]["measurements"]:
        assert timed["predicted"] == 2
        assert 2 <= timed["measured"] < 3.6


def test_a_shorter_timeout_at_nginx_is_a_fix_too(tmp_path: Path) -> None:
    folder = tmp_path / STACK.name
    shutil.copytree(STACK.folder, folder)
    config = folder / "nginx.conf"
    (folder / "fixed/nginx.conf").write_text(config.read_text().replace("_timeout 65s", "_timeout 500ms"))
    (folder / "fixed/gunicorn.conf.py").unlink()
    assert check_cause(replace(STACK, folder=folder), 1, fixed=True).produced == 1


def test_where_close_kept_its_socket_the_reason_is_another() -> None:
    """Once in some 10,000 times (`Play.fin_acknowledged`), so the promise is asked, not the kernel."""
    play = rehearsal(STACK.name, checked(STACK, {"fin": "unprocessed"}))
    play.cues["POST meets a socket"].set()
    promised = STACK.promise(play.options, play)
    assert promised.resets is not None
    assert [rst.reason for rst in promised.resets] == ["TCP_TIMEWAIT_SOCKET", "TCP_ABORT_ON_DATA"]
