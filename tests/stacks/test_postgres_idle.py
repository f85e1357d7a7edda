"""postgres-idle, seen through its command: what PostgreSQL and psycopg say, word for word, and whose RST it is."""

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

NAME = "postgres-idle"
every_user = pytest.mark.parametrize("user", USERS)

# As PostgreSQL 15 and psycopg 3.3 word them.
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \w+ \[\d+\] "
SEEN = {
    "terminate": (
        [("GET /report", "200"), ("GET /terminate", "200"), ("GET /report", "500")],
        "FATAL:  terminating connection due to administrator command",
        ["/report: psycopg.errors.AdminShutdown: terminating connection due to administrator command"],
        "RST",
    ),
    "idle": (
        [("GET /kept", "200"), ("GET /kept", "500"), ("GET /kept", "500")],
        "FATAL:  terminating connection due to idle-session timeout",
        [
            "/kept: psycopg.errors.IdleSessionTimeout: terminating connection due to idle-session timeout",
            "/kept: psycopg.OperationalError: the connection is closed",
        ],
        "RST",
    ),
    "keepalive": (
        [("GET /hold", "200"), ("GET /hold", "500")],
        "LOG:  could not receive data from client: Connection timed out",
        ["/hold: psycopg.OperationalError: consuming input failed: server closed the connection unexpectedly"],
        "RST,ACK",
    ),
}


@pytest.mark.parametrize("case", SEEN)
@every_user
def test_what_each_end_says(case: str, user: str) -> None:
    answers, logged, raised, flags = SEEN[case]
    told = document(NAME, "--by", case, user=user)
    assert requests(told) == answers
    assert lines(told, "app") == raised
    assert re.fullmatch(STAMP + re.escape(logged), lines(told, "postgres")[-1])
    assert resets(told) == [("postgres", "app", flags)]


@every_user
def test_with_the_fix_nothing_fails_and_nothing_is_reset(user: str) -> None:
    told = document(NAME, "--fixed", user=user)
    assert {outcome for _, outcome in requests(told)} == {"200"}
    assert not lines(told, "app")
    assert not resets(told)


@pytest.mark.parametrize(
    ("file", "old", "new", "case"),
    [
        ("postgresql.conf", "idle_session_timeout = 0", "idle_session_timeout = 1s", "idle"),
        ("postgresql.conf", "tcp_keepalives_idle = 1", "tcp_keepalives_idle = 3", "keepalive"),
        ("app.py", " or over(kept)", "", "terminate"),
    ],
)
def test_without_its_line_of_the_fix_each_of_them_is_back(
    tmp_path: Path, file: str, old: str, new: str, case: str
) -> None:
    with pytest.raises(NotProduced, match="0 of 1 as promised"):
        check_cause(edited(tmp_path, NAME, file, old, new), 1, fixed=True, by=case)


def test_where_close_kept_its_socket_the_reason_is_another() -> None:
    """Once in some 10,000 times (`Play.fin_acknowledged`), so the promise is asked, not the kernel."""
    found = stack.load(NAME)
    options = checked(found, {})
    play = rehearsal(found.name, options)
    play.cues["/kept meets a socket"].set()
    promised = found.promise(options, play)
    assert promised.resets is not None
    assert [rst.reason for rst in promised.resets] == [
        "TCP_TIMEWAIT_SOCKET",
        "TCP_ABORT_ON_DATA",
        "TCP_KEEPALIVE_TIMEOUT",
    ]
