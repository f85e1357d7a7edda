"""What other stacks, boxes and attackers send, and what is said of it. Each row is a capture written packet by packet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import explain
from tests.explaining.made_up import Segment, capture, handshake, stamp

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ALERT = b"\x15\x03\x03\x00\x1a" + bytes(26)
WORKED = [*handshake(), Segment(">", "P.", 1, 1, b"hello"), Segment("<", "P.", 1, 6, b"world"), Segment(">", ".", 6, 6)]
CLOSED = [*WORKED, Segment(">", "F.", 6, 6), Segment("<", ".", 6, 7)]
MSS = b"\2\4\5\xb4"
BIG_IP = b"BIG-IP: [0x2f3:123] Flow expired (sweeper)"


@dataclass(frozen=True)
class Told:
    """What the most harmful diagnosis has to say. An empty word is not compared."""

    harm: str
    cause: str = ""
    by: str | None = None
    words: str = ""  # in its end, its plain words or its reasoning
    sure: str = ""


def _abort(side: str, **fields: object) -> Segment:
    return replace(Segment(side, "R.", 6, 6), **fields)  # type: ignore[arg-type]


CASES: dict[str, tuple[list[Segment], Told]] = {
    "a TLS alert meets a close": (
        [*CLOSED, Segment("<", "P.", 6, 7, ALERT), Segment(">", "R", 7, window=0, ip_id=0)],
        Told("harmless", "late-write", "client", "a TLS alert"),
    ),
    "a QUIT meets a close": (
        [
            *WORKED,
            Segment("<", "F.", 6, 6),
            Segment(">", "P.", 6, 7, b"QUIT\r\n"),
            Segment("<", "R", 7, window=0, ip_id=0),
        ],
        Told("harmless", "late-write", "server", "QUIT"),
    ),
    "a request meets the server's close": (
        [
            *handshake(),
            Segment(">", "P.", 1, 1, REQUEST),
            Segment("<", "P.", 1, 28, b"HTTP/1.1 200 OK\r\n\r\n"),
            Segment(">", ".", 28, 20),
            Segment("<", "F.", 20, 28, at=5.0),
            Segment(">", "P.", 28, 20, REQUEST),
            Segment("<", "R", 20, window=0, ip_id=0),
        ],
        Told("failed", "keepalive-race", "server", "under way", "shown by the packets"),
    ),
    "Windows aborts": (
        [*WORKED, _abort(">", window=0)],
        Told("failed", "linger", "client", sure="one of these"),
    ),
    "a browser drops its pool": (
        [*WORKED, _abort(">", at=60.0)],
        Told("harmless", "", "client"),
    ),
    "older Windows aborts": (
        [
            *CLOSED[:6],
            Segment("<", "F.", 6, 6),
            Segment(">", ".", 6, 7),
            Segment(">", "P.", 6, 7, b"x"),
            Segment(">", "R", 7, window=0),
        ],
        Told("harmless", "linger", None, "answers nothing", "one of these"),
    ),
    "Windows answers data after its close": (
        [*CLOSED, Segment("<", "P.", 6, 7, b"a" * 500), Segment(">", "R.", 7, 506, window=0)],
        Told("suspicious", "late-write", "client"),
    ),
    "NetScaler answers data after its idle timeout": (
        [
            Segment(">", "S"),
            Segment("<", "S.", 0, 1, window=8190, ttl=247),
            Segment(">", ".", 1, 1),
            Segment(">", "P.", 1, 1, b"hello", at=908.0),
            Segment("<", "R", 1, window=8201, ttl=247),
        ],
        Told("failed", "load-balancer-idle", "middlebox", "NetScaler"),
    ),
    "a forged refusal": (
        [
            Segment(">", "S"),
            Segment("<", "R.", -9000, 1, ttl=46),
            *(Segment("<", flags, 0, 1, ttl=120, at=1.0) for flags in ("S.", "S.")),
            Segment(">", ".", 1, 1),
            Segment("<", "P.", 1, 1, b"hello", ttl=120),
        ],
        Told("no reset", "", "middlebox", "both ends go on"),
    ),
    "what was acknowledged was not captured": (
        [*WORKED, Segment(">", ".", 6, 90, at=5.0), Segment(">", "P.", 6, 90, b"on"), Segment("<", "R", 90, window=0)],
        Told("suspicious", "late-write", "", "than was captured", "one of these"),
    ),
    "data at once after an answer": (
        [*WORKED, Segment(">", "P.", 6, 6, b"more"), _abort("<", ack=10)],
        Told("failed", "unread", "server", sure="one of these"),
    ),
    "BSD answers each segment after a close": (
        [
            *CLOSED,
            Segment("<", "P.", 6, 7, b"a" * 500),
            Segment(">", "R", 7, window=0),
            Segment("<", "P.", 506, 7, b"b" * 500),
            Segment(">", "R", 7, window=0),
        ],
        Told("suspicious", "late-write", "client"),
    ),
    "NetScaler's idle timeout": (
        [*WORKED, replace(_abort("<"), at=180.0, window=9300, ttl=250)],
        Told("failed", "load-balancer-idle", "middlebox", "NetScaler"),
    ),
    "BIG-IP says why": (
        [*WORKED, replace(_abort("<"), at=300.0, window=0, data=BIG_IP)],
        Told("failed", "load-balancer-idle", "middlebox", "Flow expired"),
    ),
    "a balancer passes a reset on": (
        [*WORKED, _abort("<", window=0, data=b"BIG-IP: [0x2f3:123] {peer} TCP RST from remote system")],
        Told("failed", "", "middlebox", "relayed"),
    ),
    "another TTL": (
        [*WORKED, Segment("<", "R", 6, window=0, ttl=120, ip_id=4242)],
        Told("failed", "", "middlebox", "its TTL is 120"),
    ),
    "its sender goes on": (
        [*WORKED, Segment("<", "R", 6, window=0), Segment("<", "P.", 6, 6, b"more")],
        Told("failed", "", "middlebox", "goes on afterwards"),
    ),
    "numbers that rise": (
        [*WORKED, Segment("<", "R", 6, window=0), Segment("<", "R", 1466, window=0), Segment("<", "R", 4386, window=0)],
        Told("failed", "", None, "in the name of the server"),
    ),
    "a RST that is ignored": (
        [
            *WORKED,
            Segment("<", "R", 906, window=0, ttl=120),
            Segment(">", ".", 6, 6),
            Segment(">", "P.", 6, 6, b"again"),
            Segment("<", "P.", 6, 11, b"yes"),
            Segment(">", ".", 11, 9),
        ],
        Told("no reset", "injected", "middlebox", "both ends go on"),
    ),
    "all flags at once": (
        [*WORKED, Segment("<", "FSRP.U", 6, 6), Segment(">", "P.", 6, 6, b"on")],
        Told("no reset", "", None, "a made-up packet"),
    ),
    "one device writes both ends": (
        [
            *[replace(segment, ip_id=100 + number) for number, segment in enumerate(WORKED)],
            Segment(">", "R.", 6, 6, ip_id=108),
            Segment("<", "R.", 6, 6, ip_id=110, at=0.0075),
        ],
        Told("no reset", "", None, "rebuilt packets"),
    ),
    "a generator's packets": (
        [*[replace(segment, ip_id=1) for segment in WORKED], Segment("<", "R.", 6, 6, ip_id=1)],
        Told("no reset", "", None, "generator"),
    ),
    "a SYN,ACK that nobody asked for": (
        [Segment("<", "S.", 0, 1), Segment(">", "R", 1, window=0)],
        Told("harmless", "", "client", "unasked SYN,ACK"),
    ),
    "a SYN scan": (
        [Segment(">", "S"), Segment("<", "S.", 0, 1), Segment(">", "R", 1, window=0)],
        Told("harmless", "", "client", "SYN scan"),
    ),
    "a SYN,ACK after the client had given up": (
        [Segment(">", "S"), Segment("<", "S.", 0, 1, at=4.0), Segment(">", "R", 1, window=0)],
        Told("failed", "connect-timeout", "client", "given up"),
    ),
    "a RST of no known stack": (
        [Segment("<", "R", 6, window=346)],
        Told("suspicious", "load-balancer-idle", "", "no ACK flag and window 346", "cannot be told"),
    ),
    "one RST alone": (
        [Segment("<", "R", 6, window=0)],
        Told("suspicious", "", "", "cannot be told from it alone", "cannot be told"),
    ),
    "a refusal": (
        [Segment(">", "S"), Segment("<", "R.", -9000, 1, window=0)],
        Told("failed", "closed-port", ""),
    ),
    "a Xmas scan": (
        [Segment(">", "FPU"), Segment("<", "R.", -9000, 1, window=0)],
        Told("harmless", "closed-port", None, "Xmas"),
    ),
    "an ACK scan": (
        [Segment(">", ".", 1, 1), Segment("<", "R", 1, window=0)],
        Told("suspicious", "bad-segment", "", "ACK scan"),
    ),
    "a probe to a host that was restarted": (
        [*WORKED, Segment(">", ".", 5, 6, at=7200.0), Segment("<", "R", 6, window=0, ip_id=0)],
        Told("failed", "half-open", "", "keepalive probe"),
    ),
    "clocks out of order": (
        [
            *[replace(segment, at=float(10 - number)) for number, segment in enumerate(WORKED)],
            replace(_abort("<"), at=0.5),
        ],
        Told("failed", "", "server"),
    ),
}


def _chief(packets: list[Segment]) -> Diagnosis:
    (found,) = explain(capture(packets))
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(name: str) -> None:
    packets, told = CASES[name]
    found = _chief(packets)
    said = f"{found.end}; {found.plain}; {found.why}"
    assert found.harm == told.harm, said
    assert found.cause == told.cause or not told.cause, (found.causes, said)
    assert told.by is None or found.by == told.by, (found.by, said)
    assert told.words in said, said
    assert told.sure in (found.sure, ""), (found.sure, said)


def test_packets_out_of_order_in_time_are_noted() -> None:
    assert any("backwards" in caveat for caveat in _chief(CASES["clocks out of order"][0]).caveats)


def test_a_rst_with_a_higher_number_than_the_one_before_it_is_suspected() -> None:
    found = _chief(CASES["numbers that rise"][0])
    assert [reset.between for reset in found.resets] == [("server", "middlebox")] * 3
    assert "RST SEQ CHANGE" in found.resets[1].why


def test_injected_data_is_noted() -> None:
    stamped = [replace(segment, options=stamp(number, number)) for number, segment in enumerate(WORKED)]
    more = [
        Segment("<", "P.", 6, 6, b"forged", ttl=200, ip_id=1),
        Segment("<", "P.", 6, 6, b"real", options=stamp(9, 9)),
        Segment("<", "P.", 10, 6, b"real", options=stamp(10, 9)),
    ]
    found = _chief([*stamped, *more])
    assert any(f"packet {len(stamped) + 1} (PSH, ACK, 6 bytes) was injected" in caveat for caveat in found.caveats)


def test_many_ports_of_one_host_are_a_scan() -> None:
    probes = [
        segment
        for port in range(20, 30)
        for segment in (
            Segment(">", "S", server=("10.0.0.2", port)),
            Segment("<", "R.", -9000, 1, window=0, server=("10.0.0.2", port)),
        )
    ]
    found = explain(capture(probes))
    assert {d.harm for d in found} == {"harmless"}
    assert all("port scan" in d.why for d in found)


def test_a_refused_address_before_another_works_is_harmless() -> None:
    refused = [
        Segment(">", "S", server=("10.0.0.3", 80)),
        Segment("<", "R.", -9000, 1, window=0, server=("10.0.0.3", 80)),
    ]
    worked = [replace(segment, client=("10.0.0.1", 40001)) for segment in WORKED]
    first, _ = explain(capture([*refused, *worked]))
    assert (first.harm, first.cause) == ("harmless", "closed-port")


@pytest.mark.parametrize(("accepted_at", "cause"), [(1.5, "backlog-full"), (20.0, "connect-timeout")])
def test_a_queue_is_full_only_where_others_are_accepted_meanwhile(accepted_at: float, cause: str) -> None:
    unanswered = [Segment(">", "S", at=at, options=MSS) for at in (0.0, 1.0, 3.0)]
    other = [replace(segment, at=accepted_at + n / 1000) for n, segment in enumerate(WORKED)]
    later = [replace(segment, client=("10.0.0.1", 40001)) for segment in other]
    both = sorted([*unanswered, *later], key=lambda segment: segment.at or 0.0)
    found = next(d for d in explain(capture(both)) if d.end == "never answered")
    assert (found.cause, found.sure) == (cause, "most likely")


def test_what_acknowledges_what_was_not_captured_is_not_ignored() -> None:
    lost = [*WORKED, Segment(">", ".", 6, 106), Segment(">", "P.", 6, 106, b"more"), Segment("<", ".", 106, 10)]
    (found,) = explain(capture(lost))
    assert "ignored" not in found.end
    forged = [*WORKED, Segment(">", ".", 6, 106), Segment(">", "P.", 6, 6, b"more"), Segment("<", ".", 6, 10)]
    (found,) = explain(capture(forged))
    assert found.end.endswith("a segment was ignored")
