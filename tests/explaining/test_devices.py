"""Rows of network devices, of Solaris and of PDML: a second request that crosses the server's FIN, in the words of each."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

import faultkit
from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import Explaining
from tests.explaining.test_rows import TCPDUMP

# (seconds, from the client?, flags, seq, ack, bytes of data)
PACKETS = (
    (0.0, True, "S", 1000, 0, 0),
    (0.0001, False, "SA", 9000, 1001, 0),
    (0.0002, True, "A", 1001, 9001, 0),
    (0.0003, True, "PA", 1001, 9001, 40),
    (0.0004, False, "PA", 9001, 1041, 100),
    (0.0005, True, "A", 1041, 9101, 0),
    (5.0, False, "FA", 9101, 1041, 0),
    (5.00001, True, "PA", 1041, 9101, 40),
    (5.00002, False, "R", 9101, 0, 0),
)
WORDS = {"S": "syn", "F": "fin", "R": "rst", "P": "psh"}


def _ends(forth: bool) -> tuple[tuple[str, int], tuple[str, int]]:
    both = (("10.0.0.1", 40000), ("10.0.0.2", 8080))
    return both if forth else both[::-1]


def fortigate() -> str:
    lines = ["interfaces=[any]", "filters=[host 10.0.0.2]"]
    for at, forth, flags, seq, ack, _ in PACKETS:
        (a, p), (b, q) = _ends(forth)
        words = [f"{WORDS[flag]} {seq}" for flag in flags if flag != "A"] + ([f"ack {ack}"] if "A" in flags else [])
        for way, later in (("port1 in", 0.0), ("port2 out", 0.000005)):
            lines.append(f"{at + later:.6f} {way} {a}.{p} -> {b}.{q}: {' '.join(words)} ")
    return "\n".join(lines)


def check_point() -> str:
    lines = []
    for number, (_, forth, flags, seq, ack, size) in enumerate(PACKETS, 1):
        (a, p), (b, q) = _ends(forth)
        shown = "".join(letter if letter in flags else "." for letter in "FSRPAU")
        for point in "iIoO":
            lines.append(f"[vs_0][fw_0] eth0:{point}[{40 + size}]: {a} -> {b} (TCP) len={40 + size} id={number}")
            lines.append(f"TCP: {p} -> {q} {shown} seq={seq:08x} ack={ack:08x}")
    return "\n".join(lines)


def snoop() -> str:
    lines, last = [], 0.0
    words = {"S": "Syn", "F": "Fin", "R": "Rst", "P": "Push"}
    for number, (at, forth, flags, seq, ack, size) in enumerate(PACKETS, 1):
        (a, p), (b, q) = _ends(forth)
        told = "".join(f" {words[flag]}" for flag in flags if flag in words) + (f" Ack={ack}" if "A" in flags else "")
        lines.append(f"{number:3} {at - last:9.5f} {a} -> {b} TCP D={q} S={p}{told} Seq={seq} Len={size} Win=64240")
        last = at
    return "\n".join(lines)


def pdml() -> str:
    bits = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
    packets = []
    for number, (at, forth, flags, seq, ack, size) in enumerate(PACKETS, 1):
        (a, p), (b, q) = _ends(forth)
        fields = {
            "num": number,
            "frame.time_epoch": f"{1_700_000_000 + at:.6f}",
            "ip.src": a,
            "ip.dst": b,
            "ip.ttl": 64,
            "tcp.srcport": p,
            "tcp.dstport": q,
            "tcp.flags": f"0x{sum(bits[flag] for flag in flags):04x}",
            "tcp.seq": seq,
            "tcp.ack": ack,
            "tcp.len": size,
            "tcp.window_size_value": 0 if flags == "R" else 502,
        }
        told = "".join(f'<field name="{name}" pos="0" show="{value}" value="00"/>\n' for name, value in fields.items())
        packets.append(f'<packet>\n<proto name="tcp" showname="TCP">\n{told}</proto>\n</packet>\n')
    return '<?xml version="1.0"?>\n<pdml version="0" creator="wireshark/4.0.17">\n' + "".join(packets) + "</pdml>\n"


def explaining(text: str) -> tuple[list[Diagnosis], Explaining]:
    work = Explaining(io.BytesIO(text.encode()))
    return work.all(), work


@pytest.mark.parametrize("written", [fortigate, check_point, snoop, pdml])
def test_each_packet_is_read_once(written: Callable[[], str]) -> None:
    (found,), work = explaining(written())
    packets = found.connection.packets
    assert [p.side for p in packets] == [int(not forth) for _, forth, *_ in PACKETS]
    assert work.seen.unread == (0, "")
    assert work.seen.packets == len(PACKETS)
    assert (found.harm, found.connection.server.port) == ("suspicious", 8080)


@pytest.mark.parametrize("written", [check_point, snoop, pdml])
def test_where_the_length_is_told_the_race_is(written: Callable[[], str]) -> None:
    (found,), _ = explaining(written())
    assert "late-write" in found.causes or found.cause.startswith("keepalive-race"), found.causes
    assert found.by in ("server", "")
    assert [p.size for p in found.connection.packets] == [size for *_, size in PACKETS]


def test_snoop_prints_the_time_between_two_packets() -> None:
    (found,), _ = explaining(snoop())
    times = [p.time_ns for p in found.connection.packets]
    assert times[0] is not None
    assert times[-1] is not None
    assert times[-1] - times[0] == pytest.approx(5_000_020_000, abs=60_000)


LINES = TCPDUMP.splitlines()
UNANSWERED = [
    "10:00:00.000000 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 1, win 501, length 0",
    "10:00:01.000000 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 1, win 501, length 0",
    "10:00:03.000000 IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 1, win 501, length 0",
]


@pytest.mark.parametrize(
    "gap", ["[... cut ...]", "(12 lines removed)", "...", "-- snip --", "<snip>", "… 40 packets omitted …"]
)
def test_what_a_text_leaves_out_may_be_the_answer(gap: str) -> None:
    (whole,) = faultkit.explain("\n".join(UNANSWERED).encode())
    assert (whole.harm, whole.sure) == ("failed", "most likely")
    for place in (1, 2, 3):
        lines = [*UNANSWERED[:place], gap, *UNANSWERED[place:]]
        (found,) = faultkit.explain("\n".join(lines).encode())
        assert (found.harm, found.sure) == ("suspicious", "one of these"), gap
        assert any("rows were left out" in caveat for caveat in found.caveats)
    (found,) = faultkit.explain("\n".join([gap, *UNANSWERED]).encode())
    assert found.harm == "failed"


def test_what_a_text_leaves_out_between_two_packets_lowers_the_claim() -> None:
    (whole,) = faultkit.explain("\n".join(LINES).encode())
    (found,) = faultkit.explain("\n".join([*LINES[:6], "[...]", *LINES[6:]]).encode())
    assert (whole.sure, found.sure) == ("shown by the packets", "most likely")
    assert found.cause == whole.cause


@pytest.mark.parametrize(
    "prose", ["The connection was cut at noon.", "I removed nothing, see below:", "It took 12 packets, why?"]
)
def test_prose_is_no_gap(prose: str) -> None:
    (found,) = faultkit.explain("\n".join([*UNANSWERED[:1], prose, *UNANSWERED[1:]]).encode())
    assert found.harm == "failed"
