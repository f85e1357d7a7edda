"""uwsgi-restart, seen through its command: whose words, whose RST, and what SIGTERM is to uWSGI."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.shell import USERS, faultkit

every_user = pytest.mark.parametrize("user", USERS)

# As nginx 1.22 and uWSGI 2.0 write them, from the first letter to the last.
LINE = (
    r"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ {words} while reading response header from upstream, "
    r'client: 127\.0\.0\.10, server: , request: "{request} HTTP/1\.1", upstream: "uwsgi://127\.0\.0\.1:8081", '
    r'host: "127\.0\.0\.1:8080"'
)
CLOSED, RESET = r"upstream prematurely closed connection", r"recv\(\) failed \(104: Connection reset by peer\)"
ENDS = {
    "kill": ("GET /kill", CLOSED, r"DAMN ! worker 1 \(pid: \d+\) died, killed by signal 9 :\( trying respawn \.\.\."),
    "hup": ("POST /hup", RESET, r".* - worker 1 \(pid: \d+\) is taking too much time to die\.\.\.NO MERCY !!!"),
    "term": ("GET /term", CLOSED, r"\.\.\.brutally killing workers\.\.\."),
}


def document(*typed: str, user: str = "") -> dict[str, Any]:
    ended = faultkit("stack", "uwsgi-restart", "--json", *typed, user=user)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    return told


def said(told: dict[str, Any], program: str) -> list[str]:
    return [line["text"] for line in told["transcript"]["lines"] if line["program"] == program]


def answers(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["request"], one["outcome"]) for one in told["transcript"]["exchanges"]]


def resets(told: dict[str, Any]) -> list[str]:
    return [packet["from"] for packet in told["transcript"]["packets"] if "RST" in packet["flags"]]


@every_user
@pytest.mark.parametrize("by", ENDS)
def test_each_end_of_a_worker_has_its_words(by: str, user: str) -> None:
    request, words, own = ENDS[by]
    told = document("--by", by, user=user)
    assert answers(told) == [(request, "502")]
    [line] = said(told, "nginx")
    assert re.fullmatch(LINE.format(words=words, request=request), line)
    assert any(re.fullmatch(own, line) for line in said(told, "app"))
    assert resets(told) == (["app"] if words == RESET else [])
    assert told["causes"] == ["crash" if words == RESET else "crash --request read"]


@every_user
def test_with_the_fix_sigterm_ends_it_with_grace(user: str) -> None:
    told = document("--by", "term", "--fixed", user=user)
    assert answers(told) == [("GET /term", "200")]
    assert (said(told, "nginx"), resets(told)) == ([], [])
    assert said(told, "app")[-1] == "goodbye to uWSGI."
