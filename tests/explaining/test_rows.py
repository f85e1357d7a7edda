"""Rows as people paste them, in many shapes: all of them tell the same connection."""

from __future__ import annotations

import io
import json
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import faultkit
from faultkit import Misuse
from faultkit.commands.explain import command
from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import Explaining
from faultkit.views.diagnoses import facts

# A second request that crosses the server's FIN: what each packet is, in the words of tcpdump and of Wireshark.
TCPDUMP = """\
10:00:00.000000 IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [S], seq 1000, win 64240, options [mss 9,TS val 1 ecr 0], length 0
10:00:00.000100 IP 10.0.0.2.8080 > 10.0.0.1.40000: Flags [S.], seq 9000, ack 1001, win 65160, options [TS val 9 ecr 1], length 0
10:00:00.000200 IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [.], ack 1, win 502, options [nop,nop,TS val 1 ecr 9], length 0
10:00:00.000300 IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [P.], seq 1:41, ack 1, win 502, length 40: HTTP: GET /a HTTP/1.1
10:00:00.000400 IP 10.0.0.2.8080 > 10.0.0.1.40000: Flags [P.], seq 1:101, ack 41, win 509, length 100: HTTP: HTTP/1.1 200 OK
10:00:00.000500 IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [.], ack 101, win 502, options [nop,nop,TS val 1 ecr 9], length 0
10:00:05.000000 IP 10.0.0.2.8080 > 10.0.0.1.40000: Flags [F.], seq 101, ack 41, win 509, options [TS val 5009 ecr 1], length 0
10:00:05.000010 IP 10.0.0.1.40000 > 10.0.0.2.8080: Flags [P.], seq 41:81, ack 101, win 502, length 40: HTTP: GET /b HTTP/1.1
10:00:05.000020 IP 10.0.0.2.8080 > 10.0.0.1.40000: Flags [R], seq 9101, win 0, length 0
"""
OLD = """\
10:00:00.000000 10.0.0.1.40000 > 10.0.0.2.8080: S 1000:1000(0) win 64240 <mss 1460,timestamp 1 0>
10:00:00.000100 10.0.0.2.8080 > 10.0.0.1.40000: S 9000:9000(0) ack 1001 win 65160 <mss 1460,timestamp 9 1>
10:00:00.000200 10.0.0.1.40000 > 10.0.0.2.8080: . ack 1 win 502 <nop,nop,timestamp 1 9>
10:00:00.000300 10.0.0.1.40000 > 10.0.0.2.8080: P 1:41(40) ack 1 win 502 <nop,nop,timestamp 1 9>
10:00:00.000400 10.0.0.2.8080 > 10.0.0.1.40000: P 1:101(100) ack 41 win 509 <nop,nop,timestamp 9 1>
10:00:00.000500 10.0.0.1.40000 > 10.0.0.2.8080: . ack 101 win 502 <nop,nop,timestamp 1 9>
10:00:05.000000 10.0.0.2.8080 > 10.0.0.1.40000: F 101:101(0) ack 41 win 509 <nop,nop,timestamp 5009 1>
10:00:05.000010 10.0.0.1.40000 > 10.0.0.2.8080: P 41:81(40) ack 101 win 502 <nop,nop,timestamp 5001 9>
10:00:05.000020 10.0.0.2.8080 > 10.0.0.1.40000: R 9101:9101(0) win 0
"""
WIRESHARK = """\
No.     Time        Source      Destination Protocol Length Info
      1 0.000000  10.0.0.1  10.0.0.2  TCP  74 40000 → 8080 [SYN] Seq=0 Win=64240 Len=0 MSS=9 TSval=1 TSecr=0
      2 0.000100  10.0.0.2  10.0.0.1  TCP  74 8080 → 40000 [SYN, ACK] Seq=0 Ack=1 Win=65160 Len=0 MSS=9 TSval=9 TSecr=1
      3 0.000200  10.0.0.1  10.0.0.2  TCP  66 40000 → 8080 [ACK] Seq=1 Ack=1 Win=64256 Len=0 TSval=1 TSecr=9
      4 0.000300  10.0.0.1  10.0.0.2  HTTP 106 GET /a HTTP/1.1
      5 0.000400  10.0.0.2  10.0.0.1  HTTP 166 HTTP/1.1 200 OK  (text/plain)
      6 0.000500  10.0.0.1  10.0.0.2  TCP  66 40000 → 8080 [ACK] Seq=41 Ack=101 Win=64256 Len=0 TSval=1 TSecr=9
      7 5.000000  10.0.0.2  10.0.0.1  TCP  66 8080 → 40000 [FIN, ACK] Seq=101 Ack=41 Win=65152 Len=0 TSval=5009 TSecr=1
      8 5.000010  10.0.0.1  10.0.0.2  HTTP 106 GET /b HTTP/1.1
      9 5.000020  10.0.0.2  10.0.0.1  TCP  54 8080 → 40000 [RST] Seq=101 Win=0 Len=0
"""


def wrapped(text: str) -> str:
    return "\n".join("\n".join(textwrap.wrap(line, 80)) for line in text.splitlines())


SHAPES = {
    "tcpdump": TCPDUMP,
    "tcpdump without times": "\n".join(line.partition(" ")[2] for line in TCPDUMP.splitlines()),
    "tcpdump with dates": "\n".join(f"2026-01-02 {line}" for line in TCPDUMP.splitlines()),
    "tcpdump, indented": textwrap.indent(TCPDUMP, "      "),
    "tcpdump, quoted": textwrap.indent(TCPDUMP, "> "),
    "tcpdump, a comment": textwrap.indent(TCPDUMP, "# "),
    "tcpdump, wrapped": wrapped(TCPDUMP),
    "tcpdump in prose": f"Hi,\nwe see this since Monday:\n\n{TCPDUMP}\nAny idea? The R is what worries us.\n",
    "tcpdump in HTML": TCPDUMP.replace(">", "&gt;"),
    "tcpdump with a link header": TCPDUMP.replace(
        " IP ", " 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 74: "
    ),
    "tcpdump on any": TCPDUMP.replace(" IP ", " eth0  In  IP "),
    "tcpdump -v": "\n".join(
        line.replace(
            " IP ", f" IP (tos 0x0, ttl 64, id {4242 + n}, offset 0, flags [DF], proto TCP (6), length 60)\n    "
        )
        for n, line in enumerate(TCPDUMP.replace("], seq", "], cksum 0x1234 (correct), seq").splitlines())
    ),
    "old tcpdump": OLD,
    "Wireshark": WIRESHARK,
    "Wireshark with tabs": "\n".join("\t".join(line.split(None, 6)) for line in WIRESHARK.splitlines()),
    "Wireshark as CSV": "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(None, 6)) for line in WIRESHARK.splitlines()
    ),
    "Wireshark, old arrows": WIRESHARK.replace("→", ">"),
    "Wireshark, broken arrows": WIRESHARK.replace("→", "?"),
    "Wireshark, ASCII arrows": WIRESHARK.replace("→", "->"),
    "Wireshark in one line": " ".join(" ".join(line.split()) for line in WIRESHARK.splitlines()),
    "Wireshark, wrapped": wrapped(WIRESHARK),
    "Wireshark, decimal commas": WIRESHARK.replace("0.000", "0,000").replace("5.000", "5,000"),
    "Wireshark, a header each": WIRESHARK.replace("\n", "\nNo. Time Source Destination Protocol Length Info\n"),
    "tshark": "\n".join(
        line.replace("10.0.0.1  10", "10.0.0.1 → 10").replace("10.0.0.2  10", "10.0.0.2 → 10")
        for line in WIRESHARK.splitlines()[1:]
    ),
    "in colours": "\n".join(f"\x1b[31m{line}\x1b[0m" for line in TCPDUMP.splitlines()),
    "UTF-16": TCPDUMP,
}


def explained(name: str) -> list[Diagnosis]:
    return faultkit.explain(SHAPES[name].encode("utf-16" if name == "UTF-16" else "utf-8"))


@pytest.mark.parametrize("name", SHAPES)
def test_a_paste_is_read(name: str) -> None:
    (found,) = explained(name)
    assert len(found.connection.packets) == 9
    assert str(found.connection.client) == "10.0.0.1:40000"
    assert [p.flags & 0x1F for p in found.connection.packets] == [2, 18, 16, 24, 24, 16, 17, 24, 4]
    assert found.end == "reset by the server"
    # Without a request to be seen, that it was one cannot be told.
    assert found.cause == ("late-write" if name == "old tcpdump" else "keepalive-race"), found.why
    assert {reset.by for reset in found.resets} == {"server"}


def test_what_a_row_does_not_say_is_not_assumed() -> None:
    (found,) = faultkit.explain(
        b"10.0.0.1 -> 10.0.0.2 TCP 1234 > 80 [SYN]\n10.0.0.2 -> 10.0.0.1 TCP 80 > 1234 [RST, ACK]\n"
    )
    assert all(
        p.ttl is None and p.ip_id is None and p.seq is None and p.time_ns is None for p in found.connection.packets
    )
    assert "the rows tell no times" in found.caveats


def test_one_row_alone_tells_what_it_shows_and_no_more() -> None:
    row = b"14:32:01.1 IP 10.1.1.5.42310 > 10.1.1.10.443: Flags [R.], seq 1, ack 1, win 501, length 0\n"
    (found,) = faultkit.explain(row)
    assert (found.sure, found.causes) == ("cannot be told", ())
    assert "a socket of 10.1.1.5:42310 has aborted" in found.why
    assert "tcpdump" in found.tell


def _document(flags: int, ttl: str, length: str) -> dict[str, object]:
    tcp = {"tcp.srcport": "80", "tcp.dstport": "40000", "tcp.flags": hex(flags), "tcp.seq": "1", "tcp.len": length}
    ip = {"ip.src": "10.0.0.2", "ip.dst": "10.0.0.1", "ip.id": length, "ip.ttl": ttl}
    return {"_source": {"layers": {"ip": ip, "tcp": tcp}}}


@pytest.mark.parametrize("value", ["-1", "256", "9" * 5000, "0x", "", "ten"])
def test_a_number_that_its_field_cannot_hold_is_not_told(value: str) -> None:
    documents = [_document(0x10, "64", "0"), _document(0x10, "64", value), _document(0x04, value, "0")]
    (found,) = faultkit.explain(json.dumps(documents).encode())
    assert [packet.ttl for packet in found.connection.packets] == [64, 64, None]


SYNS = """\
1 0.000000 10.0.0.1 → 10.0.0.2 TCP 74 40000 → 80 [SYN] Seq=0 Win=64240 Len=0 MSS=1460 WS=128
{between}
4 1.000000 10.0.0.1 → 10.0.0.2 TCP 74 [TCP Retransmission] 40000 → 80 [SYN] Seq=0 Win=64240 Len=0 MSS=1460 WS=128
5 3.000000 10.0.0.1 → 10.0.0.2 TCP 74 [TCP Retransmission] 40000 → 80 [SYN] Seq=0 Win=64240 Len=0 MSS=1460 WS=128
"""


def explaining(text: str) -> tuple[list[Diagnosis], Explaining]:
    work = Explaining(io.BytesIO(text.encode()))
    return work.all(), work


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ("SNMP", "95 get-response 1.3.6.1.2.1.1.3.0"),
        ("UDP", "95 80 → 40000 Len=53"),
        ("STUN", "106 Binding Success Response"),
        ("IPv4", "1514 Fragmented IP protocol (proto=UDP 17, off=0, ID=1234)"),
        ("IGMPv2", "60 Membership Report group 224.0.0.251"),
        ("ICMP", "98 Echo (ping) reply id=0x0001, seq=1/256, ttl=64"),
    ],
)
def test_a_row_of_another_protocol_is_no_segment(protocol: str, told: str) -> None:
    (found,), work = explaining(SYNS.format(between=f"2 0.500000 10.0.0.2 → 10.0.0.1 {protocol} {told}"))
    assert [p.flags for p in found.connection.packets] == [2, 2, 2]
    assert found.end == "never answered"
    assert work.seen.others == {protocol: 1}
    assert work.seen.unread == (0, "")


def test_a_row_that_may_be_of_tcp_and_fits_no_connection_is_not_read() -> None:
    (found,), work = explaining(SYNS.format(between="2 0.500000 10.0.0.2 → 10.0.0.1 FOO 106 Bar"))
    assert [p.flags for p in found.connection.packets] == [2, 2, 2]
    assert work.seen.unread == (1, "10.0.0.2 → 10.0.0.1 FOO Bar")
    assert (found.sure, found.causes) == ("cannot be told", ())


def test_the_bytes_that_are_missing_show_that_a_row_is_of_tcp() -> None:
    rows = WIRESHARK.replace("HTTP", "FOO")
    (found,), work = explaining(rows)
    # Of the last one nothing is acknowledged.
    assert [p.number for p in found.connection.packets] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert work.seen.unread == (1, "10.0.0.1 → 10.0.0.2 FOO GET /b FOO/1.1")
    (found,), work = explaining(rows.replace("Ack=41", "Ack=1").replace("Seq=41", "Seq=1"))
    assert 4 not in [p.number for p in found.connection.packets]
    assert work.seen.unread[0] == 2


@pytest.mark.parametrize(
    "answer",
    [
        "2 0.020000 10.0.0.2 → 10.0.0.1 TCP 74 80 → 40000 [SYN, BESTÄT.] Seq.=0 Best.=1 Win=65160 Len=0",
        "2 0.020000 10.0.0.2 → 10.0.0.1 TCP 54 80 → 40000 [复位, 确认] 序号=1 确认=1",
        "12:00:00.000100 IP 10.0.0.2.80 > 10.0.0.1.40000: tcp 0",
        "3.103060 port1 out 10.0.0.2.80 -> 10.0.0.1.40000: tcp reset",
        "TCP: 80 -> 40000 ...R.A seq=00000000 ack=4996d9d3",
        "2   0.00010   server.80 > client.40000: rst 5",
        "Transmission Control Protocol, Src Port: 80, Dst Port: 40000, Seq: 1, Ack: 1, Len: 0",
    ],
)
def test_what_is_not_read_is_said_and_may_be_the_answer(answer: str) -> None:
    (found,), work = explaining(SYNS.format(between=answer))
    assert [p.flags for p in found.connection.packets] == [2, 2, 2]
    count, first = work.seen.unread
    assert count == 1
    assert " ".join(first.split())[-12:] in " ".join(answer.split())
    assert (found.sure, found.causes) == ("cannot be told", ())
    assert "1 row could not be read that may be of this connection" in found.caveats
    with pytest.raises(Misuse, match="1 row looks like a packet"):
        faultkit.explain(answer.encode())


@pytest.mark.parametrize("told", ["53: UDP, length 30", "53: 4242+ A? example.org. (30)"])
def test_a_datagram_of_tcpdump_takes_nothing_from_what_is_said(told: str) -> None:
    row = f"10:00:00.000050 IP 10.0.0.1.40000 > 10.0.0.2.{told}\n"
    (found,), work = explaining(TCPDUMP + row)
    assert (work.seen.unread[0], work.seen.others) == (0, {"UDP": 1})
    assert found.cause == "keepalive-race"


SYN_ROW = "IP {}10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 100, win 64240, options [mss 1460], length 0"
QUOTED = "\n\tIP (tos 0x0, ttl 63, id 11, offset 0, flags [DF], proto TCP (6), length 60)\n    "
QUOTED += "10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 100, win 64240, options [mss 1460], length 0"
VERBOSE = "(tos 0x0, ttl 64, id 7, offset 0, flags [none], proto {}, length 88)\n    "


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("host 10.0.0.2 unreachable - admin prohibited filter", "admin-prohibited"),
        ("host 10.0.0.2 unreachable", "host-unreachable"),
        ("net 10.0.0.2 unreachable", "net-unreachable"),
        ("10.0.0.2 tcp port 80 unreachable", "port-unreachable"),
        ("time exceeded in-transit", "time-exceeded"),
    ],
)
def test_an_icmp_error_is_read_as_what_it_is(told: str, kind: str, verbose: bool) -> None:
    head = f"IP {VERBOSE.format('ICMP (1)') if verbose else ''}10.0.0.254 > 10.0.0.1: ICMP {told}, length 68"
    syn = SYN_ROW.format(VERBOSE.format("TCP (6)") if verbose else "")
    error = head + (QUOTED if verbose else "")
    text = "".join(f"12:00:0{n}.000001 {syn}\n12:00:0{n}.000101 {error}\n" for n in (0, 1))
    (found,), work = explaining(text)
    assert [p.number for p in found.connection.packets] == [1, 3]
    assert [(c.number, c.kind, c.by, c.side) for c in found.connection.complaints] == [
        (2, kind, "10.0.0.254", 0),
        (4, kind, "10.0.0.254", 0),
    ]
    assert work.seen.unread[0] == 0
    assert found.end in ("refused by an ICMP error", "never answered")
    assert found.sure == ("shown by the packets" if verbose else "most likely")


def test_the_segment_that_an_icmp_error_quotes_is_no_packet() -> None:
    syn = _document(2, "64", "0")
    layers = {
        "ip": {"ip.src": "10.0.0.254", "ip.dst": "10.0.0.2"},
        "icmp": {"icmp.type": "3", "icmp.code": "13", **syn["_source"]["layers"]},  # type: ignore[index]
    }
    (found,) = faultkit.explain(json.dumps([syn, {"_source": {"layers": layers}}]).encode())
    assert [p.number for p in found.connection.packets] == [1]
    assert [c.kind for c in found.connection.complaints] == ["admin-prohibited"]


def test_of_several_connections_none_is_given_an_icmp_error_that_does_not_say_which() -> None:
    other = "2 0.500 10.0.0.1 → 10.0.0.3 TCP 74 40001 → 80 [SYN] Seq=0 Win=64240 Len=0"
    error = "3 0.600 10.0.0.254 → 10.0.0.1 ICMP 70 Destination unreachable (Host unreachable)"
    found, work = explaining(SYNS.format(between=f"{other}\n{error}"))
    assert len(found) == 2
    assert not any(d.connection.complaints for d in found)
    assert {d.sure for d in found} == {"cannot be told"}
    assert work.seen.unread[0] == 1


def test_a_page_is_written_to_standard_output_and_a_sentence_has_one_full_stop(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.write_text(TCPDUMP)
    told = CliRunner().invoke(command, [str(rows), "--html", "-"])
    assert told.output.startswith("<!doctype html>")
    assert not Path("-").exists()
    (found,) = faultkit.explain(TCPDUMP.encode())
    ending = replace(found, why="It is so.")
    assert dict(facts(ending))["Why"] == "It is so."


@pytest.mark.parametrize("name", ["tcpdump", "tcpdump with dates", "Wireshark"])
def test_rows_that_stand_newest_first_are_turned_round(name: str) -> None:
    text = "\n".join(reversed(SHAPES[name].splitlines()))
    (found,) = faultkit.explain(text.encode())
    assert found.cause == "keepalive-race"
    assert any("newest first" in caveat for caveat in found.caveats)


def test_the_reset_may_be_quoted_ahead_of_all() -> None:
    lines = TCPDUMP.splitlines()
    for again in ([], lines[-1:]):
        (found,) = faultkit.explain("\n".join([lines[-1], *lines[:-1], *again]).encode())
        assert len(found.connection.packets) == 9
        assert found.cause == "keepalive-race"


@pytest.mark.parametrize("backwards", [False, True])
def test_the_clock_goes_on_after_midnight(backwards: bool) -> None:
    text = TCPDUMP.replace("10:00:05.", "00:00:04.").replace("10:00:00.", "23:59:59.")
    lines = text.splitlines()
    (found,) = faultkit.explain("\n".join(reversed(lines) if backwards else lines).encode())
    times = [p.time_ns for p in found.connection.packets]
    assert times[-1] is not None
    assert times[0] is not None
    assert times[-1] - times[0] == 5_000_020_000
    assert found.cause == "keepalive-race"


def test_a_window_that_wireshark_has_multiplied_is_told_as_sent() -> None:
    rows = WIRESHARK.replace("MSS=9", "MSS=9 WS=128").replace("Win=0 Len=0", "Win=1190400 Len=0")
    (found,) = faultkit.explain(rows.encode())
    assert [p.window for p in found.connection.packets] == [64240, 65160, 502, None, None, 502, 509, None, 9300]


def test_psml_is_read() -> None:
    cells = ["".join(f"<section>{cell}</section>\n" for cell in line.split(None, 6)) for line in WIRESHARK.splitlines()]
    text = '<?xml version="1.0"?>\n<psml version="0">\n' + "\n".join(f"<packet>\n{cell}</packet>\n" for cell in cells)
    (found,) = faultkit.explain(text.encode())
    assert len(found.connection.packets) == 9
    assert found.cause == "keepalive-race"


@pytest.mark.parametrize("blank", [b"\n", b" \n", b"\r\n\t"])
def test_blank_lines_take_no_memory(blank: bytes) -> None:
    import tracemalloc

    text = TCPDUMP.encode() + blank * (8 << 20)
    tracemalloc.start()
    try:
        (found,) = faultkit.explain(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.cause == "keepalive-race"
    assert most < 4 * len(text)


def test_options_may_be_empty() -> None:
    row = b"14:32:01.1 IP 10.1.1.5.4 > 10.1.1.1.80: Flags [S], seq 1, win 501, options [], length 0\n"
    (found,) = faultkit.explain(row)
    assert [packet.options for packet in found.connection.packets] == [()]


@pytest.mark.parametrize("cut", ["at its end", "in the middle"])
def test_the_packets_of_a_damaged_json_are_read(cut: str) -> None:
    text = json.dumps([_document(0x10, "64", "5")] * 5, indent=2)
    place = text.rindex("tcp.len") if cut == "at its end" else text.index("tcp.len")
    explaining = Explaining(
        io.BytesIO((text[:place] if cut == "at its end" else text[:place] + text[place + 9 :]).encode())
    )
    (found,) = explaining.all()
    assert len(found.connection.packets) == 4
    count, first = explaining.seen.unread
    assert count == 1
    assert first.startswith('{ "_source"')


@pytest.mark.parametrize(
    "piece", ['{"_index":', "1 ", "a.b ", "10.0.0.1 > ", "::", "....", "   ", "\n", "[TCP x] ", "RST ", "10:10:10.1 "]
)
def test_a_long_text_takes_no_longer_than_its_length_asks(piece: str) -> None:
    import time

    def seconds(size: int) -> float:
        began = time.process_time()
        with pytest.raises(Misuse):
            faultkit.explain((piece * (size // len(piece))).encode())
        return time.process_time() - began

    seconds(1000)
    # Four times the text: quadratic would be sixteen times as long.
    assert seconds(200_000) < 8 * max(seconds(50_000), 0.02)
