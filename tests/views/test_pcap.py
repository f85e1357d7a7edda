"""The capture file, and where it can be put."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from faultkit.evidence.transcript import Packet
from faultkit.views.pcap import check_writable, write
from tests.scenes import record


@pytest.fixture
def packets() -> list[Packet]:
    return record("linger", socket.AF_INET)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Read the file by the draft, not by the library that wrote it."""
    magic, major, minor, _, _, snaplen, link_type = struct.unpack_from("=IHHIIII", data)
    assert (magic, major, minor, link_type) == (0xA1B23C4D, 2, 4, 1)
    found, at = [], 24
    while at < len(data):
        seconds, nanoseconds, captured, length = struct.unpack_from("=IIII", data, at)
        assert captured == length <= snaplen
        found.append((seconds * 1_000_000_000 + nanoseconds, data[at + 16 : at + 16 + captured]))
        at += 16 + captured
    return found


def test_every_nanosecond_and_byte_is_kept(packets: list[Packet], tmp_path: Path) -> None:
    target = tmp_path / "run.pcap"
    write(target, packets)
    assert frames(target.read_bytes()) == [(packet.time_ns, packet.frame) for packet in packets]
    assert len(packets) == 6
    assert list(tmp_path.iterdir()) == [target]


def test_tcpdump_reads_it(packets: list[Packet], tmp_path: Path) -> None:
    write(tmp_path / "run.pcap", packets)
    command = ["tcpdump", "-n", "-r", str(tmp_path / "run.pcap")]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "link-type EN10MB (Ethernet)" in read.stderr
    assert [line.split("Flags ")[1].split(",")[0] for line in read.stdout.splitlines()][-1] == "[R.]"


def test_no_packets_is_a_valid_file(tmp_path: Path) -> None:
    write(tmp_path / "empty.pcap", [])
    assert frames((tmp_path / "empty.pcap").read_bytes()) == []
    subprocess.run(["tshark", "-r", str(tmp_path / "empty.pcap")], check=True, capture_output=True)


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(packets: list[Packet], tmp_path: Path) -> None:
    target, link = tmp_path / "run.pcap", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    with target.open("rb") as opened:
        write(link, packets)
        assert opened.read() == b"old"  # whoever reads the old one goes on reading it
    assert link.is_symlink()
    assert len(frames(target.read_bytes())) == 6
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_of_any_new_file(packets: list[Packet], tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "run.pcap", packets)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run.pcap").stat().st_mode) == 0o640


def test_what_goes_wrong_leaves_the_old_file(packets: list[Packet], tmp_path: Path) -> None:
    target = tmp_path / "run.pcap"
    target.write_bytes(b"old")
    broken = [*packets, None]
    with pytest.raises(AttributeError):
        write(target, broken)  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_is_written_to(packets: list[Packet]) -> None:
    check_writable("/dev/null")
    write("/dev/null", packets)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left on device"):
        write("/dev/full", packets)


def test_a_fifo_is_written_to(packets: list[Packet], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    check_writable(fifo)  # without waiting for a reader
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write(fifo, packets)
    reader.join(20)
    assert len(frames(read[0])) == 6
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "run.pcap")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.pcap").write_bytes(b"old")
    check_writable(tmp_path / "old.pcap")
    assert (tmp_path / "old.pcap").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing/run.pcap", FileNotFoundError),
        ("file/run.pcap", NotADirectoryError),
        ("", IsADirectoryError),
        ("/proc/run.pcap", OSError),  # nobody can create a file there
    ],
)
def test_what_cannot_be_written_is_told_before_and_after(path: str, error: type[OSError], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(error):
        check_writable(tmp_path / path)
    with pytest.raises(error):
        write(tmp_path / path, [])
