"""Ends in which nothing was reset, or nobody was harmed by it, and what is said of those who waited. Each row is a capture
written packet by packet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faultkit.explaining.explain import explain
from tests.explaining.made_up import Segment, capture, handshake
from tests.explaining.test_harm import ASKED, HELLO, IDLE_HTTP, OK, _aborts, _answered, _holds, _words
from tests.explaining.test_situations import WORKED, Told

FATAL = b"\x15\x03\x03\0\2\2\x28"


def _closes(packets: list[Segment], side: str, at: float | None = None) -> list[Segment]:
    """The same, and both ends' FINs, that side's first."""
    last = packets[-1]
    numbers = {last.side: last.seq + len(last.data), "<>"[last.side == "<"]: last.ack}
    other = "<>"[side == "<"]
    return [
        *packets,
        Segment(side, "F.", numbers[side], numbers[other], at=at),
        Segment(other, "F.", numbers[other], numbers[side] + 1),
        Segment(side, ".", numbers[side] + 1, numbers[other] + 1),
    ]


AGAIN = [Segment(">", "P.", 6, 6, b"again", at=at) for at in (1.0, 1.3, 1.9, 3.1)]
LARGE = [Segment("<", ".", 6, 6, b"l" * 1400, at=at) for at in (1.0, 1.3, 1.9, 3.1)]
SHORT = OK + b"Content-Length: 900\r\n\r\n" + b"a" * 100

CIPHER = b"\x14\3\3\0\1\1"
SHAKEN = [
    *handshake(),
    Segment(">", "P.", 1, 1, HELLO),
    Segment("<", "P.", 1, 70, b"\x16\3\3\0\x57" + bytes(87)),
    Segment(">", ".", 70, 93),
]
STORED = b"POST /x HTTP/1.1\r\nContent-Length: 99999\r\n\r\n"
UPLOAD = [
    *handshake(),
    Segment(">", "P.", 1, 1, STORED),
    *(Segment(">", ".", 1 + len(STORED) + n * 1000, 1, b"u" * 1000) for n in range(3)),
    Segment("<", "P.", 1, 1001, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
    Segment("<", "F.", 46, 1001),
    *(Segment(">", ".", 1 + len(STORED) + n * 1000, 1, b"u" * 1000) for n in range(3, 7)),
    Segment("<", "R", 1, window=0, ip_id=0),
]
CLOSED_WINDOW = [
    *ASKED,
    Segment("<", ".", 1, 28, b"a" * 500),
    Segment(">", ".", 28, 501, window=0),
    Segment("<", ".", 500, 28, at=1.0),
    Segment(">", ".", 28, 501, window=0),
    Segment("<", ".", 500, 28, at=2.0),
    Segment("<", "R.", 501, 28, at=2.5),
]

UNSERVED: dict[str, tuple[list[Segment], Told]] = {
    "a server closes in order and answers nothing": (
        _closes(ASKED, "<"),
        Told("failed", "", "server", "answered with nothing", "shown by the packets"),
    ),
    "a client leaves before the answer": (
        _closes(ASKED, ">", 5.0),
        Told("failed", "", "client", "before an answer came", "shown by the packets"),
    ),
    "a client asks and leaves at once": (_closes(ASKED, ">"), Told("suspicious", "", "client", "or it never waits")),
    "a ClientHello is answered with a close": (
        _closes([*handshake(), Segment(">", "P.", 1, 1, HELLO), Segment("<", ".", 1, 1 + len(HELLO))], "<"),
        Told("failed", "", "server", "ClientHello"),
    ),
    "a fatal alert ends the TLS handshake": (
        _closes([*handshake(), Segment(">", "P.", 1, 1, HELLO), Segment("<", "P.", 1, 1 + len(HELLO), FATAL)], "<"),
        Told("failed", "", "server", "handshake_failure"),
    ),
    "an encrypted alert stands where the client's Finished should": (
        [
            *SHAKEN,
            Segment(">", "P.", 70, 93, CIPHER + b"\x17\3\3\0\x13" + bytes(19)),
            Segment(">", "R.", 100, 93),
        ],
        Told("failed", "", "client", "most often its certificate"),
    ),
    "a fatal alert, and a reset": (
        [*SHAKEN, Segment(">", "P.", 70, 93, FATAL[:-1] + b"\x30"), Segment(">", "R.", 77, 93)],
        Told("failed", "", "client", "unknown_ca"),
    ),
    "a server answers a ClientHello in clear text": (
        _closes([*handshake(), Segment(">", "P.", 1, 1, HELLO), Segment("<", "P.", 1, 70, b"HTTP/1.1 400 Bad")], "<"),
        Told("failed", "", "server", "what is no TLS"),
    ),
    "a server answers an upload and closes": (UPLOAD, Told("failed", "early-response", "server", "upload")),
    "a client gives a response up": (
        [
            *_answered(SHORT),
            Segment(">", "F.", 28, 1 + len(SHORT)),
            Segment("<", ".", 1 + len(SHORT), 28, b"a" * 100),
            Segment(">", "R", 28, window=0, ip_id=0),
        ],
        Told("failed", "late-write", "client", "900 bytes of body"),
    ),
    "a server resets a client that does not read": (
        CLOSED_WINDOW,
        Told("failed", "zero-window", "server", "does not read"),
    ),
    "a program lets a request lie, and ends": (
        [
            *WORKED,
            Segment(">", "P.", 6, 6, b"more", at=1.0),
            Segment("<", ".", 6, 10, at=1.04),
            Segment("<", "R.", 6, 10, at=1.7),
        ],
        Told("failed", "unread", "server", sure="one of these"),
    ),
    "data of an unknown protocol need no answer": (
        _closes([*handshake(), Segment(">", "P.", 1, 1, b"a log"), Segment("<", ".", 1, 6)], ">"),
        Told("closed", words="nothing wrong"),
    ),
    "a server closes behind data of an unknown protocol": (
        _closes([*WORKED, Segment(">", "P.", 6, 6, b"more"), Segment("<", ".", 6, 10)], "<"),
        Told("closed", words="whether an answer was due cannot be told"),
    ),
    "a request was answered": (_closes(IDLE_HTTP, "<"), Told("closed", words="nothing wrong")),
    "a server closes in order before its response is whole": (
        _closes(_answered(SHORT), "<"),
        Told("failed", "", "server", "900 bytes of body, and 100 had come"),
    ),
    "a client closes in order before the response is whole": (
        _closes(_answered(SHORT), ">"),
        Told("suspicious", "", "client", "900 bytes of body"),
    ),
    "a client resets what the server had cut short": (
        [*_closes(_answered(SHORT), "<")[:-2], Segment(">", "R.", 28, 2 + len(SHORT), at=1.0)],
        Told("failed", "", "server", "although the response"),
    ),
    "the server's close is the response's end": (
        _closes(_answered(OK + b"\r\n" + b"a" * 50), "<"),
        Told("closed", words="nothing wrong"),
    ),
    "a server that cannot hear closes": (
        [*WORKED, *AGAIN, Segment("<", "F.", 6, 6, at=3.2), Segment(">", ".", 11, 7)],
        Told("failed", "retransmit-timeout", words="does not arrive"),
    ),
    "large segments do not arrive, small ones do": (
        [*WORKED, *LARGE, Segment(">", "F.", 6, 6, at=3.2), Segment("<", ".", 1406, 7)],
        Told("failed", "retransmit-timeout", words="does the path carry packets of that size"),
    ),
    "what was lost came with the next attempt": (
        [*WORKED, *AGAIN, Segment("<", ".", 6, 11, at=3.2), Segment("<", "F.", 6, 11)],
        Told("open", words="half closed"),
    ),
}

HARMLESS: dict[str, tuple[list[Segment], Told]] = {
    "a check whether somebody listens": (
        [Segment(">", "S"), Segment("<", "S.", ack=1), Segment(">", "R.", 1, 1)],
        Told("harmless", "linger", "client", "a check whether somebody listens", "most likely"),
    ),
    "a client closes and aborts after a whole response": (
        [
            *IDLE_HTTP,
            Segment(">", "F.", 28, IDLE_HTTP[-1].ack, at=1.0),
            Segment(">", "R.", 29, IDLE_HTTP[-1].ack, at=1.1),
        ],
        Told("harmless", "linger", "client", "had come whole before"),
    ),
    "a client drops the connection straight after a whole response": (
        _aborts(IDLE_HTTP, at=0.2),
        Told("harmless", "", "client", "asked for nothing more"),
    ),
    "a client drops it in the middle of one": (_aborts(_answered(SHORT), at=0.2), Told("failed", "", "client")),
    "a server drops it a moment after a whole response": (
        _aborts(IDLE_HTTP, "<", at=0.4),
        Told("harmless", "", "server", "nothing is lost"),
    ),
    "a server resets in one breath with its response": (
        _aborts(IDLE_HTTP, "<", at=0.007),
        Told("failed", "unread", "server", "straight after it"),
    ),
    "the answer to QUIT, and an abort": (
        [
            *WORKED,
            Segment(">", "P.", 6, 6, b"QUIT\r\n"),
            Segment(">", "F.", 12, 6),
            Segment("<", "P.", 6, 13, b"221 bye\r\n"),
            Segment("<", "R.", 15, 13),
        ],
        Told("harmless", "linger", "server", "the answer to QUIT"),
    ),
}

ONE_WAY: dict[str, tuple[list[Segment], Told]] = {
    "a SYN and a RST with the next number": (
        [Segment(">", "S"), Segment(">", "R", 1, window=0, ip_id=0)],
        Told("suspicious", words="an answer that was not captured"),
    ),
    "an acknowledgement of what was under way is no disobedience": (
        [
            Segment("<", "S.", ack=1),
            Segment("<", "R", 1, window=0, ttl=250),
            Segment("<", ".", 1, 28, at=0.1),
            Segment("<", "P.", 1, 28, OK, at=0.2),
        ],
        Told("suspicious"),
    ),
    "one of what was sent much later is": (
        [
            Segment("<", "S.", ack=1),
            Segment("<", ".", 1, 28),
            Segment("<", "R", 900, window=0, ttl=250),
            Segment("<", "P.", 1, 55, OK, at=3.0),
        ],
        Told("no reset", words="it was not obeyed"),
    ),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_a_close_in_order_is_no_service(name: str) -> None:
    _holds(*UNSERVED[name])


@pytest.mark.parametrize("name", HARMLESS)
def test_nobody_is_harmed_by_an_abort_after_the_last_word(name: str) -> None:
    _holds(*HARMLESS[name])


@pytest.mark.parametrize("name", ONE_WAY)
def test_one_direction_does_not_show_what_was_answered(name: str) -> None:
    _holds(*ONE_WAY[name])


def _from(packets: list[Segment], server: tuple[str, int]) -> list[Segment]:
    return [replace(p, server=server) for p in packets]


def test_an_answer_from_another_address_is_no_scan() -> None:
    asked = [Segment(">", "S", at=at) for at in (0.0, 1.0)]
    other = _from(
        [Segment("<", "S.", ack=1, at=0.01), Segment(">", "R", 1, window=0, ip_id=0, at=0.011)], ("10.0.9.9", 8080)
    )
    found = explain(capture(sorted([*asked, *other], key=lambda p: p.at or 0.0)))
    assert [(d.harm, d.end) for d in found] == [("failed", "answered from another address")] * 2
    assert "10.0.9.9" in found[0].why


def test_an_address_that_does_not_answer_is_little_harm_where_the_next_one_does() -> None:
    works = _from(
        [replace(p, at=0.2 + n / 1000, client=("10.0.0.1", 41000)) for n, p in enumerate(WORKED)], ("10.0.0.3", 80)
    )
    silent, worked = explain(capture([Segment(">", "S", at=0.0), *works]))
    assert (silent.harm, worked.harm) == ("suspicious", "open")
    assert "the next one works" in silent.end


def test_a_request_without_an_answer_is_seen_among_many_that_were_answered() -> None:
    packets: list[Segment] = []
    for n in range(40):
        one = _closes(IDLE_HTTP if n != 33 else ASKED, "<")
        packets += [replace(p, client=("10.0.0.1", 41000 + n), at=n + k / 1000) for k, p in enumerate(one)]
    found = explain(capture(packets))
    assert [d.connection.number for d in found if d.harm != "closed"] == [34]


def test_little_of_a_response_does_not_show_that_it_was_whole() -> None:
    whole = capture([*_closes(_answered(SHORT), "<")[:-2], Segment(">", "R.", 28, 2 + len(SHORT), at=1.0)])
    cut = bytearray(whole[:24])
    at = 24
    while at < len(whole):
        size = int.from_bytes(whole[at + 8 : at + 12], "little")
        kept = min(size, 56)  # Ethernet, IPv4, TCP, and two bytes
        cut += whole[at : at + 8] + kept.to_bytes(4, "little") + whole[at + 12 : at + 16 + kept]
        at += 16 + size
    (found,) = explain(bytes(cut))
    assert (found.harm, found.by) == ("suspicious", "client"), found.why
    assert "so little was captured" in found.why


def _wireshark(*rows: tuple[float, str, str, int, str]) -> bytes:
    """Rows of Wireshark: the time, whose packet it is, its protocol, its length and what is said of it."""
    ends = {">": "10.0.0.1 → 10.0.0.2", "<": "10.0.0.2 → 10.0.0.1"}
    return "\n".join(
        f"{n:5} {at:10.6f} {ends[side]} {protocol} {length} {info}"
        for n, (at, side, protocol, length, info) in enumerate(rows, 1)
    ).encode()


OPENED = (
    (0.0, ">", "TCP", 66, "40000 → 443 [SYN] Seq=0 Win=64240 Len=0 MSS=1460"),
    (0.01, "<", "TCP", 66, "443 → 40000 [SYN, ACK] Seq=0 Ack=1 Win=64240 Len=0 MSS=1460"),
    (0.02, ">", "TCP", 54, "40000 → 443 [ACK] Seq=1 Ack=1 Win=64240 Len=0"),
)
AGAIN_ROW = "[TCP Retransmission] 40000 → 443 [PSH, ACK] Seq=1 Ack=1 Win=64240 Len=100"
ROWS: dict[str, tuple[bytes, Told]] = {
    "the first SYN is not among the rows": (
        _wireshark(
            (1.0, ">", "TCP", 66, "[TCP Retransmission] 40000 → 443 [SYN] Seq=0 Win=64240 Len=0 MSS=1460"),
            (3.0, ">", "TCP", 66, "[TCP Retransmission] 40000 → 443 [SYN] Seq=0 Win=64240 Len=0 MSS=1460"),
        ),
        Told("suspicious", words="may have been left out", sure="cannot be told"),
    ),
    "it sends again what was acknowledged": (
        _wireshark(
            *OPENED,
            (0.03, ">", "TCP", 154, "40000 → 443 [PSH, ACK] Seq=1 Ack=1 Win=64240 Len=100"),
            (0.04, "<", "TCP", 154, "443 → 40000 [PSH, ACK] Seq=1 Ack=101 Win=64240 Len=100"),
            (0.4, ">", "TCP", 154, AGAIN_ROW),
            (0.41, "<", "TCP", 54, "443 → 40000 [ACK] Seq=101 Ack=101 Win=64240 Len=0"),
            (1.0, ">", "TCP", 154, AGAIN_ROW),
            (1.01, "<", "TCP", 54, "443 → 40000 [ACK] Seq=101 Ack=101 Win=64240 Len=0"),
            (1.02, ">", "TCP", 54, "40000 → 443 [RST] Seq=101 Win=0 Len=0"),
        ),
        Told("failed", "firewall-reset", words="does not hear the server"),
    ),
    "so little of encrypted data is an alert": (
        _wireshark(
            *OPENED,
            (0.03, ">", "TCP", 154, "40000 → 443 [PSH, ACK] Seq=1 Ack=1 Win=64240 Len=100"),
            (0.04, "<", "TCP", 154, "443 → 40000 [PSH, ACK] Seq=1 Ack=101 Win=64240 Len=100"),
            (0.05, ">", "TCP", 54, "40000 → 443 [FIN, ACK] Seq=101 Ack=101 Win=64240 Len=0"),
            (0.06, "<", "TCP", 54, "443 → 40000 [ACK] Seq=101 Ack=101 Win=64240 Len=0"),
            (0.07, "<", "TLSv1.3", 78, "Application Data"),
            (0.07, "<", "TCP", 54, "443 → 40000 [FIN, ACK] Seq=125 Ack=102 Win=64240 Len=0"),
            (0.07, ">", "TCP", 54, "40000 → 443 [RST] Seq=102 Win=0 Len=0"),
        ),
        Told("harmless", "late-write", "client", "a TLS alert"),
    ),
    "an abort of which nothing was seen before": (
        _wireshark(
            (0.0, "<", "TCP", 54, "443 → 40000 [ACK] Seq=1 Ack=25070 Win=56385 Len=0"),
            (0.1, ">", "TCP", 60, "40000 → 443 [RST, ACK] Seq=25070 Ack=1 Win=41005 Len=0"),
        ),
        Told("suspicious", "", "client", "cannot be told"),
    ),
    "a window that is closed from the first row on": (
        _wireshark(
            (0.0, "<", "TCP", 66, "[TCP ZeroWindow] 443 → 40000 [ACK] Seq=1 Ack=1 Win=0 Len=0"),
            (0.1, ">", "TCP", 66, "40000 → 443 [ACK] Seq=5000 Ack=2 Win=1029 Len=0"),
            (0.2, "<", "TCP", 66, "[TCP ZeroWindow] 443 → 40000 [ACK] Seq=2 Ack=1 Win=0 Len=0"),
        ),
        Told("suspicious", "zero-window", words="does not read"),
    ),
    "a request stands in its last row, behind the answer": (
        _wireshark(
            *OPENED,
            (0.03, ">", "TCP", 1054, "40000 → 443 [ACK] Seq=1 Ack=1 Win=64240 Len=1000"),
            (0.04, "<", "HTTP", 154, "HTTP/1.1 413 Too Large"),
            (0.05, ">", "HTTP", 554, "POST /x HTTP/1.1"),
            (0.06, "<", "TCP", 54, "443 → 40000 [FIN, ACK] Seq=101 Ack=1501 Win=64240 Len=0"),
            (0.07, ">", "TCP", 54, "40000 → 443 [FIN, ACK] Seq=1501 Ack=102 Win=64240 Len=0"),
            (0.08, "<", "TCP", 54, "443 → 40000 [ACK] Seq=102 Ack=1502 Win=64240 Len=0"),
        ),
        Told("closed", words="nothing wrong"),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_claim_no_more_than_they_show(name: str) -> None:
    text, told = ROWS[name]
    (found,) = explain(text)
    assert found.harm == told.harm, (found.end, found.why)
    _words(found, told)


def test_acknowledgements_that_a_reset_overtakes_are_no_going_on() -> None:
    answered = [*ASKED, *(Segment("<", ".", 1 + n * 1000, 28, b"a" * 1000) for n in range(3))]
    reset = Segment(">", "R.", 28, 3001)
    late = [Segment(">", ".", 28, ack, ip_id=0) for ack in (1001, 2001, 3001)]
    (found,) = explain(capture([*answered, reset, *late]))
    assert (found.resets[0].by, found.by) == ("client", "client"), found.resets[0].why
