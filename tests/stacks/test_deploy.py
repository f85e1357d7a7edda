"""deploy, seen through its command: who is reset by which way of stopping, and what nginx is told with the fix."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.shell import USERS, faultkit

every_user = pytest.mark.parametrize("user", USERS)

# As nginx 1.22 writes it, from the first letter to the last.
RESET = (
    r"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ recv\(\) failed \(104: Connection reset by peer\) "
    r"while reading response header from upstream, client: 127\.0\.0\.10, server: , "
    r'request: "POST /{path} HTTP/1\.1", upstream: "http://127\.0\.0\.1:{port}/{path}", host: "127\.0\.0\.1:8080"'
)


def document(*typed: str, user: str = "") -> dict[str, Any]:
    ended = faultkit("stack", "deploy", "--json", *typed, user=user)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    return told


def answers(told: dict[str, Any], target: str) -> list[str]:
    return [one["outcome"] for one in told["transcript"]["exchanges"] if one["request"] == f"POST /{target}"]


def errors(told: dict[str, Any]) -> list[str]:
    return [line["text"] for line in told["transcript"]["lines"] if "[error]" in line["text"]]


def resets(told: dict[str, Any]) -> list[str]:
    return [packet["from"] for packet in told["transcript"]["packets"] if "RST" in packet["flags"]]


@every_user
@pytest.mark.parametrize(
    ("by", "path", "cause"), [("kill", "slow", "crash"), ("term", "late", "listener-closed --connections 1")]
)
def test_who_is_reset_by_each_instance(by: str, path: str, cause: str, user: str) -> None:
    told = document("--by", by, user=user)
    assert answers(told, path) == ["502", "502"]
    assert answers(told, "slow") == (["502"] if by == "kill" else ["200"]) * 2
    for line, port in zip(errors(told), (8081, 8082), strict=True):
        assert re.fullmatch(RESET.format(path=path, port=port), line)
    assert resets(told) == ["app-1", "app-2"]
    assert told["causes"] == [cause]


@every_user
def test_drained_first_nothing_is_lost_and_both_are_asked_again(user: str) -> None:
    told = document("--fixed", user=user)
    assert (answers(told, "slow"), answers(told, "late")) == (["200", "200"], ["200", "200"])
    assert (errors(told), resets(told)) == ([], [])
    assert sum("gracefully shutting down" in line["text"] for line in told["transcript"]["lines"]) == 4
