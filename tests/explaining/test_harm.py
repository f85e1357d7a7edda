"""Who was harmed by an end, and by whom it was made, as other people's captures show it. Each row is a capture written packet by
packet."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import Explaining, explain
from faultkit.views import diagnoses
from tests.explaining import made
from tests.explaining.made_up import Segment, capture, handshake, stamp
from tests.explaining.test_situations import MSS, REQUEST, WORKED, Told

OK = b"HTTP/1.1 200 OK\r\n"
LATE = b"X-Padding: " + b"p" * 120 + b"\r\n"  # so that what follows lies behind the first 96 bytes
ASKED = [*handshake(), Segment(">", "P.", 1, 1, REQUEST), Segment("<", ".", 1, 28)]
HELLO = b"\x16\x03\x01\x00\x40\x01" + bytes(63)


def _answered(data: bytes, *more: bytes) -> list[Segment]:
    """A request and its answer in so many segments, all acknowledged."""
    packets, at = list(ASKED), 1
    for part in (data, *more):
        packets.append(Segment("<", "P.", at, 28, part))
        at += len(part)
    return [*packets, Segment(">", ".", 28, at)]


def _aborts(packets: list[Segment], side: str = ">", **fields: object) -> list[Segment]:
    """The same, and the abort of one end half a minute later."""
    end = packets[-1]
    seq, ack = (end.seq, end.ack) if side == end.side else (end.ack, end.seq)
    return [*packets, replace(Segment(side, "R.", seq, ack, at=30.0), **fields)]  # type: ignore[arg-type]


LENGTH = OK + LATE + b"Content-Length: 5000\r\n\r\n"
CHUNKED = OK + LATE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
RECORD = b"\x17\x03\x03\x00\xff" + bytes(255)

RESPONSES: dict[str, tuple[list[Segment], Told]] = {
    "its length stands late in its header": (
        _aborts(_answered(LENGTH + b"a" * 100)),
        Told("failed", "", "client", "5000 bytes of body, and 100 had come"),
    ),
    "its length stands late, and it is whole": (_aborts(_answered(LENGTH, b"a" * 5000)), Told("harmless")),
    "its length stands in another segment": (
        _aborts(_answered(OK + LATE[:60], LATE[60:] + b"Content-Length: 900\r\n\r\n")),
        Told("failed", "", "client", "900 bytes of body, and 0 had come"),
    ),
    "its last chunk is missing": (
        _aborts(_answered(CHUNKED)),
        Told("failed", "", "client", "the last of them had not come"),
    ),
    "its last chunk is there": (_aborts(_answered(CHUNKED + b"0\r\n\r\n")), Told("harmless")),
    "its last chunk ends a large segment": (
        _aborts(_answered(CHUNKED, b"5dc\r\n" + b"a" * 1500 + b"\r\n0\r\n\r\n")),
        Told("harmless"),
    ),
    "it ends with a close that has not come": (
        _aborts(_answered(OK + b"\r\nhello")),
        Told("failed", "", "client", "the server's close is its end"),
    ),
    "a TLS record has come in part": (
        _aborts(_answered(RECORD[:200])),
        Told("failed", "", "client", "lacks 60 bytes"),
    ),
    "a TLS record has come whole": (_aborts(_answered(RECORD[:200], RECORD[200:])), Told("harmless")),
    "a TLS handshake is not finished": (
        _aborts(
            [*handshake(), Segment(">", "P.", 1, 1, HELLO), Segment("<", "P.", 1, 70, HELLO), Segment(">", ".", 70, 70)]
        ),
        Told("suspicious", "", "client", "its TLS handshake was not finished"),
    ),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_is_whole_by_what_it_says_itself(name: str) -> None:
    _holds(*RESPONSES[name])


def test_zeros_behind_a_header_are_no_packets() -> None:
    work = Explaining(io.BytesIO(capture(WORKED) + bytes(1 << 24)))
    (found,) = work.all()
    assert (found.harm, len(found.connection.packets)) == ("open", len(WORKED))
    assert "packets of 0 bytes are said to follow" in work.seen.ended
    assert work.seen.packets < 200


def test_a_document_in_pieces_is_one() -> None:
    work = Explaining(io.BytesIO(capture([*WORKED, *(replace(p, client=("10.0.0.9", 40001)) for p in WORKED)])))
    found = work.all()
    whole = json.loads("".join(diagnoses.written(found, work.seen)))
    assert whole["connections"] == [diagnoses.single(d) for d in found]
    assert whole["packets"] == len(WORKED) * 2
    assert json.loads("".join(diagnoses.written([], work.seen)))["connections"] == []


def test_a_header_that_was_cut_is_not_called_whole() -> None:
    whole = capture(_aborts(_answered(LENGTH, b"a" * 5000)))
    cut = bytearray(whole[:24])
    at = 24
    while at < len(whole):
        size = int.from_bytes(whole[at + 8 : at + 12], "little")
        kept = min(size, 80)
        cut += whole[at : at + 8] + kept.to_bytes(4, "little") + whole[at + 12 : at + 16 + kept]
        at += 16 + size
    (found,) = explain(bytes(cut))
    assert (found.harm, found.by) == ("suspicious", "client"), found.why
    assert "its header was not captured whole" in found.why


IDLE_HTTP = _answered(OK + b"Content-Length: 5\r\n\r\nhello")
UNBIND = b"\x30\x05\x02\x01\x03\x42\x00"
SIGNED = b"\0\0\0\x27\5\4\4\xff\0\x0c\0\x0c" + bytes(8) + bytes(range(12)) + b"\x30\x84\0\0\0\5\2\1\x16\x42\0"
ENCRYPTED = [
    *handshake(),
    Segment(">", "P.", 1, 1, RECORD[:100]),
    Segment("<", "P.", 1, 101, RECORD[:105]),
    Segment(">", ".", 101, 106),
]
CROSSED = [
    *handshake(),
    Segment(">", "P.", 1, 1, b"hello"),
    Segment(">", "F.", 6, 1),
    Segment("<", "P.", 1, 6, b"world"),
    Segment("<", "F.", 6, 7),
]
ALERT_85 = b"\x15\x03\x03\x00\x50" + bytes(80)
BOTH = [*WORKED, Segment(">", "F.", 6, 6), Segment("<", "F.", 6, 7), Segment(">", ".", 7, 7)]

HARMS: dict[str, tuple[list[Segment], Told]] = {
    "a server drops an idle connection after a whole answer": (
        _aborts(IDLE_HTTP, "<"),
        Told("harmless", "load-balancer-idle", "server", "nothing is lost", "one of these"),
    ),
    "a server drops an idle connection on which a request is under way": (
        [*_aborts(IDLE_HTTP, "<"), Segment(">", "P.", 28, IDLE_HTTP[-1].ack, REQUEST)],
        Told("failed", "load-balancer-idle", "server"),
    ),
    "a server drops an idle connection of an unknown protocol": (
        _aborts(WORKED, "<"),
        Told("suspicious", "load-balancer-idle"),
    ),
    "data crosses a close of Windows": (
        [*CROSSED[:-1], Segment(">", "R.", 7, 6, window=0, at=0.1)],
        Told("suspicious", "late-write", "client", "was under way"),
    ),
    "the other's FIN meets a closed socket of Windows": (
        [*BOTH[:-1], Segment(">", "R.", 7, 7, window=0)],
        Told("harmless", "late-write", "client"),
    ),
    "who closes last aborts at once": (
        [
            *WORKED,
            Segment("<", "F.", 6, 6),
            Segment(">", ".", 6, 7),
            Segment(">", "F.", 6, 7),
            Segment(">", "R.", 7, 7, window=0),
        ],
        Told("harmless", "linger", "client"),
    ),
    "a long TLS alert meets a close": (
        [
            *WORKED,
            Segment("<", "F.", 6, 6),
            Segment(">", "P.", 6, 7, ALERT_85),
            Segment("<", "R", 7, window=0, ip_id=0),
        ],
        Told("harmless", "late-write", "server", "a TLS alert"),
    ),
    "a server aborts after the client's last words": (
        [*WORKED, Segment(">", "P.", 6, 6, UNBIND), Segment("<", "R.", 6, 13, window=0)],
        Told("harmless", "unread", "server", "LDAP's unbind"),
    ),
    "the last words of a Windows client, signed": (
        [*WORKED, Segment(">", "P.", 6, 6, SIGNED), Segment("<", "R.", 6, 49, window=0, at=3.0)],
        Told("harmless", "unread", "server", "LDAP's unbind"),
    ),
    "encrypted data right after the answer crosses the server's close": (
        [
            *ENCRYPTED,
            Segment("<", "F.", 106, 101),
            Segment(">", "P.", 101, 106, RECORD[:100]),
            Segment("<", "R", 106, ip_id=0, window=0),
        ],
        Told("suspicious", "late-write", "server", "was under way"),
    ),
    "encrypted data after a pause crosses the server's close": (
        [
            *ENCRYPTED,
            Segment("<", "F.", 106, 101, at=5.0),
            Segment(">", "P.", 101, 106, RECORD[:100]),
            Segment("<", "R", 106, ip_id=0, window=0),
        ],
        Told("failed", "keepalive-race", "server", "under way", "most likely"),
    ),
    "a client closes with its last data": (
        [*WORKED, Segment(">", "P.", 6, 6, b"wrapped"), Segment("<", "R.", 6, 13), Segment(">", "F.", 13, 6)],
        Told("suspicious", "unread", "server", "itself closed with that"),
    ),
    "last words after the client's close are heard by nobody": (
        [
            *WORKED,
            Segment(">", "F.", 6, 6),
            *(Segment("<", "FP.", 6, 7, ALERT_85, at=at) for at in (0.1, 0.4, 1.0, 2.2)),
        ],
        Told("harmless", "late-write", words="does not hear the end"),
    ),
    "something in between resets what is closed already": (
        [*BOTH, Segment("<", "R.", 7, 7, ttl=44, ip_id=60000, at=9.0)],
        Told("harmless", "", "middlebox", "ends nothing any more"),
    ),
    "a RST of another device long after both have closed": (
        [*BOTH, Segment("<", "R", 6, window=0, ttl=118, at=5.0, ip_id=19000)],
        Told("harmless", words="ends nothing any more"),
    ),
    "a server drops an idle connection after an answer without a body": (
        _aborts(_answered(b"HTTP/1.1 204 No Content\r\n\r\n"), "<"),
        Told("harmless", "load-balancer-idle", "server"),
    ),
    "a last FIN meets a forgotten connection": (
        [*WORKED, Segment("<", "F.", 6, 6, at=120.0), Segment(">", "R", 6, window=0, ip_id=0)],
        Told("suspicious", "load-balancer-idle"),
    ),
    "a bare RST long after the last packet answers nothing": (
        [*_answered(OK + b"Content-Length: 5\r\n\r\nhello"), Segment("<", "R", IDLE_HTTP[-1].ack, at=9.0, ip_id=0)],
        Told("suspicious", "load-balancer-idle", words="too late to answer"),
    ),
    "two attempts are no retransmission timeout": (
        [
            *WORKED,
            *(Segment(">", "P.", 6, 6, b"again", at=at) for at in (1.0, 1.3, 1.9)),
            Segment(">", "R.", 11, 6, at=2.0),
        ],
        Told("failed", "linger", "client", "its program did", "one of these"),
    ),
    "five attempts are one": (
        [
            *WORKED,
            *(Segment(">", "P.", 6, 6, b"again", at=1.0 + 2**n) for n in range(6)),
            Segment(">", "R.", 11, 6, at=50.0),
        ],
        Told("failed", "retransmit-timeout", "client", "a stack that says so", "most likely"),
    ),
    "the server was not captured, and the client has closed": (
        [Segment(">", "P.", 1, 1, b"hello"), Segment(">", "F.", 6, 1), Segment(">", ".", 7, 2, at=90.0)],
        Told("open", words="one direction", sure="cannot be told"),
    ),
    "SYNs that nobody answers, and a RST of their own end": (
        [*(Segment(">", "S", at=at) for at in (0.0, 1.0, 3.0)), Segment(">", "R", 1, window=0, at=10.0)],
        Told("suspicious", "connect-timeout", words="Who gives up a SYN sends no RST"),
    ),
    "SYNs and an abort that acknowledges what was not captured": (
        [*(Segment(">", "S", at=at) for at in (0.0, 1.0)), Segment(">", "R.", 1, 1, at=60.0)],
        Told("suspicious", "linger", words="one direction", sure="cannot be told"),
    ),
    "a server gives up a handshake": (
        [
            Segment(">", "S"),
            *(Segment("<", "S.", ack=1, at=at) for at in (0.1, 1.1, 3.1)),
            Segment("<", "R.", 1, 1, at=14.0),
        ],
        Told("failed", "connect-timeout", "server", "the server gave up"),
    ),
    "a FIN alone that nobody hears": (
        [*WORKED, *(Segment(">", "F.", 6, 6, at=at) for at in (0.1, 0.4, 1.0, 2.2))],
        Told("suspicious", "retransmit-timeout"),
    ),
    "a FIN and a RST in one segment": ([*WORKED, Segment("<", "FR.", 6, 6)], Told("failed", "unread", "server")),
    "nothing but a FIN and a RST in one segment": (
        [Segment("<", "FR.", 6, 6)],
        Told("suspicious", sure="cannot be told"),
    ),
    "the server was not captured": (
        [p for p in BOTH if p.side == ">"],
        Told("open", words="one direction", sure="cannot be told"),
    ),
    "the SYN,ACK was not captured": (
        [p for p in ASKED if p.flags != "S."] + [Segment("<", "P.", 1, 28, OK), Segment(">", ".", 28, 18)],
        Told("open", words="still open"),
    ),
    "a SYN,ACK once is no full queue": (
        [
            *handshake(),
            *(Segment(">", "P.", 1, 1, b"hello", at=at) for at in (0.1, 0.4)),
            Segment("<", "R", 1, window=0, ip_id=0),
        ],
        Told("failed", "backlog-full", words="nothing but its SYN,ACK", sure="one of these"),
    ),
    "a stack that says why it refuses": (
        [Segment(">", "S", options=MSS), Segment("<", "R.", -9000, 1, b"No listener", window=0, ttl=240)],
        Told("failed", "closed-port", "", "nobody listens"),
    ),
}


@pytest.mark.parametrize("name", HARMS)
def test_the_harm_is_what_the_packets_show(name: str) -> None:
    _holds(*HARMS[name])


PEER = [*handshake(), Segment(">", "P.", 1, 1, b"x" * 12)]
SENDERS: dict[str, tuple[list[Segment], str]] = {
    "a router's own RST has its window": (
        [replace(p, window=4096) for p in WORKED] + [Segment("<", "R", 6, window=4096)],
        "server",
    ),
    "two RSTs as an injector numbers them": (
        [*PEER, Segment("<", "R", 1, window=10240, ttl=64), Segment("<", "R", 12504, window=10240, ttl=64)],
        "middlebox",
    ),
    "the second of them first": (
        [*PEER, Segment("<", "R", 12504, window=10240, ttl=64), Segment("<", "R", 1, window=10240, ttl=64)],
        "middlebox",
    ),
    "a RST with the TTL of the data, the handshake is a proxy's": (
        [
            Segment(">", "S"),
            Segment("<", "S.", ack=1, ttl=116),
            Segment(">", ".", 1, 1),
            Segment(">", "P.", 1, 1, REQUEST),
            Segment("<", "P.", 1, 28, OK, ttl=244),
            Segment("<", "R.", 18, 28, ttl=243),
        ],
        "server",
    ),
    "a foreign packet after it is no going on": (
        [
            *WORKED,
            Segment(">", "P.", 6, 6, b"bye"),
            Segment("<", "R.", 6, 9),
            Segment("<", "P.", 2000, 9, b"forged", ttl=128, ip_id=1),
        ],
        "server",
    ),
}


@pytest.mark.parametrize("name", SENDERS)
def test_a_reset_is_its_senders(name: str) -> None:
    packets, by = SENDERS[name]
    (found,) = explain(capture(packets))
    assert found.resets[0].by == by, found.resets[0].why


def test_a_capture_appended_to_itself_is_read_once() -> None:
    once = capture([*ASKED, Segment("<", "P.", 1, 28, OK), Segment(">", ".", 28, 18)])
    (single,), (double,) = explain(once), explain(once + once[24:])
    assert (double.end, double.harm) == (single.end, single.harm)


def test_packets_of_a_generator_are_no_silence() -> None:
    packets = [
        Segment(p.side, p.flags, 0, 0, p.data, ip_id=1) for p in [*WORKED, Segment(">", "F."), Segment(">", "F.")]
    ]
    (found,) = explain(capture(packets))
    assert (found.harm, found.plain) == ("open", "packets made by a generator")


def test_cisco_metadata_stands_between_ethernet_and_ip() -> None:
    frames = [
        (at, frame[:12] + b"\x89\x09\x01\x01\x00\x01\x00\x02" + frame[12:]) for at, frame in made.framed(made.RESET)
    ]
    (found,) = explain(made.pcap(frames))
    assert (found.by, len(found.connection.packets)) == ("server", len(made.RESET))


def test_many_peers_of_one_port_are_no_addresses_of_one_server() -> None:
    refused = []
    for n in range(6):
        ends = {"client": ("10.0.0.1", 41000 + n), "server": (f"10.0.1.{n + 1}", 6346)}
        refused += [Segment(">", "S", **ends), Segment("<", "R.", -9000, 1, window=0, **ends)]  # type: ignore[arg-type]
    worked = [replace(p, client=("10.0.0.1", 42000), server=("10.0.2.1", 6346)) for p in WORKED]
    found = explain(capture([*refused, *worked]))
    assert [d.harm for d in found[:6]] == ["failed"] * 6


def test_the_same_numbers_at_another_time_are_no_translation() -> None:
    first = [replace(p, at=n / 100) for n, p in enumerate(WORKED)]
    other = [
        replace(p, client=("10.0.9.1", 40000), server=("10.0.9.2", 22), at=70 + n / 100) for n, p in enumerate(WORKED)
    ]
    reset = Segment("<", "R.", 6, 6, at=71.0, client=("10.0.9.1", 40000), server=("10.0.9.2", 22))
    found = explain(capture([*first, *other, reset]))
    assert not any("translation" in caveat for d in found for caveat in d.caveats)
    assert found[1].cause != "nat-expiry"


def test_a_stamped_connection_is_told_by_its_stamps() -> None:
    stamped = [replace(p, options=stamp(1000 + n, 500 + n)) for n, p in enumerate(WORKED)]
    (found,) = explain(capture([*stamped, Segment("<", "R.", 6, 6, options=stamp(2000, 1005))]))
    assert found.resets[0].by == "server"


def _holds(packets: list[Segment], told: Told) -> None:
    (found,) = explain(capture(packets))
    assert found.harm == told.harm, (found.end, found.why)
    _words(found, told)


def _words(found: Diagnosis, told: Told) -> None:
    assert not told.cause or found.cause == told.cause, (found.causes, found.why)
    assert told.by is None or found.by == told.by, (found.by, found.why)
    assert told.words in f"{found.end}; {found.plain}; {found.why}; {found.resets}", found.why
    assert not told.sure or found.sure == told.sure
