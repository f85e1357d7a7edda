"""TCP scenes on the real kernel, each played and captured by a process of its own in a network namespace of its own.

`python -m tests.scenes NAME FAMILY` plays one and prints its frames; `record()` runs that and decodes them.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from faultkit.evidence.transcript import Packet
from faultkit.stage import namespace
from faultkit.witness.wire import Capture, decode

PORT = 7654
CLIENT_PORT = 40001
HOSTS = {int(socket.AF_INET): "127.0.0.1", int(socket.AF_INET6): "::1"}
# ip(7), ipv6(7): loopback's TTL is 64, so a socket that asks for 255 hears nothing.
DEAF = {int(socket.AF_INET): (socket.IPPROTO_IP, 21), int(socket.AF_INET6): (socket.IPPROTO_IPV6, 73)}


def deafen(sock: socket.socket, value: int = 255) -> None:
    sock.setsockopt(*DEAF[sock.family], value)


def listener(family: int) -> socket.socket:
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOSTS[family], PORT))
    sock.listen()
    return sock


def client(family: int) -> socket.socket:
    """A socket on a known port, with a limit: nothing here may hang."""
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOSTS[family], CLIENT_PORT))
    sock.settimeout(20)
    return sock


@contextlib.contextmanager
def pair(family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    with listener(family) as server, client(family) as near:
        near.connect(server.getsockname())
        far, _ = server.accept()
        far.settimeout(20)
        with far:
            yield near, far


def abort(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def keepalive(sock: socket.socket, probes: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)


def user_timeout(sock: socket.socket, milliseconds: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def expect(number: int, call: Callable[[], object]) -> None:
    """Wait for what ends the call, a packet or a timer of the kernel. Our own limit has no errno."""
    try:
        got = call()
    except OSError as error:
        assert error.errno == number, error
    else:
        raise AssertionError(f"{errno.errorcode[number]} did not come but {got!r}")


def two_seconds(family: int) -> None:
    """Until the kernel gives up another connection, whose timers began after ours."""
    with socket.socket(family) as server, socket.socket(family) as near:
        server.bind((HOSTS[family], PORT + 1))
        server.listen()
        near.settimeout(20)
        near.connect(server.getsockname())
        far, _ = server.accept()
        with far:
            deafen(far)
            keepalive(near, 1)
            expect(errno.ETIMEDOUT, lambda: near.recv(1))


def closes(family: int) -> None:
    with pair(family) as (near, far):
        near.sendall(b"request")
        assert far.recv(100) == b"request"
        far.sendall(b"response" * 1000)
        assert near.recv(8000, socket.MSG_WAITALL) == b"response" * 1000
        far.close()
        assert near.recv(1) == b""


def linger(family: int) -> None:
    with pair(family) as (near, far):
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        abort(far)
        expect(errno.ECONNRESET, lambda: near.recv(1))


def closed_port(family: int) -> None:
    with client(family) as near:
        expect(errno.ECONNREFUSED, lambda: near.connect((HOSTS[family], PORT)))


def keepalive_answered(family: int) -> None:
    with pair(family) as (near, far):
        keepalive(near, 3)
        near.sendall(b"x")  # a data segment sets the sequence number apart from the handshake's
        assert far.recv(1) == b"x"
        two_seconds(family)  # in which it is probed and answered
        far.sendall(b"y")
        assert near.recv(1) == b"y"


def keepalive_unanswered(family: int) -> None:
    with pair(family) as (near, far):
        keepalive(near, 2)
        deafen(far)
        expect(errno.ETIMEDOUT, lambda: near.recv(1))


def deaf_server(family: int) -> None:
    with pair(family) as (near, far):
        user_timeout(near, 900)
        deafen(far)
        near.sendall(b"lost")
        expect(errno.ETIMEDOUT, lambda: near.recv(1))


def deaf_client(family: int) -> None:
    with pair(family) as (near, far):
        user_timeout(near, 900)
        deafen(near)
        near.sendall(b"arrives")
        assert far.recv(100) == b"arrives"
        expect(errno.ETIMEDOUT, lambda: near.recv(1))
        far.sendall(b"to nobody")
        expect(errno.ECONNRESET, lambda: far.recv(1))


def deaf_listener(family: int) -> None:
    with listener(family) as server, client(family) as near:
        deafen(server)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        expect(errno.ETIMEDOUT, lambda: near.connect(server.getsockname()))


def deaf_at_the_end(family: int) -> None:
    with pair(family) as (near, far):
        user_timeout(near, 900)
        deafen(far)
        near.shutdown(socket.SHUT_WR)
        expect(errno.ETIMEDOUT, lambda: near.recv(1))


def heals(family: int) -> None:
    """Segments in a row are lost and the last ones are not: SACK, duplicate ACKs, then a retransmission that fills the gap."""
    with pair(family) as (near, far):
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near.sendall(b"0")
        assert far.recv(1) == b"0"
        deafen(far)
        near.sendall(b"lost")
        deafen(far, 0)
        for _ in range(4):
            near.sendall(b"more")
        assert far.recv(20, socket.MSG_WAITALL) == b"lost" + b"more" * 4
        near.close()
        assert far.recv(1) == b""


def window(family: int) -> None:
    """The receiver does not read: its window closes, is probed, and opens again."""
    with listener(family) as server, client(family) as near:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near.connect(server.getsockname())
        far, _ = server.accept()
        with far:
            far.settimeout(20)
            near.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += near.send(b"x" * 10000)
            near.settimeout(20)
            two_seconds(family)  # in which the window is probed
            near.shutdown(socket.SHUT_WR)
            while sent:
                sent -= len(far.recv(1 << 20))
            assert far.recv(1) == b""


def gives_up_on_window(family: int) -> None:
    with listener(family) as server, client(family) as near:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near.connect(server.getsockname())
        user_timeout(near, 900)
        far, _ = server.accept()
        with far:
            near.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    near.send(b"x" * 10000)
            near.settimeout(20)
            expect(errno.ETIMEDOUT, lambda: near.recv(1))


def port_again(family: int) -> None:
    for _ in range(2):
        with pair(family) as (near, far):
            near.sendall(b"x")
            assert far.recv(1) == b"x"
            abort(near)
            expect(errno.ECONNRESET, lambda: far.recv(1))


def half_open(family: int) -> None:
    """The server forgets the connection without a word (its RST is not heard), and the client comes back to it."""
    with pair(family) as (near, far):
        deafen(near)
        abort(far)
        deafen(near, 0)
        near.sendall(b"x")
        expect(errno.ECONNRESET, lambda: near.recv(1))


def half_open_server(family: int) -> None:
    """The client forgets: its next SYN from the same port meets the old connection, which challenges it (RFC 5961)."""
    with listener(family) as server:
        with client(family) as near:
            near.connect(server.getsockname())
            far, _ = server.accept()
            far.settimeout(20)
            deafen(far)
            abort(near)
        deafen(far, 0)
        with far, client(family) as near:
            near.connect(server.getsockname())
            expect(errno.ECONNRESET, lambda: far.recv(1))


SCENES: dict[str, Callable[[int], None]] = {
    scene.__name__: scene
    for scene in (
        closes,
        linger,
        closed_port,
        keepalive_answered,
        keepalive_unanswered,
        deaf_server,
        deaf_client,
        deaf_listener,
        deaf_at_the_end,
        heals,
        window,
        gives_up_on_window,
        port_again,
        half_open,
        half_open_server,
    )
}


def play(scene: str, family: int) -> None:
    namespace.enter()
    with Capture() as capture:
        began = time.time_ns()
        SCENES[scene](family)
        ended = time.time_ns()
        captured, lost = capture.cut()
    assert lost == 0
    print(began, ended)
    for time_ns, frame in captured:
        print(time_ns, frame.hex())


def stamps() -> None:
    """Open a capture and connect at once: how many packets claim to have come after everything was over?"""
    namespace.enter()
    late = seen = 0
    for _ in range(20):
        with listener(socket.AF_INET) as server, client(socket.AF_INET) as near:
            with Capture() as capture:
                near.connect(server.getsockname())
                ended = time.time_ns()
                captured, _ = capture.cut()
            late += sum(time_ns > ended for time_ns, _ in captured)
            seen += len(captured)
            abort(near)
        time.sleep(0.02)  # waits for nothing: a kernel still stamping for the last capture would hide the fault
    print(late, "of", seen)


def child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.scenes", *arguments],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@cache
def _running(family: int) -> dict[str, subprocess.Popen[str]]:
    """All scenes at once: most of them do nothing but wait for a timer of the kernel."""
    return {scene: child(scene, str(family)) for scene in SCENES}


@cache
def record(scene: str, family: int) -> list[Packet]:
    """The packets of a scene, as they were captured by a process of its own in a namespace of its own."""
    running = _running(family)[scene]
    output, complaint = running.communicate(timeout=60)
    assert running.returncode == 0, complaint
    header, *lines = output.splitlines()
    began, ended = map(int, header.split())
    packets = []
    for line in lines:
        time_ns, frame = line.split()
        packet = decode(int(time_ns), bytes.fromhex(frame))
        assert packet is not None
        assert began <= packet.time_ns <= ended
        packets.append(packet)
    # Two processors may stamp their packets in one order and queue them in the other, a microsecond apart. `Witnesses.end`
    # puts them in the order of their times too.
    packets.sort(key=lambda packet: packet.time_ns)
    return packets


if __name__ == "__main__":
    stamps() if sys.argv[1] == "stamps" else play(sys.argv[1], int(sys.argv[2]))
