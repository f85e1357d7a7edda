"""What looks like a fault's sender, its harm or its cause, and is not to be claimed. Each row is a capture written packet by
packet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import explain
from tests.explaining.made_up import Segment, capture, stamp
from tests.explaining.test_situations import CLOSED, REQUEST, WORKED, Told

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
            Told("failed", by="client"),
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
            Told("harmless", "", "client"),
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
    ],
)
def test_nothing_is_harmless_while_somebody_may_wait(packets: list[Segment], told: Told) -> None:
    _holds(packets, told)


def _chief(packets: list[Segment]) -> Diagnosis:
    (found,) = explain(capture(packets))
    return found


def _holds(packets: list[Segment], told: Told) -> None:
    found = _chief(packets)
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
