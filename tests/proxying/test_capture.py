"""--pcap: all of both sides, however much moves; and what faultkit explain says of it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dpkt
import pytest

import faultkit
from faultkit.witness.beginnings import BEGINNING, WHOLE, Beginnings
from faultkit.witness.wire import Refused, packet_socket
from tests.proxying.test_command import running


@pytest.fixture(autouse=True)
def allowed() -> None:
    try:
        packet_socket().close()
    except Refused:
        pytest.skip("packet capture")


def connected(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(b"hello")
    assert client.recv(5) == b"hello"
    return client


def abort(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def leave_unread(client: socket.socket) -> None:
    client.sendall(b"hello")
    client.recv(1, socket.MSG_PEEK)
    client.close()


def close(client: socket.socket) -> None:
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    client.close()


@pytest.mark.parametrize(
    ("end", "causes"),
    [(close, set()), (half_close, set()), (abort, {"linger", "unread"}), (leave_unread, {"linger", "unread"})],
    ids=["close", "half-close", "abort", "unread"],
)
def test_a_proxy_that_does_nothing_has_ended_nothing(
    tmp_path: Path, end: Callable[[socket.socket], None], causes: set[str]
) -> None:
    """What a client does itself is told as the client's own on both sides."""
    capture = tmp_path / "run.pcap"
    with running("--pcap", str(capture), "--connections", "3") as (process, opening):
        for _ in range(3):
            end(connected(opening["port"]))
        assert process.wait(20) == 0
    found = faultkit.explain(capture)
    assert len(found) == 6
    for one in found:
        assert causes <= set(one.causes), one.why
        assert causes or (one.harm, one.causes) == ("closed", ()), one.why
        assert not any(cause.startswith("load-balancer") for cause in one.causes), one.why
        assert one.by in ("", "client")


def test_a_proxy_that_resets_both_ends_has_done_it(tmp_path: Path) -> None:
    """The counterpart: its own resets are still the relay's."""
    capture = tmp_path / "run.pcap"
    with running("--pcap", str(capture), "--connections", "1", "--toxic", "reset_peer,timeout=50,after_bytes=5") as (
        process,
        opening,
    ):
        with connected(opening["port"]) as client, pytest.raises(ConnectionResetError):
            client.recv(1)
        assert process.wait(20) == 0
    assert all("load-balancer-idle" in one.causes for one in faultkit.explain(capture))


@contextlib.contextmanager
def pouring(size: int) -> Iterator[int]:
    """A service that says so many bytes and closes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def pour() -> None:
            sock, _ = door.accept()
            with sock:
                sock.sendall(bytes(size))

        thread = threading.Thread(target=pour)
        thread.start()
        yield door.getsockname()[1]
        thread.join()


def test_no_packet_is_missed_however_much_moves() -> None:
    """150 MB in segments of 64 KiB are ten times what the kernel's queue would hold of whole ones."""
    size = 150_000_000
    with Beginnings() as capture, pouring(size) as port:
        capture.watch({port})
        frames, lost = [], 0
        with socket.create_connection(("127.0.0.1", port)) as client:
            buffer = bytearray(1 << 20)
            while client.recv_into(buffer):
                more, missed = capture.take()
                frames += more
                lost += missed
        more, missed = capture.take()
        frames += more
    assert lost + missed == 0
    said = covered = 0
    for one in frames:
        ip = dpkt.ethernet.Ethernet(one.frame).data
        assert port in (ip.data.sport, ip.data.dport)
        assert len(one.frame) == (one.size if one.size <= WHOLE else BEGINNING)
        if ip.data.sport == port:
            payload = one.size - 14 - ip.hl * 4 - ip.data.off * 4
            said += payload
            covered = max(covered, (ip.data.seq + payload) & 0xFFFFFFFF)
    assert said >= size


def test_it_is_only_of_its_ports() -> None:
    with Beginnings() as capture, pouring(10) as wanted, pouring(10) as other:
        capture.watch({wanted})
        for port in (other, wanted):
            with socket.create_connection(("127.0.0.1", port)) as client:
                while client.recv(100):
                    pass
        frames, _ = capture.take()
        ports = {port for one in frames for port in struct.unpack_from("!HH", one.frame, 34)}
        assert wanted in ports
        assert other not in ports


def test_it_has_ipv6() -> None:
    with Beginnings() as capture, socket.create_server(("::1", 0), family=socket.AF_INET6) as door:
        capture.watch({door.getsockname()[1]})
        socket.create_connection(door.getsockname()[:2]).close()
        assert len(capture.take()[0]) >= 4


def test_the_file_says_how_long_a_frame_was(tmp_path: Path) -> None:
    capture = tmp_path / "run.pcap"
    with pouring(500_000) as port, running("--pcap", str(capture), "--connections", "1", to=port) as (process, opening):
        with socket.create_connection(("127.0.0.1", opening["port"])) as client:
            assert sum(map(len, iter(lambda: client.recv(65536), b""))) == 500_000
        assert process.wait(20) == 0
    data = capture.read_bytes()
    at, long = 24, 0
    while at < len(data):
        _, _, kept, size = struct.unpack_from("=IIII", data, at)
        assert kept == (size if size <= WHOLE else BEGINNING)
        long += size > WHOLE
        at += 16 + kept
    assert long
    assert [one.harm for one in faultkit.explain(capture)] == ["closed", "closed"]
