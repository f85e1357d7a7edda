"""`faultkit.serve_udp`: what a client of UDP, such as a resolver, meets on real sockets."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Misuse, UdpServer
from tests.serving.client import PATIENCE

SOON = 0.2  # seconds in which nothing comes


@contextlib.contextmanager
def talking(server: UdpServer, *, connected: bool = True) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        if connected:
            sock.connect(server.address)
        yield sock


def told(sock: socket.socket, data: bytes = b"hello", *, seconds: float = PATIENCE) -> str:
    """What comes for it: bytes, an errno, or "timeout"."""
    sock.settimeout(seconds)
    try:
        sock.send(data)
        return sock.recv(65536).decode("latin-1")
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_an_echo_and_what_has_come(ipv6: bool) -> None:
    with faultkit.serve_udp(ipv6=ipv6) as server, talking(server) as sock:
        assert [told(sock, data) for data in (b"one", b"", b"x" * 60_000)] == ["one", "", "x" * 60_000]
        assert [(one.number, len(one.data), one.answered, one.fault) for one in server.datagrams] == [
            (1, 3, 3, "ok"),
            (2, 0, 0, "ok"),
            (3, 60_000, 60_000, "ok"),
        ]
        assert server.datagrams[0].peer.port == sock.getsockname()[1]
        assert server.wait_for_datagram(3).number == 3


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_nobody_has_the_port_and_then_somebody_has(ipv6: bool) -> None:
    with faultkit.serve_udp("port-unreachable", ipv6=ipv6) as server, talking(server) as sock:
        port = server.port
        for _ in range(10):
            assert told(sock) == "ECONNREFUSED"
            server.heal()
            assert told(sock) == "hello"
            server.fire()
        assert told(sock) == "ECONNREFUSED"
        assert (server.turned_away, server.port) == (True, port)
        with pytest.raises(OSError, match="in use"), socket.socket(sock.family, socket.SOCK_DGRAM) as other:
            other.bind(server.address)  # it is kept


def test_each_in_its_turn() -> None:
    plan = ["silence", "truncate", "truncate:2", "garbage:3", "ok"]
    with faultkit.serve_udp(plan=plan) as server, talking(server) as sock:
        assert told(sock, seconds=SOON) == "timeout"
        assert [told(sock) for _ in range(5)] == ["he", "he", "\xff\xfe\xfd", "hello", "hello"]
        assert [one.fault for one in server.datagrams] == [*plan, "ok"]


def test_twice_and_from_elsewhere() -> None:
    with faultkit.serve_udp(plan=["duplicate", "other-port"]) as server:
        with talking(server) as sock:
            assert told(sock) == "hello"
            assert sock.recv(100) == b"hello"
        with talking(server, connected=False) as sock:
            sock.sendto(b"hello", server.address)
            data, peer = sock.recvfrom(100)
            assert (data, peer[0]) == (b"hello", server.host)
            assert peer[1] != server.port


def query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def read(message: str) -> tuple[int, bool, bool, int, bytes]:
    """The number, QR, TC, how many records, and the address in the first."""
    data = message.encode("latin-1")
    number, flags, _, answers = struct.unpack_from("!4H", data)
    return number, bool(flags & 0x8000), bool(flags & 0x0200), answers, data[-4:]


def test_dns_that_is_truncated() -> None:
    asked = query("example.org", 1)
    plan = ["truncate", "ok", "silence"]
    with faultkit.serve_udp(plan=plan, answer="dns") as server, talking(server) as sock:
        assert read(told(sock, asked))[:4] == (0x1234, True, True, 0)
        assert read(told(sock, asked)) == (0x1234, True, False, 1, socket.inet_aton("127.0.0.1"))
        assert told(sock, asked, seconds=SOON) == "timeout"
        six = told(sock, query("example.org", 28)).encode("latin-1")
        assert six.endswith(socket.inet_pton(socket.AF_INET6, "::1"))
        assert read(told(sock, query("example.org", 15)))[1:4] == (True, False, 0)


NODE = """
const resolver = new (require("dns").promises.Resolver)()
resolver.setServers([process.argv[1]])
Promise.all([resolver.resolve4("example.org"), resolver.resolve6("a.b")]).then(found => console.log(found.flat().join()))
"""


def test_a_resolver_of_other_people_takes_it() -> None:
    with faultkit.serve_udp(answer="dns") as server:
        where = f"{server.host}:{server.port}"
        ended = subprocess.run(["node", "-e", NODE, where], capture_output=True, text=True, timeout=20, check=True)
        assert ended.stdout == "127.0.0.1,::1\n"


def test_a_function_of_the_tests_own() -> None:
    with faultkit.serve_udp(answer=lambda asked: asked[::-1] or None) as server, talking(server) as sock:
        assert told(sock) == "olleh"
        assert told(sock, b"", seconds=SOON) == "timeout"

    def crashes(asked: bytes) -> bytes:
        raise ValueError("a mistake")

    with (
        pytest.raises(HandlerCrashed, match=r"^ValueError: a mistake$"),
        faultkit.serve_udp(answer=crashes) as server,
        talking(server) as sock,
    ):
        sock.send(b"x")
        server.wait_for_datagram()


def test_begun_anew() -> None:
    with faultkit.serve_udp("silence") as server, talking(server) as sock:
        assert told(sock, seconds=SOON) == "timeout"
        server.arm("port-unreachable")
        assert (told(sock), server.datagrams) == ("ECONNREFUSED", [])
        server.arm(plan=["garbage:1", "ok"])
        assert [told(sock), told(sock)] == ["\xff", "hello"]
        server.rearm()
        assert told(sock, seconds=SOON) == "timeout"


async def test_in_trio() -> None:
    async with faultkit.serve_udp("duplicate") as server:
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock, trio.fail_after(PATIENCE):
            await sock.connect(server.address)
            await sock.send(b"x")
            assert [await sock.recv(10), await sock.recv(10)] == [b"x", b"x"]
            assert (await server.await_datagram()).answered == 2


UNMET: list[tuple[dict[str, Any], str]] = [
    ({"fault": "silence"}, "silence on UDP port PORT was never met: no datagram came"),
    ({"fault": "port-unreachable"}, "port-unreachable on UDP port PORT was never met: no client sent anything"),
    (
        {"plan": ["ok", "truncate"]},
        "truncate on UDP port PORT was never met: it was planned for datagram 2, and no datagram came",
    ),
]


@pytest.mark.parametrize(("keywords", "sentence"), UNMET)
def test_what_nobody_met_is_said(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve_udp(**keywords) as server:
        port = server.port
    assert str(unmet.value) == sentence.replace("PORT", str(port))


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"fault": "silent"}, "there is no fault 'silent' of UDP: did you mean silence?"),
        ({"fault": "linger"}, "there is no fault 'linger' of UDP: it is one of silence, port-unreachable, truncate"),
        ({"fault": "silence:3"}, "silence:3: silence takes nothing there"),
        ({"fault": "garbage:0"}, "garbage:0: garbage takes a whole number of bytes, 1 to 65507, there"),
        ({"plan": ["port-unreachable", "ok"]}, "port-unreachable lets no datagram in, so none can be counted"),
        ({"answer": 5}, "answer=5 is nothing to answer: take 'echo', 'dns', bytes, or a function of bytes"),
        ({"host": "192.0.2.1"}, "host='192.0.2.1' is not loopback"),
    ],
)
def test_what_cannot_mean_anything(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve_udp(**keywords)
    assert str(refused.value).startswith(sentence)
