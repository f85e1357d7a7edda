"""The packet list against tshark, cell for cell."""

from __future__ import annotations

import io
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from faultkit.evidence.segments import read
from faultkit.evidence.transcript import Packet
from faultkit.views import pcap
from faultkit.views.packets import COLUMNS, info, rows, show
from tests.evidence.test_segments import made_up
from tests.scenes import CLIENT_PORT, HOSTS, PORT, SCENES, record

FAMILIES = sorted(HOSTS)

# What Wireshark must have had to say of a scene, or the comparison would show nothing.
LABELS = {
    "keepalive_answered": ("Keep-Alive", "Keep-Alive ACK"),
    "keepalive_unanswered": ("Keep-Alive",),
    "deaf_server": ("Retransmission",),
    "deaf_client": ("Spurious Retransmission", "Dup ACK 5#1", "Dup ACK 5#2"),
    "deaf_listener": ("Retransmission",),
    "deaf_at_the_end": ("Retransmission",),
    "heals": ("Dup ACK",),
    "window": ("Window Full", "ZeroWindow", "Keep-Alive", "Window Update"),
    "gives_up_on_window": ("Window Full", "ZeroWindow"),
    "port_again": ("Port numbers reused",),
    "half_open_server": ("Port numbers reused", "Retransmission"),
}

# Wireshark's rules for these two scenes, and for segments that no kernel sends, changed after 4.0: what is out of order
# and what is a retransmission, and whether a SYN after a RST begins a connection. We have those of 4.0 (Debian 12).
CHANGED = ("heals", "half_open_server")


@cache
def tshark_version() -> str:
    first = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True).stdout.split()
    return next(word for word in first if word[0].isdigit())


def tshark(packets: list[Packet], path: Path) -> list[tuple[str, ...]]:
    """What tshark prints for them. The payload is nobody's protocol: not even by chance of a port number."""
    pcap.write(path, packets)
    command = ["tshark", "-r", str(path), "-T", "fields"]
    for port in (PORT, PORT + 1):
        command += ["-d", f"tcp.port=={port},data"]
    for column in COLUMNS:
        command += ["-e", f"_ws.col.{column}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [tuple(line.split("\t")) for line in printed.splitlines()]


def without_labels(listed: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(*cells, re.sub(r"\[TCP [^]]*\] ", "", told)) for *cells, told in listed]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_is_what_tshark_prints(scene: str, family: int, tmp_path: Path) -> None:
    packets = record(scene, family)
    ours, theirs = rows(packets), tshark(packets, tmp_path / "scene.pcap")
    assert len(theirs) == len(packets) > 0
    assert without_labels(ours) == without_labels(theirs)
    if scene not in CHANGED or tshark_version().startswith("4.0."):
        assert ours == theirs
    for label in LABELS.get(scene, ()):
        assert any(f"[TCP {label}" in row[-1] for row in ours), label


@pytest.mark.parametrize("family", FAMILIES)
def test_a_capture_that_came_late_is_what_tshark_prints(family: int, tmp_path: Path) -> None:
    packets = record("window", family)[5:]
    assert rows(packets) == tshark(packets, tmp_path / "late.pcap")


@pytest.mark.parametrize("seed", range(5))
def test_made_up_segments_are_what_tshark_prints(seed: int, tmp_path: Path) -> None:
    if not tshark_version().startswith("4.0."):
        pytest.skip(f"tshark {tshark_version()} judges segments that no kernel sends by other rules than 4.0")
    packets = made_up(seed)
    assert rows(packets) == tshark(packets, tmp_path / "made_up.pcap")


def test_plain_tshark_prints_the_same_cells(tmp_path: Path) -> None:
    packets = record("linger", FAMILIES[0])
    pcap.write(tmp_path / "plain.pcap", packets)
    printed = subprocess.run(
        ["tshark", "-r", str(tmp_path / "plain.pcap")], capture_output=True, text=True, check=True
    ).stdout
    for row, line in zip(rows(packets), printed.splitlines(), strict=True):
        number, time, source, destination, *rest = row
        assert line.split() == [number, time, source, "→", destination, *" ".join(rest).split()]


def test_times_may_count_from_elsewhere() -> None:
    packets = record("linger", FAMILIES[0])
    first = packets[0].time_ns
    assert rows(packets, first - 1_500_000_000)[0][1] == "1.500000000"
    assert rows(packets, first + 1)[0][1] == "-0.000000001"
    assert [row[2:] for row in rows(packets, first + 1)] == [row[2:] for row in rows(packets)]


def test_no_packets_no_rows() -> None:
    assert rows([]) == []
    assert [line.split() for line in printed([], width=200)] == [list(COLUMNS)]


def printed(packets: list[Packet], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    show(console, packets)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [1, 40, 80, 400])
def test_in_a_pipe_each_row_is_a_line(width: int) -> None:
    packets = record("closes", FAMILIES[1])
    header, *lines = printed(packets, width)
    assert header.split() == list(COLUMNS)
    assert [line.split() for line in lines] == [" ".join(row).split() for row in rows(packets)]


def test_info_says_what_no_scene_had() -> None:
    packets = [packet for seed in range(5) for packet in made_up(seed)]
    told = " ".join(info(segment) for segment in read(packets))
    for part in ("Urg=7", "TFO=R", "TFO=C", "[<None>]", "SLE=", "[TCP Fast Retransmission]", "[TCP ZeroWindowProbe]"):
        assert part in told
    assert f"{PORT} → {CLIENT_PORT} [" in told
