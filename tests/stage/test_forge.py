"""Forged segments: as dpkt and tshark read them, as the kernel takes them, and never outside our own namespace."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from faultkit.errors import Unable
from faultkit.evidence.transcript import Address
from faultkit.stage import namespace
from faultkit.stage.forge import Forger, Forgery, build
from faultkit.stage.namespace import Namespace
from faultkit.views import pcap
from faultkit.witness.wire import Capture, decode

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = list(HOSTS)


def forked(check: Callable[[], None]) -> None:
    """Run a check in a child: there is no way back out of a namespace."""
    running = multiprocessing.get_context("fork").Process(target=check)
    running.start()
    running.join()
    assert running.exitcode == 0  # what went wrong is on stderr


def forgery(family: socket.AddressFamily, payload: bytes = b"odd") -> Forgery:
    return Forgery(
        source=Address(HOSTS[family], 40001),
        destination=Address(HOSTS[family], 7654),
        flags=("FIN", "PSH", "ACK"),
        seq=0xFFFFFFFE,
        ack=1 << 31,
        window=321,
        payload=payload,
        options=(("MSS", 1460), ("SACK_PERM", None), ("TS", (7, 1 << 31)), ("WS", 5), ("opt30", b"\x12\x34")),
        ttl=47,
        ip_id=4660,
    )


def framed(family: socket.AddressFamily, packet: bytes) -> bytes:
    return bytes(12) + (b"\x08\x00" if family == socket.AF_INET else b"\x86\xdd") + packet


@pytest.mark.parametrize("family", FAMILIES)
def test_dpkt_reads_what_was_written(family: socket.AddressFamily) -> None:
    wanted = forgery(family)
    packet = decode(0, framed(family, build(wanted)))
    assert packet is not None
    assert (packet.source, packet.destination) == (wanted.source, wanted.destination)
    assert (packet.flags, packet.seq, packet.ack, packet.window) == (wanted.flags, wanted.seq, wanted.ack, 321)
    assert packet.options == (*wanted.options[:4], ("opt30", None))
    assert (packet.payload, packet.ttl) == (3, 47)
    assert packet.ip_id == (4660 if family == socket.AF_INET else 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("payload", [b"", b"even", b"odd"])
def test_tshark_finds_every_checksum_good(family: socket.AddressFamily, payload: bytes, tmp_path: Path) -> None:
    packet = decode(1, framed(family, build(forgery(family, payload))))
    assert packet is not None
    pcap.write(str(tmp_path / "forged.pcap"), [packet])
    fields = ["tcp.checksum.status", *(["ip.checksum.status"] if family == socket.AF_INET else [])]
    shown = subprocess.run(
        ["tshark", "-r", str(tmp_path / "forged.pcap"), "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
        + ["-T", "fields"]
        + [word for field in fields for word in ("-e", field)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == ["1"] * len(fields)  # 1: good


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_takes_it(family: socket.AddressFamily) -> None:
    """A forged SYN is answered: the sum is right, and the address is that of a peer."""

    def check() -> None:
        own = namespace.enter()
        with socket.socket(family) as listener, Capture() as capture:
            listener.bind((HOSTS[family], 0))
            listener.listen()
            forger = Forger(own, family)
            there = Address(*listener.getsockname()[:2])
            forger.send(Forgery(Address(HOSTS[family], 40001), there, ("SYN",), seq=1000, ttl=47, ip_id=4660))
            forger.close()
            packets = [packet for caught in capture.cut()[0] if (packet := decode(*caught))]
        assert packets[0].flags == ("SYN",)
        assert packets[0].ttl == 47
        assert (packets[1].flags, packets[1].ack) == (("SYN", "ACK"), 1001)

    forked(check)


def test_refused_outside_our_namespace() -> None:
    inode = os.stat("/proc/self/ns/net").st_ino
    for wrong in (Namespace(inode, inode, False), Namespace(inode + 1, inode, False)):
        with pytest.raises(
            Unable, match=r"^no segment was forged: this process is not inside a namespace that faultkit"
        ):
            Forger(wrong, socket.AF_INET)


def test_an_option_that_cannot_be_written_is_said() -> None:
    ends = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
    with pytest.raises(ValueError, match="option SACK with"):
        build(Forgery(*ends, ("ACK",), seq=0, options=(("SACK", (1, 2)),)))
    with pytest.raises(ValueError, match="room for 40"):
        build(Forgery(*ends, ("ACK",), seq=0, options=(("opt30", bytes(39)),)))
