"""The analysis of segments: what each means, told from scenes of the real kernel and from segments made up for a rule.

That the labels are Wireshark's is shown in tests/views/test_packets.py.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterable

import pytest

from faultkit.evidence.segments import Segment, form, is_pure_ack, read
from faultkit.evidence.transcript import Address, Packet
from faultkit.witness.wire import decode
from tests.scenes import CLIENT_PORT, HOSTS, PORT, record

FAMILIES = sorted(HOSTS)
CLIENT, SERVER = Address("127.0.0.1", 40001), Address("127.0.0.2", 7654)


def packet(
    source: Address,
    flags: str,
    seq: int,
    ack: int = 0,
    *,
    payload: int = 0,
    window: int = 100,
    options: tuple[tuple[str, int | tuple[int, ...] | None], ...] = (),
    time_ns: int = 0,
) -> Packet:
    destination = SERVER if source == CLIENT else CLIENT
    return Packet(
        time_ns,
        source,
        destination,
        tuple(flags.split()),
        seq,
        ack,
        window,
        payload,
        options,
        ttl=64,
        ip_id=0,
        frame=b"",
    )


def marks(segments: Iterable[Segment]) -> list[str]:
    return [segment.mark for segment in segments]


def of(host: Address, segments: Iterable[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.packet.source == host]


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_are_relative_and_windows_scaled(family: int) -> None:
    syn, synack, ack, request, answer = read(record("closes", family))[:5]
    assert [(s.seq, s.ack) for s in (syn, synack, ack, request, answer)] == [(0, 0), (0, 1), (1, 1), (1, 1), (1, 8)]
    shift = dict(syn.packet.options)["WS"]
    assert isinstance(shift, int)
    assert shift > 0
    assert syn.window == syn.packet.window  # never scaled
    assert ack.window == ack.packet.window << shift


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_handshake_a_direction_begins_at_one(family: int) -> None:
    later = read(record("closes", family)[3:])
    assert [(s.seq, s.ack) for s in later[:2]] == [(1, 1), (1, 8)]
    assert [s.window for s in later] == [s.packet.window for s in later]


@pytest.mark.parametrize("family", FAMILIES)
def test_pure_acks(family: int) -> None:
    told = {segment.packet.flags: is_pure_ack(segment) for segment in read(record("closes", family))}
    assert told == {
        ("SYN",): False,
        ("SYN", "ACK"): False,
        ("ACK",): True,
        ("PSH", "ACK"): False,
        ("FIN", "ACK"): False,
    }
    answered = read(record("keepalive_answered", family))
    assert {s.mark: is_pure_ack(s) for s in answered if s.mark} == {"keep-alive": False, "keep-alive ACK": True}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        ("closes", set()),
        ("linger", set()),
        ("closed_port", set()),
        ("keepalive_answered", {"keep-alive", "keep-alive ACK"}),
        ("keepalive_unanswered", {"keep-alive"}),
        ("deaf_server", {"retransmission"}),
        ("deaf_client", {"retransmission", "dup ACK"}),
        ("deaf_listener", {"retransmission"}),
        ("deaf_at_the_end", {"retransmission"}),
        ("gives_up_on_window", {"zero window", "window full", "window probe"}),
        ("port_again", {"port reused"}),
        ("half_open", set()),
    ],
)
def test_marks_of_a_scene(scene: str, expected: set[str], family: int) -> None:
    assert {mark for mark in marks(read(record(scene, family))) if mark} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_closed_window_is_probed_and_opens(family: int) -> None:
    segments = read(record("window", family))
    seen = [mark for mark in marks(segments) if mark]
    closed = seen.index("zero window")
    assert "window probe" in seen[closed:]
    assert "window update" in seen[closed:]
    assert "keep-alive" in seen  # the other connection's, whose window is open


@pytest.mark.parametrize("family", FAMILIES)
def test_who_made_the_reset(family: int) -> None:
    def forms(scene: str) -> list[str]:
        return [form(seen) for seen in record(scene, family) if "RST" in seen.flags]

    assert forms("linger") == ["active"]
    assert forms("closed_port") == ["stack"]
    assert forms("half_open") == ["active", "stack"]
    assert forms("half_open_server")[:2] == ["active", "stack"]
    # The end of a keepalive is told to the peer, who is deaf; when it closes it hears the stack.
    assert forms("keepalive_unanswered") == ["active", "stack"]


def test_only_a_reset_has_a_form() -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:40001 sent \[FIN, ACK\], which is no RST"):
        form(packet(CLIENT, "FIN ACK", 1))


def test_an_active_reset_may_have_a_closed_window() -> None:
    assert form(packet(CLIENT, "RST ACK", 1, window=0, options=(("TS", (1, 2)),))) == "active"
    assert form(packet(CLIENT, "RST ACK", 1, window=0)) == "stack"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_syn_begins_a_new_connection(family: int) -> None:
    segments = read(record("port_again", family))
    opening = [segment for segment in segments if segment.packet.flags == ("SYN",)]
    assert [(s.seq, s.mark) for s in opening] == [(0, ""), (0, "port reused")]
    assert len({s.packet.source for s in opening}) == 1
    assert opening[0].packet.source == Address(HOSTS[family], CLIENT_PORT)
    assert opening[0].packet.destination == Address(HOSTS[family], PORT)


def handshake(seq: int, answer: int) -> list[Packet]:
    return [
        packet(CLIENT, "SYN", seq, options=(("WS", 2),)),
        packet(SERVER, "SYN ACK", answer, seq + 1 & 0xFFFFFFFF, options=(("WS", 3),), time_ns=10_000),
        packet(CLIENT, "ACK", seq + 1 & 0xFFFFFFFF, answer + 1, time_ns=20_000),
    ]


def test_sequence_numbers_go_round() -> None:
    top = 0xFFFFFFFE
    packets = [
        *handshake(top, 5000),
        packet(CLIENT, "ACK", 0xFFFFFFFF, 5001, payload=10),
        packet(SERVER, "ACK", 5001, 9),
        packet(CLIENT, "ACK", 9, 5001, payload=10),
        packet(CLIENT, "ACK", 0xFFFFFFFF, 5001, payload=10),
    ]
    segments = read(packets)
    assert [(s.seq, s.ack) for s in segments[3:]] == [(1, 1), (1, 11), (11, 1), (1, 1)]
    assert marks(segments[3:]) == ["", "", "", "retransmission"]


def test_scaling_needs_both_ends() -> None:
    first, second, third = handshake(1000, 5000)
    without = packet(SERVER, "SYN ACK", 5000, 1001)
    assert [s.window for s in read([first, second, third])] == [100, 100, 400]
    assert [s.window for s in read([first, without, third])] == [100, 100, 100]


def test_fast_retransmission_is_told_by_its_duplicate_acks() -> None:
    lost = packet(CLIENT, "ACK", 1001, 5001, payload=10)
    packets = [
        *handshake(1000, 5000),
        lost,
        packet(CLIENT, "ACK", 1011, 5001, payload=10, time_ns=30_000),
        *(packet(SERVER, "ACK", 5001, 1001, time_ns=40_000, options=(("SACK", (1011, 1021)),)) for _ in range(4)),
        packet(CLIENT, "ACK", 1001, 5001, payload=10, time_ns=5_000_000),
    ]
    segments = read(packets)
    assert [s.labels for s in segments[5:]] == [
        ("Dup ACK 2#1",),  # all of them repeat the SYN,ACK's
        ("Dup ACK 2#2",),
        ("Dup ACK 2#3",),
        ("Dup ACK 2#4",),
        ("Fast Retransmission",),
    ]
    assert (segments[-1].mark, segments[5].sack) == ("retransmission", (11, 21))


def test_what_the_capture_missed() -> None:
    packets = [
        *handshake(1000, 5000),
        packet(CLIENT, "ACK", 1101, 5001, payload=10),
        packet(SERVER, "ACK", 5001, 1301),
        packet(CLIENT, "ACK", 1000, 5001, payload=1),
    ]
    assert marks(read(packets)[3:]) == ["gap before", "ACK of unseen", "retransmission"]


def made_up(seed: int) -> list[Packet]:
    """Two connections of segments such as no kernel would send: every rule meets every other."""
    chance = random.Random(seed)
    numbers = [[chance.choice([chance.getrandbits(32), 2**32 - 50, 1000]) for _ in range(2)] for _ in range(2)]
    windows = [[100, 100], [100, 100]]
    time_ns = 1_700_000_000_000_000_000
    packets = []
    for count in range(150):
        time_ns += chance.choice([0, 1000, 20_000, 2_000_000, 5_000_000, 30_000_000, 1_100_000_000])
        which, side = chance.randrange(2), chance.randrange(2)
        flags = chance.choices([0x10, 0x02, 0x12, 0x11, 0x14, 0x04, chance.randrange(0x40)], [75, 6, 6, 4, 3, 2, 4])[0]
        near, far = numbers[which][side], numbers[which][1 - side]
        seq = near + chance.choice([0] * 12 + [-1] * 4 + [-2, -5, 5, -1000, 1000]) & 0xFFFFFFFF
        ack = far + chance.choice([0] * 12 + [-1, 1, -5, 5, -1000, 1000]) & 0xFFFFFFFF
        if count < 6 and chance.random() < 0.8:  # mostly with a handshake
            which, side, flags = count // 3, count % 3 % 2, (0x02, 0x12, 0x10)[count % 3]
            seq, ack = numbers[which][side], numbers[which][1 - side]
        size = chance.choice([0, 0, 1, 1, 2, 5, 100]) if not flags & 0x06 else 0
        if chance.random() < 0.3:
            windows[which][side] = chance.choice([0, 0, 1, 5, 100, 100, 65535])
        options = _options(chance, bool(flags & 0x02), numbers[which][side])
        tcp = struct.pack(
            "!HHIIHHHH",
            *((40001 + which, PORT) if side == 0 else (PORT, 40001 + which)),
            seq,
            0 if flags == 0x02 else ack,
            5 + len(options) // 4 << 12 | flags,
            windows[which][side],
            0,
            7,
        )
        hosts = [socket.inet_aton(CLIENT.host), socket.inet_aton(SERVER.host)]
        length = 20 + len(tcp) + len(options) + size
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, count, 0x4000, 64, 6, 0, hosts[side], hosts[1 - side])
        made = decode(time_ns, bytes(12) + b"\x08\x00" + ip + tcp + options + bytes(size))
        assert made is not None
        packets.append(made)
        after = seq + size + (1 if flags & 3 else 0) & 0xFFFFFFFF
        if chance.random() < 0.8 and after - near & 0xFFFFFFFF < 2**31:
            numbers[which][side] = after
    return packets


def _options(chance: random.Random, opening: bool, edge: int) -> bytes:
    options = b""
    if opening:
        options += chance.choice([b"", struct.pack("!BBH", 2, 4, 1460)])
        options += chance.choice([b"", b"\x04\x02"])
        options += chance.choice([b"", bytes([3, 3, chance.choice([0, 1, 7, 10, 14])])])
        options += chance.choice([b"", b"", b"", b"\x22\x02", b"\x22\x0a12345678"])
    elif chance.random() < 0.15:
        options += b"\x01\x01\x05\x0a" + struct.pack("!II", edge, edge + 10 & 0xFFFFFFFF)
    if chance.random() < 0.4:
        options += b"\x08\x0a" + struct.pack("!II", chance.getrandbits(32), chance.getrandbits(32))
    return options + b"\x01" * (-len(options) % 4)
