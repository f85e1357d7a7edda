"""What else is known moves the likeliest answer to where somebody who knows the field would begin."""

from __future__ import annotations

import io
from typing import Any

import pytest

from faultkit.messages import answering, likely, reading
from faultkit.messages.log import Log

UPSTREAM = 'reading response header from upstream, upstream: "http://10.0.0.7/"'
RESET = f"recv() failed (104: Connection reset by peer) while {UPSTREAM}"
EOF = f"upstream prematurely closed connection while {UPSTREAM}"
SLOW = f"upstream timed out (110: Connection timed out) while {UPSTREAM}"
REFUSED = "connect() failed (111: Connection refused) while connecting to upstream"
UNANSWERED = "upstream timed out (110: Connection timed out) while connecting to upstream"
SESSION = "psycopg2.OperationalError: server closed the connection unexpectedly"
SILENT = "psycopg2.OperationalError: could not receive data from server: Connection timed out"
CLIENT = "LOG:  could not receive data from client: Connection reset by peer"
TLS = "curl: (35) OpenSSL SSL_connect: Connection reset by peer in connection to x:443"
BODY = "curl: (18) transfer closed with 100 bytes remaining to read"
SSH = "client_loop: send disconnect: Broken pipe"
ANY_RESET, ANY_TIMEOUT, ANY_PIPE = (
    f"flux: {text}" for text in ("Connection reset by peer", "Connection timed out", "Broken pipe")
)

# The line, what else is known, the first answer, and the first cause of it.
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    (RESET, {}, "raced", "keepalive-race"),
    (RESET, {"after_idle": True}, "raced", "keepalive-race"),
    (RESET, {"first_request": True}, "aborted", "crash"),
    (RESET, {"every": 5}, "raced", "keepalive-race"),
    (RESET, {"every": 350}, "forgotten", "load-balancer-idle"),
    (RESET, {"every": 350, "after_idle": True}, "forgotten", "load-balancer-idle"),
    (RESET, {"since": "the deploy"}, "aborted", "crash"),
    (RESET, {"since": "the new firewall"}, "forgotten", "load-balancer-idle"),
    (RESET, {"since": "more traffic"}, "aborted", "crash"),
    (RESET, {"rst_from": "server"}, "raced", "keepalive-race"),
    (EOF, {"first_request": True}, "closed", "late-write"),
    (EOF, {"every": 75}, "raced", "keepalive-race"),
    (EOF, {"after_idle": True}, "raced", "keepalive-race"),
    (SLOW, {}, "slow", "stall"),
    (SLOW, {"every": 60}, "slow", "stall"),
    (SLOW, {"since": "the deploy"}, "slow", "stall"),
    (SLOW, {"after_idle": True}, "forgotten", "idle-firewall"),
    (SLOW, {"first_request": True}, "slow", "stall"),
    (REFUSED, {"since": "the deploy"}, "refused", "closed-port"),
    (REFUSED, {"after_idle": True}, "refused", "closed-port"),
    (REFUSED, {"first_request": True}, "refused", "closed-port"),
    (UNANSWERED, {"since": "the new firewall"}, "unanswered", "connect-timeout"),
    (UNANSWERED, {"since": "the load test"}, "unanswered", "backlog-full"),
    (UNANSWERED, {"after_idle": True}, "unanswered", "connect-timeout"),
    (SESSION, {}, "raced", "keepalive-race"),
    (SESSION, {"since": "the restart"}, "closed", "crash"),
    (SESSION, {"first_request": True}, "closed", "late-write"),
    (SILENT, {}, "unacknowledged", "retransmit-timeout"),
    (SILENT, {"every": 350}, "forgotten", "idle-firewall"),
    (SILENT, {"after_idle": True}, "forgotten", "idle-firewall"),
    (CLIENT, {}, "aborted", "crash"),
    (CLIENT, {"after_idle": True}, "forgotten", "load-balancer-idle"),
    (CLIENT, {"rst_from": "client"}, "aborted", "crash"),
    (CLIENT, {"since": "the restart"}, "aborted", "crash"),
    (TLS, {}, "aborted", "crash"),
    (TLS, {"after_idle": True}, "aborted", "crash"),
    (TLS, {"since": "the new proxy"}, "forged", "reject"),
    (BODY, {"after_idle": True}, "cut", "crash"),
    (SSH, {"after_idle": True}, "forgotten", "load-balancer-idle"),
    (SSH, {"since": "we moved to the VPN"}, "forgotten", "load-balancer-idle"),
    (ANY_RESET, {"first_request": True}, "aborted", "crash"),
    (ANY_RESET, {"rst_from": "client"}, "aborted", "crash"),
    (ANY_RESET, {"rst_from": "balancer", "after_idle": True}, "forgotten", "load-balancer-idle"),
    (ANY_RESET, {"rst_from": "balancer"}, "forgotten", "load-balancer-idle"),
    (ANY_RESET, {"every": 7200}, "forgotten", "load-balancer-idle"),
    (ANY_TIMEOUT, {"every": 131}, "unanswered", "connect-timeout"),
    (ANY_TIMEOUT, {"every": 924}, "unacknowledged", "retransmit-timeout"),
    (ANY_TIMEOUT, {"after_idle": True}, "forgotten", "idle-firewall"),
    (ANY_PIPE, {"after_idle": True}, "raced", "keepalive-race"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "known", "answer", "cause"), CASES)
def test_what_comes_first(line: str, known: dict[str, Any], answer: str, cause: str) -> None:
    first = reading.read(line, answering.Known(**known)).answers[0]
    assert (first.name, first.fits[0].name) == (answer, cause)


def test_what_contradicts_the_line_is_left_out_and_said() -> None:
    assert reading.read(TLS, answering.Known(after_idle=True)).dropped == ("--after-idle",)
    assert reading.read(BODY, answering.Known(after_idle=True)).dropped == ("--after-idle",)
    both = reading.read(ANY_RESET, answering.Known(first_request=True, rst_from="balancer"))
    assert both.dropped == ("--rst-from balancer",), "as much as may be is kept"
    assert "raced" not in [answer.name for answer in both.answers if answer.likely]


def test_an_interval_that_says_nothing_is_not_commented() -> None:
    assert reading.read(REFUSED, answering.Known(every=60)).hints == ()
    assert reading.read(ANY_RESET, answering.Known(every=131)).hints == ()
    assert "tcp_syn_retries" in reading.read(ANY_TIMEOUT, answering.Known(every=131)).hints[0]


def test_a_first_request_is_never_called_idle() -> None:
    for line in (RESET, EOF, SESSION, SSH, ANY_RESET, ANY_PIPE):
        read = reading.read(line, answering.Known(first_request=True))
        assert not {"raced", "forgotten"} & {answer.name for answer in read.answers if answer.likely}, line
        assert read.prior and "idle" not in read.prior.because


def test_who_writes_that_its_idle_timer_ended_is_the_balancer() -> None:
    line = "haproxy[9]: 192.0.2.7:39001 [23/Mar/2022:11:12:13.001] fe be/s1 0/0/50011 183 cD 6/6/3/7/0 0/0"
    first = reading.read(line, answering.Known(every=50)).answers[0]
    assert (first.name, first.fits[0].name) == ("forgotten", "load-balancer-idle")


def test_a_log_finds_the_same_as_a_message() -> None:
    for line in (RESET, EOF, SLOW, REFUSED, SESSION, CLIENT, TLS):
        log = Log()
        log.read(io.BytesIO(f"{line}\n".encode()))
        (kind,) = log.kinds.values()
        assert kind.reading.answers == reading.read(line).answers


def test_every_timer_s_answers_are_answers() -> None:
    listed = likely.document()["answers"]
    assert all(set(row.get("answers", ())) <= set(listed) for row in likely.document()["timer"])
