"""The verbs on plain sockets, held against what the other end is told."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from faultkit import Misuse, sockets

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.fixture(params=LOOPBACK, ids=["ipv4", "ipv6"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and a server, connected; nothing here may hang."""
    with pair(request.param) as connected:
        yield connected


@contextlib.contextmanager
def pair(family: socket.AddressFamily) -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server((LOOPBACK[family], 0), family=family) as listener, socket.socket(family) as client:
        client.settimeout(20)
        client.connect(listener.getsockname()[:2])
        server, _ = listener.accept()
        server.settimeout(20)
        with server:
            yield client, server


def told(sock: socket.socket) -> str:
    """What recv gives: the errno's name or the bytes."""
    try:
        return repr(sock.recv(100))
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def until(sock: socket.socket, state: str) -> None:
    deadline = time.monotonic() + 10
    while sockets.state(sock) != state:
        assert time.monotonic() < deadline, sockets.state(sock)


Ends = tuple[socket.socket, socket.socket]


def test_abort(ends: Ends) -> None:
    client, server = ends
    server.sendall(b"queued, and lost or not: it was sent")
    assert told(client) == repr(b"queued, and lost or not: it was sent")
    sockets.abort(server)
    assert server.fileno() == -1
    assert [told(client), told(client)] == ["ECONNRESET", "b''"]
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_black_hole_and_heal(ends: Ends) -> None:
    client, server = ends
    sockets.black_hole(server)
    client.sendall(b"lost at first")
    server.setblocking(False)
    assert told(server) == "EAGAIN"
    assert sockets.clock(client).unacknowledged == 1
    server.settimeout(20)
    sockets.heal(server)
    assert told(server) == repr(b"lost at first")  # the retransmission
    server.sendall(b"and back")
    assert told(client) == repr(b"and back")


def test_only_the_stack_is_heard(ends: Ends) -> None:
    """The FIN of one who whispers is not heard; the RST that a forgotten connection answers with is."""
    client, server = ends
    sockets.hear_only_stack(client)
    sockets.whisper(server)
    server.close()
    client.setblocking(False)
    assert told(client) == "EAGAIN"
    assert sockets.state(client) == "ESTABLISHED"
    client.settimeout(20)
    client.sendall(b"x")
    assert told(client) == "ECONNRESET"


def test_a_whisper_is_heard_by_everybody_else(ends: Ends) -> None:
    client, server = ends
    sockets.whisper(server)
    server.sendall(b"hello")
    assert told(client) == repr(b"hello")


def test_close_unread(ends: Ends) -> None:
    client, server = ends
    client.sendall(b"12345")
    assert select.select([server], [], [], 20)[0]
    assert sockets.unread(server) == 5
    sockets.close_unread(server)
    assert server.fileno() == -1
    assert [told(client), told(client)] == ["ECONNRESET", "b''"]
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_close_unread_with_nothing_unread_is_refused_and_closes_nothing(ends: Ends) -> None:
    client, server = ends
    client.shutdown(socket.SHUT_WR)
    assert select.select([server], [], [], 20)[0]  # a FIN is no byte
    for _ in range(2):
        assert sockets.unread(server) == 0
        with pytest.raises(Misuse) as refused:
            sockets.close_unread(server)
    assert str(refused.value) == (
        "close_unread: nothing has arrived that is unread, so close() would send FIN: wait until it is readable"
    )
    server.sendall(b"still open")
    assert told(client) == repr(b"still open")


def test_unread_counts_what_is_left(ends: Ends) -> None:
    client, server = ends
    client.sendall(b"12345")
    assert server.recv(2) == b"12"
    assert sockets.unread(server) == 3
    assert server.recv(10) == b"345"
    assert sockets.unread(server) == 0


def test_half_close(ends: Ends) -> None:
    client, server = ends
    sockets.half_close(server)
    assert told(client) == "b''"
    client.sendall(b"the other direction is open")
    assert told(server) == repr(b"the other direction is open")
    with pytest.raises(BrokenPipeError):
        server.send(b"x")


def _fill(client: socket.socket) -> int:
    """Send until send() waits, and give how many bytes that were."""
    client.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += client.send(bytes(65536))
    client.settimeout(20)
    return sent


class OfOldKernel(socket.socket):
    """A socket without SO_BUF_LOCK, as before Linux 5.14."""

    def getsockopt(self, level: int, name: int, *size: int) -> Any:
        if name == sockets.SO_BUF_LOCK:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        return super().getsockopt(level, name, *size)


@pytest.mark.parametrize("kind", [socket.socket, OfOldKernel])
def test_stop_reading_and_resume(ends: Ends, kind: type[socket.socket]) -> None:
    """Who stops shows a zero window; who resumes reads as fast as one who never stopped."""
    client, server = ends
    sockets.stop_reading(server)
    sent = _fill(client)
    assert sockets.unread(server) <= 65536  # what was advertised before stays allowed
    assert sockets.clock(client).unsent > 0
    with kind(fileno=os.dup(server.fileno())) as same:
        sockets.resume_reading(same)
    more = threading.Thread(target=client.sendall, args=(bytes(3_000_000),))
    began = time.monotonic()
    more.start()
    left = sent + 3_000_000
    while left:
        left -= len(server.recv(65536))
    more.join()
    assert time.monotonic() - began < 5  # at the window's least size it is three minutes
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_a_receive_buffer_that_was_never_stopped_may_be_resumed(ends: Ends) -> None:
    client, server = ends
    sockets.resume_reading(server)
    client.sendall(b"hello")
    assert told(server) == repr(b"hello")


def test_hold_back(ends: Ends) -> None:
    """After the next segment with data nothing leaves, a FIN neither; a RST does."""
    client, server = ends
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(10):  # which the kernel does not pace
        server.sendall(b"x")
    sockets.hold_back(server)
    server.sendall(b"123456")
    told_so_far = 0
    while told_so_far < 16:
        told_so_far += len(client.recv(100))
    sockets.half_close(server)
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert sockets.state(client) == "ESTABLISHED"
    sockets.abort(server)
    client.settimeout(20)
    assert told(client) == "ECONNRESET"


def test_keepalive(ends: Ends) -> None:
    client, server = ends
    sockets.keepalive(client, idle_seconds=1, interval_seconds=1, count=1)
    sockets.black_hole(server)
    began = time.monotonic()
    assert told(client) == "ETIMEDOUT"
    assert 1.9 <= time.monotonic() - began <= 2.6


def test_keepalive_leaves_the_rest_to_the_kernel(ends: Ends) -> None:
    client, _ = ends
    before = [client.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
    sockets.keepalive(client, idle_seconds=7)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    after = [client.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
    assert before == after


def test_user_timeout(ends: Ends) -> None:
    client, server = ends
    sockets.user_timeout(client, seconds=0.3)
    assert client.getsockopt(socket.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT) == 300
    sockets.black_hole(server)
    client.sendall(b"x")
    assert told(client) == "ETIMEDOUT"


def test_states(ends: Ends) -> None:
    client, server = ends
    assert [sockets.state(client), sockets.state(server)] == ["ESTABLISHED", "ESTABLISHED"]
    server.shutdown(socket.SHUT_WR)
    until(client, "CLOSE-WAIT")
    until(server, "FIN-WAIT-2")
    client.close()
    until(server, "CLOSED")  # its TIME-WAIT is another, smaller socket
    with socket.socket(server.family) as fresh:
        assert sockets.state(fresh) == "CLOSED"
        fresh.listen()
        assert sockets.state(fresh) == "LISTEN"


def test_the_clock_of_a_connection(ends: Ends) -> None:
    client, server = ends
    assert sockets.clock(client) == sockets.Clock(0, 0, 0, 0)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    client.send(bytes(100))
    assert sockets.clock(client).unsent == 100
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    assert told(server) == repr(bytes(100))
    sockets.black_hole(server)
    client.send(b"x")
    deadline = time.monotonic() + 10
    while sockets.clock(client).retransmits == 0:
        assert time.monotonic() < deadline
    assert sockets.clock(client).unacknowledged == 1


def test_the_numbers_are_the_headers() -> None:
    """Those that Python does not name, by reading back what was set."""
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six:
        sockets.black_hole(four)
        sockets.black_hole(six)
        assert four.getsockopt(socket.IPPROTO_IP, sockets.IP_MINTTL) == sockets.DEAF
        assert six.getsockopt(socket.IPPROTO_IPV6, sockets.IPV6_MINHOPCOUNT) == sockets.DEAF
        sockets.stop_reading(four)
        locks = struct.unpack("=i", four.getsockopt(socket.SOL_SOCKET, sockets.SO_BUF_LOCK, 4))[0]
        assert locks == sockets.SOCK_RCVBUF_LOCK
        sockets.resume_reading(four)
        assert four.getsockopt(socket.SOL_SOCKET, sockets.SO_BUF_LOCK) == 0
        sockets.hold_back(four)
        assert four.getsockopt(socket.SOL_SOCKET, sockets.SO_MAX_PACING_RATE) == 1
        assert struct.unpack("B", four.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)) == (7,)


VERBS = [
    "abort",
    "vanish",
    "close_unread",
    "half_close",
    "stop_reading",
    "resume_reading",
    "disconnect",
    "black_hole",
    "heal",
]
OTHERS = {
    "UDP": (socket.AF_INET, socket.SOCK_DGRAM, "SOCK_DGRAM"),
    "UDP over IPv6": (socket.AF_INET6, socket.SOCK_DGRAM, "SOCK_DGRAM"),
    "Unix datagrams": (socket.AF_UNIX, socket.SOCK_DGRAM, "SOCK_DGRAM"),
    "Unix stream": (socket.AF_UNIX, socket.SOCK_STREAM, "AF_UNIX"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("verb", VERBS)
def test_what_would_do_nothing_is_refused(verb: str, other: str) -> None:
    family, kind, shown = OTHERS[other]
    if other == "Unix stream" and verb in ("close_unread", "half_close"):
        return  # they do there what they do on TCP: below
    with socket.socket(family, kind) as sock:
        with pytest.raises(Misuse) as refused:
            getattr(sockets, verb)(sock)
        assert sock.fileno() != -1
    assert str(refused.value).startswith(f"{verb}: this socket ")
    assert str(refused.value).endswith(f" ({shown}): take a TCP socket")


def test_on_a_unix_stream_two_of_them_do_what_they_do_on_tcp() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sockets.half_close(ours)
        assert told(theirs) == repr(b"")
        theirs.sendall(b"unread")
        sockets.close_unread(ours)
        assert told(theirs) == "ECONNRESET"
