"""The calls witness on real sockets: every call with its errno, as a program would have been told."""

from __future__ import annotations

import errno
import socket
import struct
import time

import pytest
import trio
import trio.testing

from faultkit import sockets
from faultkit.evidence.transcript import Address, Transcript
from faultkit.witness.calls import Calls, Socket, errno_name, option_name

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
both_families = pytest.mark.parametrize("family", LOOPBACK, ids=["ipv4", "ipv6"])


@pytest.fixture
def calls() -> Calls:
    return Calls(Transcript(time.time_ns()))


def told(calls: Calls, role: str) -> list[str]:
    return [call.told for call in calls.transcript.calls if call.role == role]


async def pair(calls: Calls, family: int) -> tuple[Socket, Socket]:
    listener = calls.open_socket("server", family)
    listener.bind(Address(LOOPBACK[socket.AddressFamily(family)], 0))
    listener.listen(5)
    client = calls.open_socket("client", family)
    assert (await client.connect(listener.address)).outcome == "ok"
    server = await listener.accept()
    assert server is not None
    return client, server


@both_families
async def test_a_reset_is_told_once(calls: Calls, family: int) -> None:
    client, server = await pair(calls, family)
    assert (await client.send(b"hello")).outcome == "5"
    assert (await server.recv(100)).data == b"hello"
    sockets.abort(server)
    for expected in ("ECONNRESET", "EOF"):
        assert (await client.recv(100)).outcome == expected
    assert (await client.send(b"x")).outcome == "EPIPE"
    calls.discard()
    assert told(calls, "client") == ["connect ok", "send 5", "recv ECONNRESET", "recv EOF", "send EPIPE"]
    assert told(calls, "server") == ["bind ok", "listen ok", "accept ok", "recv 5", "setsockopt ok", "close ok"]
    linger = next(call for call in calls.transcript.calls if call.name == "setsockopt")
    assert linger.argument == "SO_LINGER {1, 0}"


@both_families
async def test_refused(calls: Calls, family: int) -> None:
    held = calls.open_socket("server", family)
    held.bind(Address(LOOPBACK[socket.AddressFamily(family)], 0))
    client = calls.open_socket("client", family)
    call = await client.connect(held.address)
    assert (call.told, call.argument) == ("connect ECONNREFUSED", str(held.address))
    assert calls.transcript.role(held.address) == "server"
    calls.discard()


async def test_whose_address_it_is(calls: Calls) -> None:
    client, server = await pair(calls, socket.AF_INET)
    assert calls.transcript.role(client.address) == "client"
    assert calls.transcript.role(server.address) == "server"
    assert client.address == Address(*server.raw.getpeername()[:2])
    assert Address("0.0.0.0", 0) not in calls.transcript.roles
    calls.discard()


async def test_sockets_are_numbered_for_each_role(calls: Calls) -> None:
    first, _ = await pair(calls, socket.AF_INET)
    second, _ = await pair(calls, socket.AF_INET)
    assert (first.number, second.number) == (1, 2)
    assert [entry.number for entry in calls.adopted if entry.role == "server"] == [1, 2, 3, 4]
    calls.discard()


async def test_a_call_that_waits_began_before_it_ended(calls: Calls) -> None:
    client, server = await pair(calls, socket.AF_INET)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.recv, 10)
        await trio.testing.wait_all_tasks_blocked()
        sent = await server.send(b"now")
    received = calls.transcript.calls[-1]
    assert received.told == "recv 3"
    assert received.began_ns < sent.began_ns <= received.ended_ns
    calls.discard()


async def test_a_call_that_is_cancelled_is_written_down(calls: Calls) -> None:
    client, _ = await pair(calls, socket.AF_INET)
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.recv(10)
    assert scope.cancelled_caught
    assert calls.transcript.calls[-1].told == "recv cancelled"
    calls.discard()


async def test_looking_takes_nothing(calls: Calls) -> None:
    client, server = await pair(calls, socket.AF_INET)
    await server.send(b"data")
    await client.readable()
    assert client.unread() == 4
    looked = await client.recv(10, peek=True)
    assert (looked.argument, looked.data) == ("MSG_PEEK", b"data")
    assert (await client.recv(10)).data == b"data"
    assert [call.argument for call in calls.transcript.calls if call.name == "ioctl"] == ["SIOCINQ"]
    calls.discard()


async def test_unsent_bytes_are_counted(calls: Calls) -> None:
    client, _ = await pair(calls, socket.AF_INET)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    await client.send(bytes(100))
    assert client.unsent() == 100
    assert calls.transcript.calls[-1].told == "ioctl 100 bytes"
    calls.discard()


async def test_set_up_that_fails_is_written_down_and_raised(calls: Calls) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sock = calls.open_socket("server", socket.AF_INET)
        with pytest.raises(OSError) as refused:
            sock.bind(Address("127.0.0.1", taken.getsockname()[1]))
    assert refused.value.errno == errno.EADDRINUSE
    assert told(calls, "server") == ["bind EADDRINUSE"]
    calls.discard()


async def test_shutdown_and_close(calls: Calls) -> None:
    client, server = await pair(calls, socket.AF_INET)
    assert client.shutdown(socket.SHUT_WR).argument == "SHUT_WR"
    assert (await server.recv(1)).outcome == "EOF"
    server.close()
    server.close()
    assert told(calls, "server").count("close ok") == 1
    unconnected = calls.open_socket("client", socket.AF_INET)
    assert unconnected.shutdown(socket.SHUT_RDWR).outcome == "ENOTCONN"
    calls.discard()


async def test_accept_that_fails_gives_none(calls: Calls) -> None:
    sock = calls.open_socket("server", socket.AF_INET)
    assert await sock.accept() is None
    assert told(calls, "server") == ["accept EINVAL"]
    calls.discard()


async def test_what_is_left_open_is_closed_without_a_word(calls: Calls) -> None:
    await pair(calls, socket.AF_INET)
    before = len(calls.transcript.calls)
    calls.discard()
    calls.discard()
    assert all(entry.raw.fileno() == -1 for entry in calls.adopted)
    assert len(calls.transcript.calls) == before


def test_names() -> None:
    assert option_name(socket.SOL_SOCKET, socket.SO_LINGER) == "SO_LINGER"
    assert option_name(socket.IPPROTO_IP, 21) == "IP_MINTTL"
    assert option_name(socket.IPPROTO_IPV6, 73) == "IPV6_MINHOPCOUNT"
    assert option_name(socket.IPPROTO_TCP, 999) == f"{socket.IPPROTO_TCP}/999"
    assert errno_name(OSError(errno.EPIPE, "")) == "EPIPE"
    assert errno_name(OSError("no number")) == "no number"


async def test_an_option_that_is_read(calls: Calls) -> None:
    client, _ = await pair(calls, socket.AF_INET)
    (error,) = struct.unpack("i", client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR, 4))
    assert error == 0
    assert (calls.transcript.calls[-1].argument, calls.transcript.calls[-1].outcome) == ("SO_ERROR", "4 bytes")
    calls.discard()
