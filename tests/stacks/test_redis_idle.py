"""redis-idle, seen through its command: what redis and redis-py say, word for word, and whose RST it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from faultkit import NotProduced, check_cause
from faultkit.acting.play import rehearsal
from faultkit.cause import checked
from faultkit.playing import stack
from tests.shell import USERS
from tests.stacks.played import document, edited, lines, requests, resets

NAME = "redis-idle"
every_user = pytest.mark.parametrize("user", USERS)

REDIS = r"\d+:M \d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3} - (.*)"


@every_user
def test_what_redis_py_makes_of_a_connection_that_redis_has_closed(user: str) -> None:
    told = document(NAME, user=user)
    assert requests(told)[4:] == [
        ("GET /pooled", "200"),
        ("GET /single", "200"),
        ("GET /once", "500"),
        ("GET /execute", "500"),
    ]
    # As redis-py 8.1 words them.
    assert lines(told, "app") == [
        "/once: redis.exceptions.ConnectionError: Connection closed by server.",
        "/execute: redis.exceptions.WatchError: A ConnectionError occurred while watching one or more keys",
    ]
    said = [found[1] for line in lines(told, "redis") if (found := re.fullmatch(REDIS, line))]
    assert said.count("Closing idle client") == 4
    # /pooled looks before it writes; the others are answered by a kernel whose program has closed.
    assert resets(told) == [("redis", "app", "RST")] * 3


@every_user
def test_without_a_timeout_nothing_is_closed(user: str) -> None:
    told = document(NAME, "--fixed", user=user)
    assert {outcome for _, outcome in requests(told)} == {"200"}
    assert not lines(told, "app")
    assert not resets(told)
    assert not any("Closing" in line for line in lines(told, "redis"))


def test_tcp_keepalive_alone_is_no_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotProduced, match="0 of 1 as promised"):
        check_cause(edited(tmp_path, NAME, "redis.conf", "timeout 0", "timeout 1"), 1, fixed=True)


def test_retries_hide_it_and_leave_the_reset(tmp_path: Path) -> None:
    found = edited(tmp_path, NAME, "app.py", ", retry=Retry(NoBackoff(), 0)", "")
    with pytest.raises(NotProduced) as differs:
        check_cause(found, 1)
    assert "GET /once 200, GET /execute 500" in str(differs.value)
    assert "resets" not in str(differs.value)


def test_where_close_kept_its_socket_the_reason_is_another() -> None:
    """Once in some 10,000 times (`Play.fin_acknowledged`), so the promise is asked, not the kernel."""
    found = stack.load(NAME)
    options = checked(found, {})
    play = rehearsal(found.name, options)
    play.cues["/watch meets a socket"].set()
    promised = found.promise(options, play)
    assert promised.resets is not None
    assert [rst.reason for rst in promised.resets] == ["TCP_TIMEWAIT_SOCKET"] * 2 + ["TCP_ABORT_ON_DATA"]
