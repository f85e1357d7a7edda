"""`unix=True`: the faults that have a meaning on a Unix socket, as clients of it are told."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, Http, Live, Misuse, Server
from faultkit.serving.unix import FAULTS
from tests.serving.client import PATIENCE


@contextlib.contextmanager
def talking(server: Server) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        yield sock


def told(server: Server, said: bytes = b"0123456789", *, timeout: float | None = PATIENCE) -> list[str]:
    """What one client is told: connect, what is read, until the end."""
    with talking(server) as sock:
        sock.settimeout(timeout)  # one that has a timeout does not block, and is told EAGAIN where others wait
        return [*_told(sock, server.path, said)]


def _told(sock: socket.socket, path: str, said: bytes) -> Iterator[str]:
    try:
        sock.connect(path)
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            yield data.decode("latin-1")
        yield "EOF"
    except OSError as error:
        yield errno.errorcode[error.errno or 0]


TOLD: dict[str, str] = {
    "ok": "0123456789 EOF",
    "accept-then-close": "EOF",
    "closed-port": "ECONNREFUSED",
    "crash:read": "EOF",
    "crash:unread": "ECONNRESET",
    "garbage:3": "\xff\xfe\xfd EOF",
    "half-close": "EOF",
    "refuse": "ECONNREFUSED",
    "truncate": "01234 EOF",
    "unread": "ECONNRESET",
}


@pytest.mark.parametrize("fault", TOLD)
def test_a_fault_is_what_the_client_is_told(fault: str) -> None:
    for _ in range(10):
        with faultkit.serve(fault, unix=True, must_be_met=fault != "crash:unread") as server:
            seen = told(server)
            assert " ".join(["".join(seen[:-1]), seen[-1]]).strip() == TOLD[fault]


def test_an_early_response() -> None:
    with faultkit.serve("early-response", unix=True, answer="http") as server, talking(server) as sock:
        sock.connect(server.path)
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 413")
        assert server.connections[0].wait_for_end().ended == "close with 44 bytes unread"
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


@pytest.mark.parametrize("fault", ["stall", "zero-window", "slow:1"])
def test_what_hangs_is_healed(fault: str) -> None:
    with faultkit.serve(fault, unix=True) as server, talking(server) as sock:
        sock.connect(server.path)
        sock.sendall(b"hello")
        sock.settimeout(0.1)
        server.wait_for_connection().wait_for_fired()
        with pytest.raises(TimeoutError):
            assert sock.recv(1) == b"h"  # slow:1 says one
            sock.recv(5)
        server.heal()
        sock.settimeout(PATIENCE)
        came = b""
        while not came.endswith(b"o"):
            came += sock.recv(5)
        sock.sendall(b"again")
        assert sock.recv(5) == b"again"


def test_a_peer_that_does_not_read_is_not_read() -> None:
    with faultkit.serve("zero-window", unix=True) as server, talking(server) as sock:
        sock.connect(server.path)
        sock.sendall(b"x")
        server.wait_for_connection().wait_for_fired()
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(10_000_000))


@pytest.mark.parametrize("fault", ["connect-hang", "backlog-full"])
def test_no_room_and_then_there_is(fault: str) -> None:
    with faultkit.serve(fault, unix=True) as server:
        with talking(server) as sock:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):  # EAGAIN
                sock.connect(server.path)
        seen: list[list[str]] = []
        waits = threading.Thread(target=lambda: seen.append(told(server, timeout=None)))
        waits.start()
        waits.join(0.1)
        assert seen == []
        server.heal()
        waits.join(PATIENCE)
        assert seen == [["0123456789", "EOF"]]
        assert [record.number for record in server.connections] == [1]


def test_outages_come_and_go_at_the_same_path() -> None:
    with faultkit.serve("refuse", unix=True) as server:
        for _ in range(5):
            assert told(server) == ["ECONNREFUSED"]
            server.heal()
            assert told(server)[-1] == "EOF"
            server.fire()
        server.arm("unread")
        assert told(server) == ["ECONNRESET"]
        server.fault = None
        with talking(server) as sock:
            sock.connect(server.path)
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            server.restart(down_seconds=60)
            assert sock.recv(1) == b""
            assert told(server) == ["ECONNREFUSED"]
            server.restart()
            assert told(server)[-1] == "EOF"


def test_http_plans_and_which_connection() -> None:
    with faultkit.serve(plan=["truncate", "ok"], when="path=/up*", unix=True, answer=Http(b"yes!")) as server:
        seen = []
        for path in (b"/", b"/up", b"/up"):
            with talking(server) as sock:
                sock.connect(server.path)
                for part in (b"GET ", path, b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
                    sock.sendall(part)
                answer = b""
                while data := sock.recv(100):
                    answer += data
                seen.append(answer.rpartition(b"\r\n\r\n")[2])
        assert seen == [b"yes!", b"ye", b"yes!"]
        assert server.url.startswith("http+unix://%2F")


def test_several_in_order_and_a_handler() -> None:
    async def greets(conn: Live) -> None:
        await conn.send(b"hello ")
        while data := await conn.receive():
            await conn.request()
            await conn.answer(data)

    order = "stall@requests=1 + ok@fire + half-close@requests=2"
    with faultkit.serve(order, unix=True, answer=greets) as server, talking(server) as sock:
        sock.connect(server.path)
        sock.sendall(b"one")
        assert sock.recv(6) == b"hello "
        server.connections[0].wait_for_fired()
        server.fire()
        assert sock.recv(3) == b"one"
        sock.sendall(b"two")
        assert sock.recv(3) == b""


@pytest.mark.parametrize("verb", ["black_hole", "close_held", "disconnect", "shorten_fin_wait", "slices", "vanish"])
def test_a_verb_of_tcp_is_one_sentence(verb: str) -> None:
    keywords = {"shorten_fin_wait": {"seconds": 1}, "slices": {"size": 1}}.get(verb, {})

    async def does(conn: Live) -> None:
        while await conn.receive():
            pass
        with pytest.raises(Misuse) as refused:
            getattr(conn, verb)(**keywords)
        await conn.send(str(refused.value).encode())

    with faultkit.serve(unix=True, answer=does) as server:
        assert told(server)[0].startswith(f"{verb}() is TCP's, and this is a Unix socket: ")


def test_the_path_is_ones_own_or_a_new_one_and_gone_after_it(tmp_path: Path) -> None:
    path = str(tmp_path / "service.sock")
    with faultkit.serve("unread", unix=path) as server:
        assert (server.path, told(server)) == (path, ["ECONNRESET"])
        with pytest.raises(Misuse, match="something is there already"):
            faultkit.serve(unix=path)
    assert not os.path.exists(path)
    with faultkit.serve("refuse", unix=True) as server:
        assert told(server) == ["ECONNREFUSED"]
        made = server.path
    assert not os.path.exists(os.path.dirname(made))
    assert os.listdir(tmp_path) == []


def test_what_nobody_met_names_the_path() -> None:
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve("unread", unix=True) as server:
        path = server.path
    assert str(unmet.value) == f"unread at {path} was never met: no connection came"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fault": "linger"}, f"linger is TCP's: a Unix socket has {', '.join(FAULTS)}"),
    ({"plan": ["stall + black-hole"]}, "black-hole is TCP's: a Unix socket has"),
    ({"fault": "stall", "after_idle_seconds": 1}, "`after 1 s without a byte` is known of TCP alone"),
    ({"fault": "stall@read"}, "stall `at read` is known of TCP alone"),
    ({"port": 80}, "unix= with host, port, ipv6, beyond_loopback, tls, latency_seconds or rate: these are TCP's"),
    ({"plan": ["refuse", "ok"]}, "a plan with refuse counts SYNs"),
    ({"unix": "/x" * 60}, "unix='/x/x"),
]


@pytest.mark.parametrize(("keywords", "sentence"), REFUSED)
def test_what_is_tcps_is_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(**{"unix": True, **keywords})
    assert str(refused.value).startswith(sentence)
