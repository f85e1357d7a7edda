"""A line is read whatever is around it, and no more is said than it says."""

from __future__ import annotations

import html
import json
import time

import pytest

from faultkit.errors import Misuse
from faultkit.messages import answering, reading, unwrapping

NGINX = (
    "2024/05/06 07:08:09 [error] 31#31: *1371 recv() failed (104: Connection reset by peer) while reading response header from "
    'upstream, client: 10.1.2.3, server: _, request: "GET /a HTTP/1.1", upstream: "http://10.0.0.7:8080/a", host: "example.org"'
)


def names(read: answering.Reading) -> list[str]:
    """The causes, the likeliest first."""
    return [fit.name for answer in read.answers for fit in answer.fits]


def smart(text: str) -> str:
    return text.replace('"', "\u201c").replace("'", "\u2019")


WRAPPED = {
    "plain": NGINX,
    "docker": json.dumps({"log": NGINX + "\n", "stream": "stderr", "time": "2024-05-06T07:08:09.1Z"}),
    "escaped twice": json.dumps({"message": json.dumps({"log": NGINX})}),
    "logfmt": f'time=2024-05-06 level=error msg="{NGINX.replace(chr(34), chr(92) + chr(34))}"',
    "compose": f"web-1  | {NGINX}",
    "journald": f"May 06 07:08:09 host nginx[31]: {NGINX}",
    "journald's bytes": json.dumps({"MESSAGE": list(f"\x1b[31m{NGINX}\x1b[0m".encode()), "_PID": "31"}),
    "colours": NGINX.replace("[error]", "\x1b[31;1m[error]\x1b[0m").replace("104", "\x1b[36m104\x1b[0m"),
    "lost escapes": NGINX.replace("[error]", "[31m[error][0m"),
    "entities": html.escape(NGINX),
    "quoted": "\n".join(f"> {part}" for part in (NGINX[:120], NGINX[120:])).replace("\n>  ", "\n> "),
    "smart quotes": smart(NGINX),
    "wrapped by a terminal": "\n".join(NGINX[at : at + 80] for at in range(0, len(NGINX), 80)),
    "wrapped between words": NGINX.replace(" while", "\n    while").replace("Connection reset", "Connection\nreset"),
    "crlf": NGINX.replace(" [error]", "\r\n[error]") + "\r\n",
    "kubectl": f"E0506 07:08:09.909924  100413 x.go:340] {NGINX}",
}


@pytest.mark.parametrize("form", WRAPPED)
def test_what_is_around_it_does_not_matter(form: str) -> None:
    read = reading.read(WRAPPED[form])
    assert read.told is not None
    assert (read.told.program, read.told.told, read.told.writer) == ("nginx", "recv ECONNRESET", "upstream")
    assert names(read)[0] == "keepalive-race"
    assert read.told.peers.server == "10.0.0.7:8080"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_it_is_decoded(encoding: str) -> None:
    read = reading.read(unwrapping.decoded(NGINX.encode(encoding)))
    assert read.told and read.told.told == "recv ECONNRESET"


TRACES = {
    "chained Python": (
        """Traceback (most recent call last):
  File "a.py", line 1
ConnectionRefusedError: [Errno 111] Connection refused

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
urllib3.exceptions.NewConnectionError: <urllib3.connection.HTTPConnection object>: Failed to establish a new connection: x""",
        "connect ECONNREFUSED",
    ),
    "Java": (
        """org.springframework.web.client.ResourceAccessException: I/O error on GET request
\tat a.b.C(C.java:1)
Caused by: java.net.SocketException: Connection reset
\tat java.base/sun.nio.ch.NioSocketImpl.implRead(NioSocketImpl.java:3)""",
        "recv ECONNRESET",
    ),
    "Node": (
        """TypeError: fetch failed
    at node:internal/deps/undici/undici:12345:11 {
  [cause]: Error: read ECONNRESET
      at TCP.onStreamRead (node:internal/stream_base_commons:217:20) {
    errno: -104,
    code: 'ECONNRESET'
  }
}""",
        "recv ECONNRESET",
    ),
    ".NET": (
        """System.Net.Http.HttpRequestException: An error occurred while sending the request.
 ---> System.IO.IOException: Unable to read data from the transport connection: Connection reset by peer.
 ---> System.Net.Sockets.SocketException (104): Connection reset by peer""",
        "recv ECONNRESET",
    ),
    "Go": ('Post "http://10.0.0.6:80/a": write tcp 10.0.0.5:41234->10.0.0.6:80: write: broken pipe', "send EPIPE"),
}


@pytest.mark.parametrize("language", TRACES)
def test_the_innermost_network_error_counts(language: str) -> None:
    trace, told = TRACES[language]
    read = reading.read(trace)
    assert read.told is not None
    call, errno = told.split()
    assert read.told.told.split()[-1] == errno
    assert call in read.told.told.replace("any", "recv send connect").split()


@pytest.mark.parametrize(
    "text",
    [
        "bash: echo: write error: Broken pipe",
        "yes: standard output: Broken pipe",
        "grep: write error: Broken pipe",
    ],
)
def test_a_pipe_is_no_connection(text: str) -> None:
    read = reading.read(text)
    assert read.not_tcp and not read.answers


@pytest.mark.parametrize(
    "text",
    [
        "the cat sat on the mat",
        "Connection established",
        "reading EOF marker of the tape",
        "Everything is reset to its defaults",
        "SELECT 104 FROM pipes",
        "timeout is 30 seconds",
    ],
)
def test_nothing_is_said_of_what_says_nothing(text: str) -> None:
    read = reading.read(text)
    assert not read.known, read.told


def test_a_line_that_ends_in_eof_is_not_go_s() -> None:
    read = reading.read("flux: stream 7: EOF")
    assert "Go" not in {one.entry.program for one in read.found}


def test_of_an_errno_alone_all_that_fits_is_said() -> None:
    read = reading.read("flux: Connection reset by peer")
    assert read.words == "Connection reset by peer"
    assert {"linger", "unread", "crash", "keepalive-race", "firewall-reset", "injected"} <= set(names(read))
    longer = reading.read("ConnectionResetError: [Errno 104] Connection reset by peer")
    assert {"linger", "unread", "crash", "keepalive-race", "firewall-reset"} <= set(names(longer))


def test_causes_that_cannot_be_told_apart_are_one_answer() -> None:
    for answer in reading.read("flux: Connection reset by peer").answers:
        if {"linger", "unread", "crash"} & {fit.name for fit in answer.fits}:
            assert {"linger", "unread", "crash"} <= {fit.name for fit in answer.fits}
            break
    else:
        raise AssertionError


def test_what_else_is_known_counts() -> None:
    line = "flux: Connection reset by peer"
    assert names(reading.read(line))[0] != "keepalive-race"
    assert names(reading.read(line, answering.Known(after_idle=True)))[0] == "keepalive-race"
    assert "keepalive-race" not in names(reading.read(line, answering.Known(first_request=True)))
    assert set(names(reading.read(line, answering.Known(rst_from="balancer")))) == {"load-balancer-idle"}
    every = reading.read(line, answering.Known(every=350))
    assert every.answers[0].name == "forgotten" and "AWS NLB" in every.hints[0]
    since = reading.read(line, answering.Known(since="the new firewall"))
    assert since.answers[0].name == "forgotten" and since.hints
    nothing = reading.read("dial tcp 10.0.0.9:80: connect: connection refused", answering.Known(after_idle=True))
    assert nothing.dropped == ("--after-idle",) and names(nothing)[0] == "closed-port"


def test_at_most_three_questions_with_the_names_of_the_line() -> None:
    asked = reading.read(NGINX).questions
    assert 1 <= len(asked) <= 3
    assert any("10.0.0.7:8080" in question.command for question in asked)
    assert any("tcpdump" in question.command and "port 8080" in question.command for question in asked)


def test_rows_of_packets_go_to_the_reading_of_captures() -> None:
    read = reading.read("10:00:00.1 IP 10.0.0.1.4000 > 10.0.0.2.80: Flags [S], seq 1, win 64240, length 0")
    assert len(read.packets) == 1 and read.known and not read.found


def test_more_than_a_message_is_refused_and_a_message_is_read() -> None:
    with pytest.raises(Misuse, match="read the log with --log"):
        reading.read("x" * (reading.MOST + 1))


HOSTILE = {
    "fault names": "Connection reset by peer ",
    "numbers": "104: ",
    "openings": "recv() failed (",
    "haproxy": " SD-- 0/0/",
    "flags": '" 503 UC',
    "garbage": "Bad status line: " + "\x01\xff" * 16,
    "escapes": '\\\\\\"',
    "braces": '{"a":',
    "quotes": "> ",
    "entities": "&amp;",
    "colours": "\x1b[31m",
    "words": "connection closed by peer timed out ",
    "addresses": "10.0.0.1:80->",
    "urls": "http://a.b.c:80/",
    "rows": "Flags [S], ",
    "one letter": "a",
    "spaces": " ",
    "new lines": "\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_grows_takes_time_in_proportion(kind: str) -> None:
    """Four times as much takes about four times as long, whatever it is; and the greatest message ends soon."""
    reading.read(HOSTILE[kind])  # what is compiled once
    took = {}
    for size in (15_000, 60_000):
        text = (HOSTILE[kind] * (size // len(HOSTILE[kind]) + 1))[:size]
        begun = time.process_time()
        reading.read(text)
        took[size] = time.process_time() - begun
    assert took[60_000] < 2.5, took
    assert took[60_000] < 10 * max(took[15_000], 0.02), took
