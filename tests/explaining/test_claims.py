"""What looks like a fault's sender, its harm or its cause, and is not to be claimed. Each row is a capture written packet by
packet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import explain
from tests.explaining import made
from tests.explaining.made_up import Segment, capture, stamp
from tests.explaining.test_situations import ALERT, CLOSED, REQUEST, WORKED, Told

# With timestamps, and the server's packets behind 12 hops.
STAMPED = [
    Segment(">", "S", options=stamp(1000, 0)),
    Segment("<", "S.", ack=1, ttl=52, options=stamp(2000, 1000), ip_id=0),
    Segment(">", ".", 1, 1, options=stamp(1001, 2000)),
    Segment(">", "P.", 1, 1, REQUEST, options=stamp(1002, 2000)),
    Segment("<", ".", 1, 28, ttl=52, options=stamp(2003, 1002), ip_id=900),
    Segment("<", "P.", 1, 28, b"a" * 99, ttl=52, options=stamp(2004, 1002), ip_id=901),
    Segment(">", ".", 28, 100, options=stamp(1005, 2004)),
]
OTHER_WAY = Segment("<", "R.", 100, 28, ttl=47, options=stamp(9000, 1005), ip_id=902)


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        ([*STAMPED, OTHER_WAY], Told("failed", by="server", words="reset straight after")),
        ([*STAMPED, replace(OTHER_WAY, ip_id=45000)], Told("failed", by="middlebox", words="out of their row")),
        ([*STAMPED, replace(OTHER_WAY, ip_id=0, options=b"")], Told("failed", by="middlebox", words="no timestamp")),
        ([*STAMPED[:1], replace(STAMPED[1], ttl=255), *STAMPED[2:4], replace(OTHER_WAY, seq=1)], Told("failed", by="")),
        (
            [
                *CLOSED[:-1],
                Segment(">", "R.", 7, 6, window=0),
                Segment(">", "F.", 6, 6, ip_id=107),
                Segment("<", ".", 6, 7),
            ],
            Told("suspicious", by="client"),
        ),
        (
            [
                *WORKED,
                Segment(">", "P.", 6, 6, REQUEST),
                Segment("<", "R.", 36, 33, ip_id=0),
                Segment("<", "P.", 6, 33, b"a" * 30, ip_id=0),
            ],
            Told("failed", "unread", "server", "answered in packet 9"),
        ),
        ([*WORKED, Segment(">", "R", 6, window=0, at=13.0)], Told("suspicious", "linger", "", "answers nothing")),
    ],
    ids=[
        "another way",
        "another row",
        "no timestamp",
        "a proxy of SYNs",
        "a FIN captured twice",
        "data that a RST has overtaken",
        "everything was acknowledged",
    ],
)
def test_who_sent_it(packets: list[Segment], told: Told) -> None:
    _holds(packets, told)


ASKED = [*WORKED, Segment(">", "P.", 6, 6, REQUEST), Segment("<", ".", 6, 33)]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
PART = [*ASKED, Segment("<", "P.", 6, 33, HEAD + b"a" * 500), Segment(">", ".", 33, 549)]


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        ([*ASKED, Segment(">", "R.", 33, 6, at=60.0)], Told("failed", "linger", "client", "nothing had answered")),
        ([*ASKED, Segment(">", "P.", 33, 6, b"push"), Segment(">", "R.", 37, 6)], Told("suspicious", "", "client")),
        (
            [*PART, Segment(">", "R.", 33, 549, at=30.0)],
            Told("failed", "", "client", "5000 bytes of body, and 500 had come"),
        ),
        (
            [
                *PART[:-1],
                Segment("<", "P.", 549, 33, b"a" * 4500),
                Segment(">", ".", 33, 5049),
                Segment(">", "R.", 33, 5049, at=30.0),
            ],
            Told("harmless", "", "client", "asked for nothing more"),
        ),
        (
            [*PART[:-1], Segment("<", "P.", 2009, 33, b"a" * 900), Segment(">", "R.", 33, 549, at=30.0)],
            Told("failed", "", "client", "had acknowledged 549"),
        ),
        (
            [*ASKED, Segment(">", "F.", 33, 6), Segment("<", ".", 6, 34), Segment("<", "R.", 6, 34, at=60.0)],
            Told("failed", "unread", "server", "Whether the client still waited"),
        ),
        (
            [*[p for p in CLOSED if p.side == ">"], Segment(">", "R", 7, window=0, ip_id=0)],
            Told("suspicious", "late-write", "client", "nothing of it was", "cannot be told"),
        ),
        ([*[p for p in WORKED if p.side == ">"], Segment(">", "R.", 6, 6)], Told("suspicious", "", "client")),
        (
            [
                *CLOSED,
                Segment("<", "F.", 6, 7),
                Segment(">", ".", 7, 7),
                Segment("<", "R.", 7, 7, window=0, ttl=255, at=23.0),
            ],
            Told("harmless", "", "", "ends nothing any more"),
        ),
        ([*WORKED, Segment(">", "P.", 6, 6, ALERT), Segment(">", "R.", 37, 6)], Told("harmless", "", "client")),
    ],
    ids=[
        "a request that nobody answered",
        "a push that nobody answered",
        "half a response",
        "a whole response",
        "a hole in it",
        "a half-close that nobody answered",
        "one direction, closed",
        "one direction, aborted",
        "long after the close",
        "after a farewell",
    ],
)
def test_nothing_is_harmless_while_somebody_may_wait(packets: list[Segment], told: Told) -> None:
    _holds(packets, told)


KERNEL = (
    b"\x02\x04\x05\xb4\x04\x02\x01\x01" + stamp(1000, 0) + b"\x01\x03\x03\x07"
)  # MSS, SACK, timestamp, window scale
SYNS = [Segment(">", "S"), Segment("<", "S.", ack=1)]
KERNELS = [replace(SYNS[0], options=KERNEL), SYNS[1]]
TURNS = "turns alone were captured"


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        ([*SYNS, Segment(">", "R.", 1001, 5001, at=5.0)], Told("suspicious", "linger", None, TURNS, "cannot be told")),
        ([*SYNS, Segment("<", "R.", 5001, 1001, at=5.0)], Told("suspicious", "linger", None, TURNS, "cannot be told")),
        (
            [*SYNS, Segment(">", "R", 1001, window=0, at=5.0)],
            Told("suspicious", "late-write", None, TURNS, "cannot be told"),
        ),
        ([SYNS[0], Segment("<", "R.", 1, 1001, at=5.0)], Told("suspicious", "linger", None, TURNS, "cannot be told")),
        (
            [*SYNS, Segment("<", "F.", 5001, 1001, at=5.0), Segment("<", "R", 5002, window=0, at=5.03)],
            Told("suspicious", "", None, TURNS, "cannot be told"),
        ),
        (
            [SYNS[0], Segment("<", "R.", -9000, -500, window=0)],
            Told("suspicious", "bad-segment", None, "refuses something else"),
        ),
        (
            [*KERNELS, Segment(">", "R", 1, window=0, ip_id=0)],
            Told("suspicious", "connect-timeout", "client", "cancelled"),
        ),
        (
            [replace(KERNELS[0], at=at) for at in (0.0, 1.0, 3.0)]
            + [replace(SYNS[1], at=3.2), Segment(">", "R", 1, window=0, ip_id=0)],
            Told("failed", "connect-timeout", "client", "answered 3.2 s later"),
        ),
    ],
    ids=[
        "the client aborts",
        "the server aborts",
        "a bare RST",
        "no answer captured",
        "a FIN",
        "another number",
        "a cancelled connect()",
        "an answer to the third SYN",
    ],
)
def test_a_rst_after_nothing_but_syns_is_not_read_as_a_refusal(packets: list[Segment], told: Told) -> None:
    _holds(packets, told)


TWICE = [*WORKED, *[Segment(">", "P.", 6, 6, REQUEST, at=at) for at in (1.0, 1.2)]]
FOLLOWS = Segment(">", "S", client=("10.0.0.9", 9), at=60.0)


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        (TWICE, Told("suspicious", "retransmit-timeout", None, "2 times (packets 7, 8, over 0.2 s)", "one of these")),
        (
            [*TWICE, *[Segment(">", "P.", 6, 6, REQUEST, at=at) for at in (1.6, 2.4, 4.0, 7.2)]],
            Told("failed", "retransmit-timeout", None, "6 times (packets 7, 8, 9, …, 12, over 6.2 s)"),
        ),
        (
            [*ASKED, *[Segment("<", "P.", 6 + 100 * place, 33, b"a" * 100) for place in (0, 3, 1, 2)]],
            Told("open", "", None, "nothing has ended it"),
        ),
        (
            [
                Segment(">", "S"),
                Segment(">", "S", at=1.0),
                Segment("<", "S.", ack=1, at=1.5),
                Segment(">", ".", 1, 1),
                Segment("<", "S.", ack=1),
                Segment(">", ".", 1, 1),
            ],
            Told("open"),
        ),
        (
            [*SYNS, Segment(">", ".", 1, 1), Segment("<", "S.", ack=1, at=1.0), Segment(">", ".", 1, 1)],
            Told("suspicious", "backlog-full", None, "TCP_DEFER_ACCEPT", "cannot be told"),
        ),
        (
            [
                *SYNS,
                Segment(">", ".", 1, 1),
                Segment(">", "P.", 1, 1, REQUEST),
                Segment("<", "S.", ack=1, at=1.0),
                Segment(">", ".", 28, 1),
            ],
            Told("failed", "backlog-full", None, "sent data", "most likely"),
        ),
        (
            [SYNS[1], Segment("<", "P.", 1, 28, b"a" * 99)],
            Told("open", "", None, "goes on (packet 2)", "cannot be told"),
        ),
        ([SYNS[1], replace(SYNS[1], at=1.0)], Told("suspicious", "", None, "nothing but that again (packet 2)")),
    ],
    ids=[
        "sent twice",
        "sent six times",
        "out of order",
        "two SYNs, two answers",
        "a deferred accept",
        "a full queue",
        "one direction",
        "unasked",
    ],
)
def test_what_comes_again_and_what_only_seems_to(packets: list[Segment], told: Told) -> None:
    found = explain(capture([*packets, FOLLOWS]))[0]
    _agrees(found, told)


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        (
            [
                *WORKED,
                Segment("<", "F.", 6, 6),
                Segment(">", ".", 6, 7),
                Segment(">", ".", 5, 7, at=45.0),
                Segment("<", "R", 7, window=0),
            ],
            Told("suspicious", "fin-wait-timeout", "server", "was acknowledged in packet 8"),
        ),
        (
            [*WORKED, Segment(">", "P.", 6, 6, REQUEST, at=0.03), Segment("<", "R.", 6, 33)],
            Told("failed", "unread", "server", "not answered", "one of these"),
        ),
        (
            [
                *WORKED,
                Segment(">", "P.", 6, 6, REQUEST),
                Segment("<", "P.", 6, 33, b"a" * 9),
                Segment("<", "R", 115, window=0),
                Segment(">", ".", 33, 15),
                Segment(">", "P.", 33, 15, b"on"),
                Segment("<", "P.", 15, 35, b"yes"),
            ],
            Told("no reset", "injected", None, "both ends go on"),
        ),
        (
            [
                *WORKED,
                Segment(">", "FRU", 6),
                *ASKED[-2:],
                Segment("<", "FSR", 6, 33),
                Segment(">", "P.", 33, 6, b"on"),
            ],
            Told("no reset", "", None, "set together"),
        ),
        (
            [
                *ASKED,
                Segment("<", "R.", 6, 33),
                Segment(">", "P.", 33, 6, b"on"),
                Segment(">", "P.", 33, 6, b"on", at=2.0),
            ],
            Told("failed", "retransmit-timeout", "server", "unless the capture merely stops"),
        ),
    ],
    ids=[
        "a probe long after the FIN",
        "no idle connection",
        "no challenge",
        "flags that no TCP sets",
        "the capture stops",
    ],
)
def test_what_came_in_between_is_not_passed_over(packets: list[Segment], told: Told) -> None:
    found = _chief(packets)
    _agrees(found, told)
    assert "challenges" not in found.why


def _chief(packets: list[Segment]) -> Diagnosis:
    (found,) = explain(capture(packets))
    return found


def _holds(packets: list[Segment], told: Told) -> None:
    _agrees(_chief(packets), told)


def _agrees(found: Diagnosis, told: Told) -> None:
    said = f"{found.end}; {found.plain}; {found.why}"
    assert found.harm == told.harm, said
    assert found.cause == told.cause or not told.cause, (found.causes, said)
    assert told.by is None or found.by == told.by, (found.by, said)
    assert told.words in said, said
    assert told.sure in (found.sure, ""), (found.sure, said)


def test_another_way_through_the_network_has_injected_nothing() -> None:
    later = [replace(OTHER_WAY, flags="P.", data=b"more"), Segment(">", ".", 28, 104, options=stamp(1009, 9000))]
    for ip_id, injected in ((902, False), (45000, True)):
        plain = [replace(segment, options=b"") for segment in (*STAMPED, replace(later[0], ip_id=ip_id), later[1])]
        assert any("injected" in caveat for caveat in _chief(plain).caveats) == injected


def test_rows_without_ip_ids_that_were_captured_twice() -> None:
    rows = [
        ("1.2.3.4.4000 > 5.6.7.8.80", "[S], seq 100, win 8192, options [mss 1460], length 0"),
        ("5.6.7.8.80 > 1.2.3.4.4000", "[S.], seq 500, ack 101, win 8192, options [mss 1460], length 0"),
        ("1.2.3.4.4000 > 5.6.7.8.80", "[.], ack 1, win 4200, length 0"),
        ("1.2.3.4.4000 > 5.6.7.8.80", "[P.], seq 1:86, ack 1, win 4200, length 85"),
    ]
    text = "".join(
        f"21:12:49.43{place}{copy}00 IP {ends}: Flags {rest}\n"
        for place, (ends, rest) in enumerate(rows)
        for copy in ((1, 2) if ends.startswith("1") else (1,))
    )
    (found,) = explain(text.encode())
    assert found.end == "still open", found.why
    assert any("captured twice" in caveat for caveat in found.caveats)


def test_a_product_is_known_by_the_window_that_tshark_has_multiplied() -> None:
    rows = [
        "1 0.000000 10.0.0.1 → 10.0.0.2 TCP 70 25936 → 389 [SYN] Seq=0 Win=8190 Len=0 MSS=1460 WS=32",
        "2 0.100000 10.0.0.2 → 10.0.0.1 TCP 70 389 → 25936 [SYN, ACK] Seq=0 Ack=1 Win=8192 Len=0 MSS=1460 WS=256",
        "3 0.200000 10.0.0.1 → 10.0.0.2 TCP 60 25936 → 389 [ACK] Seq=1 Ack=1 Win=8160 Len=0",
        "4 180.200000 10.0.0.1 → 10.0.0.2 TCP 60 25936 → 389 [RST, ACK] Seq=1 Ack=1 Win=297600 Len=0",
    ]
    (found,) = explain("\n".join(rows).encode())
    assert (found.cause, found.by) == ("load-balancer-idle", "middlebox")


def test_an_end_that_sends_an_icmp_error_is_no_middlebox() -> None:
    syn, answer = made.REFUSED
    error = b"\x03\x03" + bytes(6) + made.ipv4(syn)
    (found,) = explain(made.pcap([*made.framed([syn]), (0.001, made.ethernet(made.ipv4(answer, error, protocol=1)))]))
    assert (found.cause, found.by) == ("reject", "server"), found.why


def test_a_hint_at_another_sender_is_one_of_the_causes() -> None:
    found = _chief([*STAMPED, replace(OTHER_WAY, ip_id=0)])
    assert "may have been made in between" in found.resets[0].why
    assert (found.causes[-1], found.sure) == ("injected", "one of these")
