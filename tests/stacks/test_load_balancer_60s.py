"""load-balancer-60s, seen through its command: both sides are reset, after the timeout, and pings keep each connection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from faultkit import NotProduced, check_cause
from tests.shell import USERS, faultkit
from tests.stacks.played import document, edited, lines, requests, resets

NAME = "load-balancer-60s"
every_user = pytest.mark.parametrize("user", USERS)

CLOSED = "ConnectionClosedError: no close frame received or sent; ConnectionResetError(104, 'Connection reset by peer')"
REQUEST = r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d\] "GET /events HTTP/1\.1" 200 -'


@every_user
def test_both_sides_of_both_connections_are_reset_after_the_timeout(user: str) -> None:
    told = document(NAME, user=user)
    assert requests(told) == [("GET /events", "200 then recv ECONNRESET")]
    assert lines(told, "server") == [CLOSED]
    assert lines(told, "subscriber") == ["subscribed", CLOSED]
    asked, reset = lines(told, "events")
    assert re.fullmatch(REQUEST, asked)
    assert reset == "ConnectionResetError: [Errno 104] Connection reset by peer"
    # Two of each connection, within the same moment.
    assert sorted(resets(told)) == [
        ("balancer", role, "RST,ACK") for role in ("client", "events", "server", "subscriber")
    ]
    silent = [one["measured"] for one in told["evidence"]["measurements"]]
    assert len(silent) == 2
    assert all(1 <= seconds < 1.5 for seconds in silent)


@every_user
def test_pings_outlive_three_timeouts(user: str) -> None:
    told = document(NAME, "--fixed", user=user)
    assert requests(told) == [("GET /events", "200")]
    assert lines(told, "subscriber") == ["subscribed", "news"]
    assert not lines(told, "server")
    assert not resets(told)
    [asked] = told["transcript"]["exchanges"]
    assert asked["ended"] - asked["began"] > 2.9


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_without_its_pings_a_connection_does_not(tmp_path: Path, protocol: str) -> None:
    if protocol == "http":
        found = edited(tmp_path, NAME, "events.py", "QUIET = 20", "QUIET = 90")
    else:  # one end's pings are enough, so neither may send any
        found = edited(tmp_path, NAME, "server.py", "20 * SECOND", "None")
        subscriber = found.folder / "fixed/subscriber.py"
        subscriber.write_text(subscriber.read_text().replace("20 * SECOND", "None"))
    with pytest.raises(NotProduced, match="0 of 1 as promised"):
        check_cause(found, 1, fixed=True)


def test_one_ends_pings_are_enough(tmp_path: Path) -> None:
    found = edited(tmp_path, NAME, "server.py", "20 * SECOND", "None")
    assert check_cause(found, 1, fixed=True).produced == 1


def test_a_timeout_that_programs_could_not_keep_up_with_is_refused() -> None:
    ended = faultkit("stack", NAME, "--timeout", "100")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "100" in ended.stderr and "500" in ended.stderr
