"""What is read: every format of capture, every layer below TCP, damaged files, and what is no capture at all."""

from __future__ import annotations

import gzip
import io
import struct

import pytest
import zstandard

import faultkit
from faultkit import Misuse
from faultkit.explaining.explain import Explaining
from tests.explaining import made
from tests.explaining.made import REFUSED, RESET, ethernet, framed, ipv4, ipv6, pcap, pcapng, tcp


def ends(data: bytes) -> list[str]:
    return [diagnosis.end for diagnosis in faultkit.explain(data)]


FORMATS = {
    "pcap": pcap(framed(RESET)),
    "pcap, big-endian": pcap(framed(RESET), order=">"),
    "pcap, nanoseconds": pcap(framed(RESET), nano=True),
    "pcap, nanoseconds, big-endian": pcap(framed(RESET), nano=True, order=">"),
    "pcapng": pcapng(framed(RESET)),
    "pcapng, big-endian, nanoseconds": pcapng(framed(RESET), order=">", digits=9),
    "pcapng, two sections": pcapng(framed(RESET[:3])) + pcapng(framed(RESET[3:]), order=">"),
    "gzip": gzip.compress(pcap(framed(RESET))),
    "zstd": zstandard.ZstdCompressor().compress(pcapng(framed(RESET))),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read(name: str) -> None:
    (found,) = faultkit.explain(FORMATS[name])
    assert (found.end, len(found.connection.packets)) == ("reset by the server", 6)
    packets = found.connection.packets
    first, last = packets[0].time_ns, packets[-1].time_ns
    assert first is not None and last is not None
    assert last - first == pytest.approx(5_000_000, abs=1000)


def vlan(frame: bytes, *tags: int) -> bytes:
    return frame[:12] + b"".join(struct.pack("!HH", tag, 5) for tag in tags) + frame[12:]


def gre(packet: bytes, kind: int = 0x0800, flags: int = 0) -> bytes:
    return struct.pack("!HH", flags, kind) + (bytes(4) if flags & 0x1000 else b"") + packet


def udp(port: int, body: bytes) -> bytes:
    return struct.pack("!HHHH", 5555, port, 8 + len(body), 0) + body


LINKS: dict[str, tuple[int, list[bytes]]] = {
    "raw IP": (101, [ipv4(p) for p in RESET]),
    "IPv4": (228, [ipv4(p) for p in RESET]),
    "NULL": (0, [b"\x02\0\0\0" + ipv4(p) for p in RESET]),
    "NULL, IPv6 of macOS": (0, [b"\x1e\0\0\0" + ipv6(p) for p in RESET]),
    "LOOP": (108, [b"\0\0\0\x02" + ipv4(p) for p in RESET]),
    "SLL": (113, [bytes(14) + b"\x08\x00" + ipv4(p) for p in RESET]),
    "SLL2": (276, [b"\x08\x00" + bytes(18) + ipv4(p) for p in RESET]),
    "IPv6": (1, [ethernet(ipv6(p), 0x86DD) for p in RESET]),
    "IPv6 with hop-by-hop options": (1, [ethernet(ipv6(p, b"\x06\0" + bytes(6)), 0x86DD) for p in RESET]),
    "VLAN": (1, [vlan(ethernet(ipv4(p)), 0x8100) for p in RESET]),
    "QinQ": (1, [vlan(ethernet(ipv4(p)), 0x88A8, 0x8100) for p in RESET]),
    "PPPoE": (
        1,
        [ethernet(b"\x11\0\0\1" + struct.pack("!H", len(ipv4(p)) + 2) + b"\0\x21" + ipv4(p), 0x8864) for p in RESET],
    ),
    "MPLS": (1, [ethernet(b"\0\0\x10\x40\0\0\x21\x40" + ipv4(p), 0x8847) for p in RESET]),
    "IP in IP": (1, [ethernet(ipv4(p, ipv4(p), 4)) for p in RESET]),
    "IPv6 in IPv4": (1, [ethernet(ipv4(p, ipv6(p), 41)) for p in RESET]),
    "GRE": (1, [ethernet(ipv4(p, gre(ipv4(p)), 47)) for p in RESET]),
    "ERSPAN": (1, [ethernet(ipv4(p, gre(bytes(8) + ethernet(ipv4(p)), 0x88BE, 0x1000), 47)) for p in RESET]),
    "VXLAN": (1, [ethernet(ipv4(p, udp(4789, b"\x08" + bytes(7) + ethernet(ipv4(p))), 17)) for p in RESET]),
    "Geneve": (1, [ethernet(ipv4(p, udp(6081, b"\0\0\x65\x58" + bytes(4) + ethernet(ipv4(p))), 17)) for p in RESET]),
    "GTP-U": (1, [ethernet(ipv4(p, udp(2152, b"\x30\xff" + bytes(6) + ipv4(p)), 17)) for p in RESET]),
    "Teredo": (1, [ethernet(ipv4(p, udp(3544, ipv6(p)), 17)) for p in RESET]),
}


@pytest.mark.parametrize("name", LINKS)
def test_what_is_below_tcp_is_taken_off(name: str) -> None:
    link, frames = LINKS[name]
    data = pcap([(packet[0], frame) for packet, frame in zip(RESET, frames, strict=True)], link=link)
    assert ends(data) == ["reset by the server"]


def test_only_the_headers_are_there() -> None:
    assert ends(pcap(framed(RESET), snaplen=54)) == ["reset by the server"]


def test_what_is_cut_within_the_header_is_counted() -> None:
    work = Explaining(io.BytesIO(pcap([*framed(RESET), *framed(REFUSED)], snaplen=44)))
    with pytest.raises(StopIteration):
        next(work.connections())
    assert work.seen.others == {"cut before the end of the TCP header": 8}


def test_fragments_are_said_and_not_guessed_at() -> None:
    frame = bytearray(ethernet(ipv4(RESET[3])))
    frame[20] = 0x20  # more fragments follow
    work = Explaining(io.BytesIO(pcap([*framed(RESET), (1.0, bytes(frame))])))
    work.all()
    assert work.seen.others == {"IP fragments": 1}


def test_a_link_type_that_nobody_knows_is_said() -> None:
    work = Explaining(io.BytesIO(pcap([(0.0, bytes(60))], link=147)))
    assert work.all() == []
    assert work.seen.others == {"of a link type that is not known here": 1}


@pytest.mark.parametrize("name", ["pcap", "pcapng", "gzip"])
@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_cut_file_is_explained_up_to_there(name: str, cut: int) -> None:
    work = Explaining(io.BytesIO(FORMATS[name][:-cut]))
    found = work.all()
    assert work.seen.ended.startswith("the capture ends at byte "), work.seen.ended
    assert len(found) <= 1


def test_a_cut_compression_of_which_nothing_can_be_read_is_said() -> None:
    with pytest.raises(Misuse, match="nothing can be read of what is in its zstd: it is cut or damaged"):
        faultkit.explain(FORMATS["zstd"][:-9])


def test_a_damaged_length_ends_it_with_its_place() -> None:
    data = bytearray(pcap(framed(RESET)))
    data[24 + 16 + 54 + 8 : 24 + 16 + 54 + 12] = b"\xff\xff\xff\x7f"
    work = Explaining(io.BytesIO(bytes(data)))
    work.all()
    assert work.seen.ended == "the capture ends at byte 94: a packet of 2147483647 bytes is said to follow"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            b"\x89PNG\r\n\x1a\n" + bytes(40),
            "explain: this is a PNG picture, no capture: give a pcap or pcapng file, or rows of text",
        ),
        (b"PK\x03\x04" + bytes(40), "explain: this is a zip archive, no capture: make a capture of it first: unzip"),
        (
            b"snoop\0\0\0" + bytes(40),
            "explain: this is a capture of Solaris' snoop, no capture: make a capture of it first: editcap -F pcapng",
        ),
        (
            b"2024-01-01 INFO all is well\n" * 9,
            "explain: nothing in it is a packet: give a pcap or pcapng file, or rows of tcpdump, tshark or Wireshark",
        ),
        (
            b"",
            "explain: nothing in it is a packet: give a pcap or pcapng file, or rows of tcpdump, tshark or Wireshark",
        ),
    ],
)
def test_what_is_no_capture_is_said_to_be_none(data: bytes, sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.explain(data)
    assert str(refused.value) == sentence


def test_a_port_that_is_used_again_is_another_connection() -> None:
    again = [
        (at + 1, forth, flags, seq + 1000, ack + 1000 * bool(ack), data) for at, forth, flags, seq, ack, data in RESET
    ]
    found = faultkit.explain(pcap(framed([*RESET, *again])))
    assert [(d.connection.number, d.connection.previous, d.end) for d in found] == [
        (1, 0, "reset by the server"),
        (2, 1, "reset by the server"),
    ]


def test_every_packet_twice_is_counted_once() -> None:
    frames = [(p[0], ethernet(ipv4(p, number=place + 1))) for place, p in enumerate(RESET)]
    twice = [entry for at, frame in frames for entry in ((at, frame), (at + 1e-5, frame))]
    (found,) = faultkit.explain(pcap(twice))
    assert found.end == "reset by the server"
    assert found.caveats == ("6 packets were captured twice and are counted once",)


def test_one_direction_alone_is_noticed() -> None:
    (found,) = faultkit.explain(pcap(framed([p for p in RESET if p[1]])))
    assert "nothing of the server was captured: what it did is not known" in found.caveats
    assert found.sure != "shown by the packets"
    assert found.end != "never answered"


def test_the_middle_of_a_long_connection_is_left_out() -> None:
    data = [(0.01 + n / 1000, True, made.PSH | made.ACK, 101 + n, 501, b"x") for n in range(2000)]
    last = (3.0, False, made.RST | made.ACK, 501, 2101, b"")
    (found,) = faultkit.explain(pcap(framed([*RESET[:3], *data, last])))
    assert found.end == "reset by the server"
    assert found.connection.omitted + len(found.connection.packets) == 2004
    assert len(found.connection.packets) < 500


def test_many_that_are_alike_are_told_once() -> None:
    frames = []
    for n in range(300):
        for at, forth, flags, seq, ack, data in RESET:
            packet = (at + n, forth, flags, seq + n * 7919, ack + n * 7919 if ack else 0, data)
            head = ipv4(packet, tcp(packet, sport=1024 + n))
            frames.append((packet[0], ethernet(head)))
    found = faultkit.explain(pcap(frames))
    assert len(found) == 300
    assert {d.end for d in found} == {"reset by the server"}
    assert found[-1].why == "As connection 1"
