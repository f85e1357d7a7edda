"""haproxy, seen through its command: who resets whom, what the other side is told, and what HAProxy logs of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faultkit import NotProduced, check_cause
from faultkit.evidence.verdict import Promise
from faultkit.playing import stack
from tests.shell import USERS
from tests.stacks.played import document, edited, lines, requests, resets

STACK = stack.load("haproxy")
every_user = pytest.mark.parametrize("user", USERS)

CHECK = ("haproxy", "app", "RST,ACK")  # HAProxy's health check, in every run
# As HAProxy 2.6 writes its `option httplog`, from the first letter to the last.
LINE = (
    r"127\.0\.0\.10:\d+ \[\d\d/\w{{3}}/\d{{4}}:\d\d:\d\d:\d\d\.\d{{3}}\] {frontend} {backend}/app \d+/\d+/\d+/-?\d+/\d+ "
    r'{status} \d+ - - {state} \d+/\d+/\d+/\d+/0 0/0 "GET {target} HTTP/1\.1"'
)
SEEN: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str, str]], list[str]]] = {
    "idle": (
        [("GET /prime", "200"), ("GET /race", "502"), ("GET /prime", "200"), ("GET /race", "recv EOF")],
        [("app", "haproxy", "RST,ACK")] * 2,
        [
            LINE.format(frontend="idle", backend="kept", status=200, state="----", target="/prime"),
            LINE.format(frontend="idle", backend="kept", status=502, state="SH--", target="/race"),
            LINE.format(frontend="idle", backend="kept", status=200, state="----", target="/prime"),
        ],
    ),
    "nolinger": (
        [("GET /long", "200 then recv ECONNRESET")],
        [("haproxy", "client", "RST,ACK")],
        [LINE.format(frontend="long", backend="large", status=200, state="----", target="/long")],
    ),
    "check": ([], [], []),
    "timeout-server": (
        [("GET /wait", "504"), ("GET /half", "200 then recv EOF")],
        [("haproxy", "app", "RST,ACK")] * 2,
        [
            LINE.format(frontend="slow", backend="silent", status=504, state="sH--", target="/wait"),
            LINE.format(frontend="slow", backend="silent", status=200, state="sD--", target="/half"),
        ],
    ),
}


@pytest.mark.parametrize("case", SEEN)
@every_user
def test_who_resets_whom(case: str, user: str) -> None:
    told = document("haproxy", "--reset", case, user=user)
    answers, whose, patterns = SEEN[case]
    assert requests(told) == answers
    assert resets(told) == [CHECK, *whose]
    logged = lines(told, "haproxy")
    assert len(logged) == len(patterns)
    for pattern, line in zip(patterns, logged, strict=True):
        assert re.fullmatch(pattern, line)


def test_what_the_upstream_is_told_of_a_check() -> None:
    for typed, told in ((), "recv ECONNRESET"), (("--fixed",), "recv EOF"):
        calls = document("haproxy", "--reset", "check", *typed)["transcript"]["calls"]
        seen = [f"{call['call']} {call['outcome']}" for call in calls if call["call"] in ("accept", "recv", "send")]
        assert seen[:4] == ["accept ok", "recv 24", "send 71", told]


def test_nolinger_loses_what_the_client_had_no_room_for() -> None:
    told = document("haproxy", "--reset", "nolinger")
    [said] = [step["text"] for step in told["transcript"]["steps"] if step["actor"] == "client"]
    arrived, sent = re.fullmatch(r"(\d+) of (\d+) bytes have arrived", said).groups()  # type: ignore[union-attr]
    assert 0 < int(arrived) < int(sent)


@every_user
def test_with_the_fix_everything_is_answered_and_nothing_reset(user: str) -> None:
    told = document("haproxy", "--fixed", user=user)
    assert {outcome for _, outcome in requests(told)} == {"200"}
    assert resets(told) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "case"),
    [
        ("app.toml", "65", "0.3", "idle"),
        ("haproxy.cfg", "timeout server 5s", "timeout server 400ms", "timeout-server"),
        ("haproxy.cfg", "http-check connect linger", "http-check connect", "check"),
        (
            "haproxy.cfg",
            "8081\n    default_backend",
            "8081\n    option nolinger\n    default_backend",
            "nolinger",
        ),
    ],
)
def test_without_its_line_of_the_fix_each_of_them_is_back(
    tmp_path: Path, file: str, old: str, new: str, case: str
) -> None:
    with pytest.raises(NotProduced, match="0 of 1 as promised"):
        check_cause(edited(tmp_path, "haproxy", file, old, new), 1, fixed=True, reset=case)


def test_retry_on_hides_the_502_and_leaves_the_resets(tmp_path: Path) -> None:
    def promise(options: Any, play: Any) -> Promise:
        broken = STACK.promise(options, play)
        assert broken.exchanges is not None
        return replace(
            broken,
            exchanges=[f"{' '.join(one.split()[:2])} 200" for one in broken.exchanges],
            lines={"haproxy": [" 200 63 - - ---- "] * len(broken.exchanges)},
        )

    found = edited(
        tmp_path, "haproxy", "haproxy.cfg", "http-reuse always", "http-reuse always\n    retry-on empty-response"
    )
    assert check_cause(replace(found, promise=promise), 1, reset="idle").produced == 1
