"""The wire witness on the real kernel, and the decoder on everything else."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faultkit.evidence.transcript import Address
from faultkit.stage import namespace
from faultkit.witness.wire import Capture, Refused, decode
from tests.scenes import CLIENT_PORT, HOSTS, PORT, child, pair, record


def forked(check: Callable[[], None]) -> None:
    """Run a check in a child: neither a namespace nor a given-up privilege can be taken back."""
    running = multiprocessing.get_context("fork").Process(target=check)
    running.start()
    running.join()
    assert running.exitcode == 0  # what went wrong is on stderr


def test_times_are_those_of_arrival() -> None:
    running = child("stamps")
    output, complaint = running.communicate(timeout=60)
    assert (output, running.returncode) == ("0 of 60\n", 0), complaint


def test_each_packet_once_and_each_cut_from_the_last() -> None:
    def check() -> None:
        namespace.enter()
        with Capture() as capture, pair(socket.AF_INET) as (near, far):
            assert flags(capture) == [("SYN",), ("SYN", "ACK"), ("ACK",)]
            assert capture.cut() == ([], 0)
            near.sendall(b"x")
            assert far.recv(1) == b"x"
            assert flags(capture) == [("PSH", "ACK"), ("ACK",)]

    forked(check)


def flags(capture: Capture) -> list[tuple[str, ...]]:
    packets = [decode(*captured) for captured in capture.cut()[0]]
    return [packet.flags for packet in packets if packet is not None]


def test_nothing_but_tcp_reaches_the_buffer() -> None:
    def check() -> None:
        namespace.enter()
        with Capture() as capture, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind((HOSTS[socket.AF_INET], 0))
            datagrams.sendto(b"x", datagrams.getsockname())
            assert datagrams.recv(1) == b"x"
            assert capture.cut() == ([], 0)

    forked(check)


def test_lost_packets_are_counted_once() -> None:
    def check() -> None:
        namespace.enter()
        with Capture() as capture, pair(socket.AF_INET) as (near, far):
            capture.cut()
            capture._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least: a few packets
            for _ in range(100):
                near.sendall(b"x")
                assert far.recv(1) == b"x"
            captured, lost = capture.cut()
            assert 0 < len(captured) < 100
            assert len(captured) + lost == 200  # each byte and its ACK
            assert capture.cut() == ([], 0)

    forked(check)


def test_without_the_capability_it_is_refused() -> None:
    def check() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        with pytest.raises(Refused, match="needs CAP_NET_RAW"):
            Capture()

    forked(check)


def test_an_interface_that_is_not_there_is_an_os_error() -> None:
    def check() -> None:
        namespace.enter()
        with pytest.raises(OSError, match="No such device"):
            Capture("nowhere0")

    forked(check)


@pytest.mark.parametrize("family", sorted(HOSTS))
def test_decodes_what_the_kernel_sends(family: int) -> None:
    client_end, server_end = Address(HOSTS[family], CLIENT_PORT), Address(HOSTS[family], PORT)
    packets = record("closes", family)
    syn, _, ack, request = packets[:4]
    assert (syn.source, syn.destination, syn.flags) == (client_end, server_end, ("SYN",))
    assert [name for name, _ in syn.options] == ["MSS", "SACK_PERM", "TS", "WS"]
    assert dict(syn.options)["MSS"] == (65495 if family == socket.AF_INET else 65476)
    assert dict(syn.options)["SACK_PERM"] is None
    assert (syn.ack, ack.seq, ack.payload) == (0, syn.seq + 1 & 0xFFFFFFFF, 0)
    assert (request.payload, request.frame[-7:], request.ttl) == (7, b"request", 64)
    assert (request.ip_id == 0) == (family == socket.AF_INET6)


def segment(tail: bytes, *, kind: bytes = b"\x08\x00", flags: int = 0x10, fragment: int = 0x4000) -> bytes:
    """An Ethernet frame with a TCP header and what follows it; `tail` starts with the options, padded to words of four."""
    tcp = struct.pack("!HHIIHHHH", 1, 2, 3, 4, 5 + len(tail) // 4 << 12 | flags, 6, 0, 0) + tail
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 7, fragment, 8, 6, 0, bytes(4), bytes(4))
    return bytes(12) + kind + ip + tcp


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("02040218", (("MSS", 536),)),
        ("030307 01", (("WS", 7),)),
        ("0402 0101", (("SACK_PERM", None),)),
        ("080a 00000001 fffffffe 0101", (("TS", (1, 0xFFFFFFFE)),)),
        ("050a 00000001 00000002 0101", (("SACK", (1, 2)),)),
        ("2202 0101", (("TFO", 0),)),
        ("2206 01020304 0101", (("TFO", 4),)),
        ("fe04 0000", (("opt254", None),)),
        ("00 020402", ()),  # what follows the end of the list is none
        ("0203 01 01", (("opt2", None),)),  # an MSS of one byte
        ("0500 0101", (("opt5", None),)),  # a length that would never end
        ("0101 01 02", ()),  # cut off after its kind
    ],
)
def test_options(options: str, expected: object) -> None:
    packet = decode(1, segment(bytes.fromhex(options)))
    assert packet is not None
    assert packet.options == expected


def test_flags_come_in_wiresharks_order() -> None:
    packet = decode(1, segment(b"", flags=0x1FF))
    assert packet is not None
    assert packet.flags == ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")


def test_everything_else_is_none() -> None:
    whole = segment(b"\x01" * 4)
    assert decode(1, whole) is not None
    for end in range(len(whole)):
        assert decode(1, whole[:end]) is None
    assert decode(1, segment(b"", kind=b"\x08\x06")) is None  # ARP
    assert decode(1, segment(b"", kind=b"\x86\xdd")) is None  # an IPv4 packet that says IPv6
    assert decode(1, segment(b"", fragment=0x2000)) is None
    assert decode(1, segment(b"", fragment=0x0001)) is None
    assert decode(1, whole[:23] + b"\x11" + whole[24:]) is None  # UDP
    assert decode(1, whole[:46] + b"\x40" + whole[47:]) is None  # a TCP header shorter than itself


def test_no_frame_makes_it_raise() -> None:
    chance = random.Random(1)
    frames = [captured.frame for family in sorted(HOSTS) for captured in record("linger", family)]
    decoded = 0
    for _ in range(20_000):
        frame = bytearray(chance.choice(frames))
        for _ in range(chance.randrange(1, 6)):
            frame[chance.randrange(12, len(frame))] = chance.randrange(256)
        decoded += decode(1, bytes(frame[: chance.randrange(len(frame) * 2)])) is not None
        decode(1, bytes(12) + chance.choice([b"\x08\x00", b"\x86\xdd"]) + chance.randbytes(chance.randrange(100)))
    assert decoded > 1000  # or the changes were too wild to say anything


def test_dpkt_is_loaded_late() -> None:
    program = """if True:
        import sys
        from faultkit.witness import wire
        assert not [name for name in sys.modules if "dpkt" in name]
        wire.decode(1, bytes(12) + bytes.fromhex("0800 45000028000040004006") + bytes(10) + bytes(12) + b"\x50" + bytes(7))
        assert "dpkt" in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
