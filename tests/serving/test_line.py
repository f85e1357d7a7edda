"""A long or narrow line: what comes is heard later, each by itself, and in both directions no more than so much of it passes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import faultkit
from faultkit import Http, Live, Misuse, Server
from tests.serving.client import PATIENCE, client

LATE = 0.2  # seconds
SLACK = 2.0  # more seconds that a busy machine may take


def test_an_answer_takes_that_much_longer() -> None:
    with faultkit.serve(latency_seconds=LATE) as server, client(server) as plain:
        for _ in range(2):
            began = time.monotonic()
            plain.send(b"x")
            assert plain.recv() == "x"
            assert LATE <= time.monotonic() - began < LATE + SLACK


@contextlib.contextmanager
def spoken_to(server: Server, *, tls: bool) -> Iterator[socket.socket]:
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        if not tls:
            yield plain
        else:
            with server.client_context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
                yield wrapped


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_what_is_sent_in_a_row_is_delayed_and_not_the_one_by_the_other(tls: bool) -> None:
    count = 50
    with faultkit.serve(latency_seconds=LATE, tls=tls) as server, spoken_to(server, tls=tls) as sock:
        sent: list[float] = []

        def sends() -> None:
            for _ in range(count):
                sent.append(time.monotonic())
                sock.sendall(b"message!")
                time.sleep(0.01)  # messages that lie apart in time; the pauses are measured, not trusted

        thread = threading.Thread(target=sends)
        began = time.monotonic()
        thread.start()
        came, heard = b"", list[float]()
        while len(came) < count * 8:
            came += sock.recv(65536)
            heard += [time.monotonic()] * (len(came) // 8 - len(heard))
        thread.join()
        took = time.monotonic() - began
    assert came == b"message!" * count
    late = [then - before for before, then in zip(sent, heard, strict=True)]
    assert min(late) >= LATE - 0.001
    assert took < count * LATE / 2  # one after the other they would take ten seconds
    assert sorted(late)[count // 2] < LATE + SLACK / 4


def test_the_end_of_a_client_is_heard_after_what_it_said() -> None:
    with faultkit.serve(latency_seconds=LATE) as server, client(server) as plain:
        began = time.monotonic()
        plain.send(b"bye")
        plain.sock.shutdown(socket.SHUT_WR)
        assert [plain.recv(), plain.recv()] == ["bye", "EOF"]
        assert time.monotonic() - began >= LATE
        assert server.connections[0].wait_for_end().ended == "peer closed"


def test_a_server_that_speaks_first_is_heard_so_much_later() -> None:
    async def greets(conn: Live) -> None:
        await conn.send(b"220 hello")

    began = time.monotonic()
    with faultkit.serve(latency_seconds=LATE, answer=greets) as server, client(server) as plain:
        assert plain.recv() == "220 hello"
        assert time.monotonic() - began >= LATE


@pytest.mark.parametrize("fault", ["linger", "unread", "keepalive-race:unsent"])
def test_a_fault_sets_in_when_what_sets_it_off_is_heard(fault: str) -> None:
    with (
        faultkit.serve(fault, latency_seconds=LATE, after_requests=1, answer="http") as server,
        client(server) as plain,
    ):
        began = time.monotonic()
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.recv() in ("ECONNRESET", "EOF")
        assert time.monotonic() - began >= LATE
        assert server.connections[0].wait_for_fired().fired_after_seconds >= LATE  # type: ignore[operator]


def test_which_connection_is_asked_when_it_is_heard() -> None:
    with faultkit.serve("linger", when="first=bad", latency_seconds=LATE) as server:
        for said, told in (("good", "good"), ("bad", "ECONNRESET")):
            with client(server) as plain:
                began = time.monotonic()
                plain.send(said.encode())
                assert plain.recv() == told
                assert time.monotonic() - began >= LATE


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_upload_takes_its_time(tls: bool) -> None:
    size, rate = 600_000, 1_000_000

    async def whole(conn: Live) -> None:
        left = size
        while left:
            left -= len(await conn.receive())
        await conn.send(b"whole")

    with faultkit.serve(rate=rate, answer=whole, tls=tls) as server, spoken_to(server, tls=tls) as sock:
        began = time.monotonic()
        sock.sendall(bytes(size))
        assert sock.recv(100) == b"whole"
        took = time.monotonic() - began
    assert size / rate - 0.15 < took < size / rate + SLACK  # the first tenth of a second's worth is taken at once


def test_a_download_takes_its_time_after_an_outage_too() -> None:
    size, rate = 300_000, 1_000_000
    with faultkit.serve("slow:1", at="fire", rate=rate, answer=Http(bytes(size))) as server, client(server) as plain:
        plain.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for_connection()
        server.fire()
        server.heal()
        began, came = time.monotonic(), 0
        while came < size:
            came += len(plain.sock.recv(65536))
        assert size / rate - 0.15 < time.monotonic() - began < size / rate + SLACK


def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for ends in (True, False):
        with faultkit.serve(plan=["linger", "ok", "half-close"], latency_seconds=0.01, must_be_met=False) as server:
            for _ in range(4):
                with client(server) as plain:
                    plain.send(b"x")
                    plain.sock.close() if ends else plain.sock.shutdown(socket.SHUT_WR)
            server.restart()
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # the thread of the servers, where it goes on


def test_what_cannot_mean_anything() -> None:
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"latency_seconds": -1}, "latency_seconds=-1: it is 0 or more, and less than 2147483648"),
        ({"latency_seconds": "2"}, "latency_seconds='2' is not a number of seconds"),
        ({"rate": 0}, "rate=0: it is 1 or more, or left out"),
        ({"rate": True}, "rate=True is not a number of bytes per second"),
    ]
    for keywords, sentence in refusals:
        with pytest.raises(Misuse) as refused:
            faultkit.serve(**keywords)
        assert str(refused.value) == sentence
