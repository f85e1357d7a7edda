"""A message that a person pastes leads back to its causes."""

from __future__ import annotations

import re

import pytest

from faultkit import causes
from faultkit.clients import known
from faultkit.clients import reading as which
from faultkit.clients.message import PLACES, general
from faultkit.serving.faults import TESTERS

EXAMPLES = {
    "<url>": "https://shop.example.org:8443/api/v1/orders?id=7",
    "<path>": "/api/v1/orders?id=7",
    "<host>": "shop.example.org",
    "<port>": "8443",
    "<number>": "30004",
    "<id>": "0x7f3a5c0d1e90",
    "<address>": "10.0.3.17:52814",
    "<name>": "orders",
    "<any>": "whatever",
}


def another(text: str) -> str:
    """The message as another host and another day have it."""
    for place, example in EXAMPLES.items():
        text = text.replace(place, example)
    return text


def test_there_is_an_example_of_every_place() -> None:
    assert set(EXAMPLES) == set(PLACES)


@pytest.mark.parametrize("one", known.known(), ids=lambda one: f"{one.program}: {one.text[:60]}")
def test_every_kept_message_leads_back_to_its_causes(one: known.Known) -> None:
    line = f"2026-11-21T10:53:21Z app[4242]: ERROR order 17: {another(one.text)} (gave up)"
    for pasted in (another(one.text), line, another(one.text).replace("\n", "\n    at somewhere (file.js:1:2)\n")):
        reading = which.read(pasted)
        assert reading.match.whole
        assert one.text in {found.text for found in reading.match.known}, pasted
        found = {candidate.cause.name for candidate in reading.found} | set(reading.testers)
        assert {which.plain(fault) for fault in one.faults if which.plain(fault) not in TESTERS} <= found
        assert {fault for fault in one.faults if which.plain(fault) in TESTERS} <= found


@pytest.mark.parametrize(
    ("pasted", "program", "first", "others"),
    [
        (
            "curl: (56) Recv failure: Connection reset by peer",
            "curl",
            "linger",
            {"unread", "crash", "injected", "firewall-reset"},
        ),
        (
            "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Couldn't connect to server",
            "curl",
            "closed-port",
            {"closed-port"},
        ),
        (
            "2024/05/06 07:08:09 [error] 31#31: *1371 recv() failed (104: Connection reset by peer) while reading response "
            'header from upstream, client: 10.1.2.3, server: _, request: "GET /a HTTP/1.1", upstream: '
            '"http://10.0.0.7:8080/a", host: "example.org"',
            "nginx",
            "linger",
            {"keepalive-race", "unread"},
        ),
        (
            "11:41:25 [error] 39#39: *1371 upstream prematurely closed connection while reading response header from "
            'upstream, client: 127.0.0.1, server: , request: "GET /test HTTP/1.0"',
            "nginx",
            "late-write",
            {"keepalive-race", "crash"},
        ),
        ("Error: connect ECONNREFUSED 10.2.3.4:5432", "Node http", "closed-port", {"closed-port"}),
        ("    [cause]: Error: read ECONNRESET", "Node fetch", "linger", {"unread"}),
        ("This site can't be reached. ERR_CONNECTION_RESET", "Chromium", "linger", {"unread"}),
        ("GET http://127.0.0.1:8000/ net::ERR_EMPTY_RESPONSE", "Chromium", "late-write", {"crash"}),
        (
            'Get "http://10.0.0.9:80/": read tcp 10.0.0.1:52814->10.0.0.9:80: read: connection reset by peer',
            "Go",
            "linger",
            {"keepalive-race"},
        ),
        (
            'Get "http://10.0.0.9:80/": dial tcp 10.0.0.9:80: connect: connection refused',
            "Go",
            "closed-port",
            set(),
        ),
        (
            "proxy error: read tcp 10.0.0.1:52814->10.0.0.9:80: read: connection reset by peer",
            "Go",
            "linger",
            {"keepalive-race", "unread"},
        ),
        (
            "2024/05/06 07:08:09 [error] 31#31: *1371 readv() failed (104: Connection reset by peer) while reading upstream, "
            "client: 10.1.2.3, server: _",
            "nginx",
            "linger",
            {"early-response"},
        ),
        ("Caused by: java.net.SocketException: Connection reset", "Java HttpURLConnection", "linger", {"unread"}),
        (
            "Caused by: java.io.IOException: HTTP/1.1 header parser received no bytes\n\tat java.net.http/jdk.internal...\n"
            "Caused by: java.io.EOFException: EOF reached while reading",
            "Java HttpClient",
            "late-write",
            {"crash"},
        ),
        (
            "haproxy[1234]: 10.0.1.2:33317 [06/Feb/2024:12:14:14.655] http-in static/srv1 10/0/30/-1/109 502 209 - - SH-- "
            '1/1/1/1/0 0/0 "GET /index.html HTTP/1.1"',
            "HAProxy",
            "linger",
            {"keepalive-race", "late-write"},
        ),
        (
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            "Envoy",
            "late-write",
            set(),
        ),
        (
            "urllib3: requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, "
            "'Connection reset by peer'))",
            "requests",
            "linger",
            {"keepalive-race"},
        ),
    ],
)
def test_a_pasted_line(pasted: str, program: str, first: str, others: set[str]) -> None:
    reading = which.read(pasted)
    assert program in {one.program for one in reading.match.known}
    names = [candidate.cause.name for candidate in reading.found]
    assert first in names
    assert others <= set(names)
    assert all(candidate.cause.name in reading.ways for candidate in reading.found)


def test_those_that_always_end_so_come_first() -> None:
    names = [
        candidate.cause.name
        for candidate in which.read("ConnectionResetError: [Errno 104] Connection reset by peer").found
    ]
    assert names.index("linger") < names.index("crash")  # which closes with a FIN too
    unserved = [name for name in names if not causes.load(name).served]
    assert names[-len(unserved) :] == unserved


def test_a_part_of_a_message_is_said_to_be_one() -> None:
    reading = which.read("Connection reset by peer")
    assert not reading.match.whole
    assert "linger" in {candidate.cause.name for candidate in reading.found}


def test_the_first_of_two_lines_alone_is_any_of_them() -> None:
    assert {one.program for one in which.read("TypeError: fetch failed").match.known} == {"Node fetch"}
    assert len(which.read("TypeError: fetch failed").match.known) > 3


def test_what_belongs_to_a_run_is_not_kept() -> None:
    told = general("Failed to connect to 127.0.0.1 port 40123 after 2 ms: no", "127.0.0.1", (40123,))
    assert told == "Failed to connect to <host> port <port> after <number> ms: no"
    assert general("curl: (56) Recv failure", "127.0.0.1", (56789,)) == "curl: (56) Recv failure"
    for row in known.seen_document()["seen"]:
        assert not re.search(r"127\.0\.0\.1|:\d{5}\b|0x[0-9a-f]{6}|[^\n\x20-\x7e]", row["message"]), row


def test_of_an_unknown_program_the_words_of_an_errno_are_read() -> None:
    for pasted in ("kex_exchange_identification: read: Connection reset by peer", "ftp: ECONNRESET (-54)"):
        reading = which.read(pasted)
        assert (reading.match.words, reading.match.whole) == ("Connection reset by peer", False)
        assert {"linger", "unread", "firewall-reset"} <= {candidate.cause.name for candidate in reading.found}


def test_haproxy_tells_a_timeout_from_a_close_by_case() -> None:
    line = 'f app/srv1 0/0/0/5/12 200 5120 - - {}-- 1/1/0/0/0 0/0 "GET /"'
    timeout, closed = which.read(line.format("sD")), which.read(line.format("SD"))
    assert (timeout.testers, timeout.found) == (("stall --at mid-body",), ())
    assert {"linger"} <= {candidate.cause.name for candidate in closed.found}
    assert "stall --at mid-body" not in closed.testers


@pytest.mark.parametrize(
    ("pasted", "words", "causes"),
    [
        ("upstream: 110: Operation timed out", "Connection timed out", {"keepalive-timeout", "retransmit-timeout"}),
        ("connect() failed (113: No route to host)", "No route to host", {"reject"}),
        ("worker: write: Broken pipe", "Broken pipe", {"late-write", "crash"}),
    ],
)
def test_the_words_of_an_errno_are_every_cause_s(pasted: str, words: str, causes: set[str]) -> None:
    reading = which.read(pasted, among=())
    assert reading.match.words == words
    assert causes <= {candidate.cause.name for candidate in reading.found}


def test_what_is_seldom_met_comes_last_and_is_played_as_it_was_seen() -> None:
    found = which.read("upstream prematurely closed connection while reading response header from upstream").found
    names = [candidate.cause.name for candidate in found]
    assert names.index("keepalive-race") < names.index("fin-wait-timeout")
    commands = {candidate.cause.name: candidate.command for candidate in found}
    assert "--fin unprocessed" in commands["keepalive-race"]
    assert "--request read" in commands["crash"]


def test_a_short_message_is_not_found_in_other_words() -> None:
    assert "Go" not in {one.program for one in which.read("SSL SYSCALL error: EOF detected").match.known}
    assert "Go" in {one.program for one in which.read('Get "http://a/": EOF').match.known}
