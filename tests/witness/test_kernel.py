"""The kernel's counters, its table of connections and its trace, each against another reader of the same thing."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from faultkit import sockets
from faultkit.evidence.transcript import Address, Reset
from faultkit.stage import namespace, tracing
from faultkit.witness import kernel
from tests.stage.child import in_child

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
both_families = pytest.mark.parametrize("family", LOOPBACK, ids=["ipv4", "ipv6"])


def address(sock: socket.socket) -> Address:
    return Address(*sock.getsockname()[:2])


def abort_one(family: int) -> tuple[Address, Address]:
    """A connection whose server aborts it; the client's and the server's address."""
    host = LOOPBACK[socket.AddressFamily(family)]
    with socket.create_server((host, 0), family=family) as listener, socket.socket(family) as client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            ends = address(client), address(server)
            sockets.abort(server)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    return ends


def test_the_counters_are_nstats() -> None:
    def compare() -> dict[str, Any]:
        namespace.enter()
        abort_one(socket.AF_INET)
        ours = kernel.counters()
        shown = subprocess.run(["nstat", "-asz"], capture_output=True, text=True, check=True).stdout
        theirs = dict(line.split()[:2] for line in shown.splitlines() if not line.startswith("#"))
        return {"ours": ours, "theirs": theirs}

    told = in_child(compare)
    ours, theirs = told["ours"], told["theirs"]
    assert ours["TcpExtTCPAbortOnData"] == 1
    assert ours["TcpOutRsts"] == 1
    assert len(ours) > 100
    # nstat leaves the constants of /proc/net/snmp out.
    constants = {"TcpRtoAlgorithm", "TcpRtoMin", "TcpRtoMax", "TcpMaxConn", "TcpCurrEstab"}
    missing = set(ours) - set(theirs)
    assert missing <= constants
    assert {name: str(n) for name, n in ours.items() if name not in missing | constants} == {
        name: n for name, n in theirs.items() if name in ours and name not in constants
    }


def test_what_moved() -> None:
    before = {"TcpOutRsts": 1, "TcpInSegs": 5, "TcpCurrEstab": 3}
    after = {"TcpOutRsts": 3, "TcpInSegs": 5, "TcpCurrEstab": 9, "TcpExtNew": 2}
    assert kernel.moved(before, after) == {"TcpOutRsts": 2, "TcpExtNew": 2}
    assert kernel.moved(after, after) == {}


@both_families
def test_the_state_of_a_connection(family: int) -> None:
    host = LOOPBACK[socket.AddressFamily(family)]
    with socket.create_server((host, 0), family=family) as listener, socket.socket(family) as client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        ends = address(client), address(server)
        assert kernel.tcp_state(*ends) == "ESTABLISHED" == sockets.state(client)
        server.close()
        deadline = time.monotonic() + 5
        while sockets.state(client) != "CLOSE-WAIT":
            assert time.monotonic() < deadline
        assert kernel.tcp_state(*ends) == "CLOSE-WAIT"
        assert kernel.tcp_state(ends[1], ends[0]) in ("FIN-WAIT-1", "FIN-WAIT-2")  # though no program has that socket
        assert kernel.tcp_state(ends[0], Address(host, 1)) == ""


@both_families
# Above TCP_TIMEWAIT_LEN, 60 s, close() leaves a socket for as long as that is exceeded.
@pytest.mark.parametrize(("fin_timeout_seconds", "bucket"), [(60, True), (100, False)])
def test_what_is_left_of_a_closed_connection(family: int, fin_timeout_seconds: int, bucket: bool) -> None:
    host = LOOPBACK[socket.AddressFamily(family)]
    with socket.create_server((host, 0), family=family) as listener, socket.socket(family) as client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        ends = address(server), address(client)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, fin_timeout_seconds)
        server.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 5
        while sockets.state(server) != "FIN-WAIT-2":
            assert time.monotonic() < deadline
        assert listed(*ends) == ("FIN-WAIT-2", False, False)
        server.close()
        assert listed(*ends) == ("FIN-WAIT-2", bucket, True)
        assert listed(ends[0], Address(host, 1)) == ("", False, False)


def listed(local: Address, remote: Address) -> tuple[str, bool, bool]:
    found = kernel.tcp_listed(local, remote)
    assert (found.local, found.remote) == (local, remote)
    return found.state, found.bucket, found.orphan


# As trace_pipe prints them on Linux 6.18.

SENT = (
    "     {comm}-27186   [000] b..2.  3921.123456: tcp_send_reset: skbaddr=00000000a1 skaddr=00000000b2 "
    "src={source} dest={destination} state={state} reason={reason}"
)
RECEIVED = (
    "     python-27186   [001] ..s1.  3921.123457: tcp_receive_reset: family={family} sport=40001 dport=7654 "
    "saddr={v4} daddr={v4} saddrv6={v6} daddrv6={v6} sock_cookie=3"
)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("comm", ["python", "a b: c", "<idle>"])
def test_a_reset_that_was_sent(host: str, comm: str) -> None:
    line = SENT.format(
        comm=comm, source=f"{host}:7654", destination=f"{host}:40001", state="TCP_CLOSE_WAIT", reason="TCP_STATE"
    )
    bare = host.strip("[]")
    assert kernel._reset(line, 10**18) == Reset(
        10**18 + 3921_123456000, "sent", Address(bare, 7654), Address(bare, 40001), "CLOSE-WAIT", "TCP_STATE"
    )


def test_a_reset_without_a_socket_has_no_state() -> None:
    line = SENT.format(
        comm="x", source="127.0.0.1:7654", destination="127.0.0.1:1", state="UNKNOWN", reason="NO_SOCKET"
    )
    found = kernel._reset(line, 0)
    assert found and (found.state, found.reason) == ("", "NO_SOCKET")


@pytest.mark.parametrize(
    ("family", "v4", "v6", "host"),
    [("AF_INET", "127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"), ("AF_INET6", "0.0.0.0", "::1", "::1")],
)
def test_a_reset_that_was_received_names_its_sender_first(family: str, v4: str, v6: str, host: str) -> None:
    line = RECEIVED.format(family=family, v4=v4, v6=v6)
    assert kernel._reset(line, 0) == Reset(
        3921_123457000, "received", Address(host, 7654), Address(host, 40001), "", ""
    )


@pytest.mark.parametrize("line", ["", "CPU:1 [LOST 5 EVENTS]", "  x-1 [000] b..2. 1.5: sched_switch: prev=a"])
def test_another_line_is_no_reset(line: str) -> None:
    assert kernel._reset(line, 0) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@both_families
def test_the_trace_of_a_real_reset(family: int) -> None:
    if "reason" not in _format():  # Linux before 6.10
        with pytest.raises(AssertionError, match="gives no reason: Linux"):
            in_child(lambda: tracing.start(namespace.enter()))
        return

    def look() -> dict[str, Any]:
        own = namespace.enter()
        with contextlib.closing(tracing.start(own)) as instance:
            instance.open()
            reasons = kernel.Reasons(instance)
            reasons.cut()
            began = time.time_ns()
            client, server = abort_one(family)
            ended = time.time_ns()
            resets, lost = reasons.cut()
            mine = [reset for reset in resets if {reset.source, reset.destination} == {client, server}]
            return {
                # Sorted: on loopback the receiver is done before the sender's event is written.
                "resets": sorted((reset.direction, reset.reason, reset.source == server) for reset in mine),
                "in_time": all(began <= reset.time_ns <= ended for reset in mine),
                "lost": lost,
                "again": [reset for reset in reasons.cut()[0] if server in (reset.source, reset.destination)],
            }

    told = in_child(look)
    assert told["resets"] == [["received", "", True], ["sent", "TCP_STATE", True]]
    assert told["in_time"]
    assert (told["lost"], told["again"]) == (0, [])


def _format() -> str:
    """What the kernel says of the event, read where nobody else sees the mount."""
    read = "mount -t tracefs tracefs /sys/kernel/tracing && cat /sys/kernel/tracing/events/tcp/tcp_send_reset/format"
    return subprocess.run(["unshare", "--mount", "sh", "-c", read], capture_output=True, text=True, check=True).stdout


def test_addresses_as_proc_lists_them() -> None:
    assert kernel._as_listed(Address("127.0.0.1", 80)) == f"{struct.unpack('=I', bytes([127, 0, 0, 1]))[0]:08X}:0050"
    listed = Path("/proc/self/net/tcp6").read_text()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        now = Path("/proc/self/net/tcp6").read_text()
        own = kernel._as_listed(address(listener))
    assert own in now
    assert own not in listed
