"""When a fault sets in: to the byte, to the request, and where nothing but the test says so."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
import trio

import faultkit
from faultkit import Http, Live, Misuse
from faultkit.trigger import Trigger, chosen
from tests.serving.client import Client, client

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def step_by_step(plain: Client, size: int) -> int:
    """Sends byte after byte, each echoed before the next. Gives how many came back before the reset."""
    for sent in range(size):
        plain.send(b"x")
        if plain.recv() == "ECONNRESET":
            return sent
    return size


@pytest.mark.parametrize("bytes_", [1, 2, 7])
def test_after_so_many_bytes_received(bytes_: int) -> None:
    with faultkit.serve("linger", after_bytes=bytes_) as server, client(server) as plain:
        assert step_by_step(plain, 10) == bytes_ - 1
        record = server.connections[0]
        assert (record.received, record.sent, record.ended) == (bytes_, bytes_ - 1, "abort")


@pytest.mark.parametrize("bytes_", [1, 2, 7])
def test_the_byte_that_sets_it_off_stays_unread(bytes_: int) -> None:
    with faultkit.serve("unread", after_bytes=bytes_) as server, client(server) as plain:
        assert step_by_step(plain, 10) == bytes_ - 1
        assert server.connections[0].ended == "close with 1 byte unread"


def test_of_many_bytes_at_once_only_those_behind_stay_unread() -> None:
    with faultkit.serve("unread", after_bytes=5) as server, client(server) as plain:
        plain.send(b"0123456789")
        # What was read is echoed, or not: the close may overtake it.
        while plain.recv() != "ECONNRESET":
            pass
        record = server.wait_for_connection().wait_for_end()
        assert (record.received, record.ended) == (4, "close with 6 bytes unread")


@pytest.mark.parametrize("sent", [1, 3, 10])
def test_after_so_many_bytes_sent(sent: int) -> None:
    with faultkit.serve("linger", after_sent=sent, answer=b"0123456789") as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv_whole(sent) == "0123456789"[:sent]
        assert plain.recv() == "ECONNRESET"
        assert server.connections[0].sent == sent


def test_after_so_many_bytes_sent_counts_over_answers() -> None:
    with faultkit.serve("linger", after_sent=25, answer=b"0123456789") as server, client(server) as plain:
        for answer in ("0123456789", "0123456789", "01234"):
            plain.send(b"x")
            assert plain.recv_whole(len(answer)) == answer
        assert plain.recv() == "ECONNRESET"
        record = server.connections[0]
        assert (record.requests, record.answers, record.sent) == (3, 2, 25)


@pytest.mark.parametrize("name", ["linger", "unread"])
@pytest.mark.parametrize("requests", [1, 3])
def test_instead_of_an_answer(name: str, requests: int) -> None:
    with faultkit.serve(name, after_requests=requests, answer=Http(b"hello")) as server, client(server) as plain:
        for _ in range(requests - 1):
            plain.send(REQUEST)
            assert plain.recv().endswith("\r\n\r\nhello")
        plain.send(REQUEST)
        assert plain.recv() == "ECONNRESET"
        record = server.connections[0]
        assert record.answers == requests - 1
        assert record.requests == (requests if name == "linger" else requests - 1)


def test_a_request_in_pieces_is_one() -> None:
    with faultkit.serve("linger", after_requests=2, answer="http") as server, client(server) as plain:
        plain.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in REQUEST:
            plain.send(bytes([byte]))
        assert plain.recv().startswith("HTTP/1.1 200")
        plain.send(REQUEST)
        assert plain.recv() == "ECONNRESET"
        assert server.connections[0].requests == 2


def test_after_so_many_answers() -> None:
    with faultkit.serve("late-write", after_answers=2, answer=b"ok") as server, client(server) as plain:
        for _ in range(2):
            plain.send(b"x")
            assert plain.recv() == "ok"
        assert plain.recv() == "EOF"
        assert server.connections[0].answers == 2


def test_in_the_middle_of_a_body() -> None:
    with faultkit.serve("linger", at="mid-body", answer=Http(b"x" * 100_000)) as server, client(server) as plain:
        plain.send(REQUEST)
        head_and_half = ""
        while (part := plain.recv()) != "ECONNRESET":
            head_and_half += part
        head, _, body = head_and_half.partition("\r\n\r\n")
        assert "Content-Length: 100000" in head
        assert len(body) == 50_000
        assert server.connections[0].sent == len(head) + 4 + 50_000


def test_at_accept() -> None:
    with faultkit.serve("accept-then-close") as server, client(server) as plain:
        assert plain.recv() == "EOF"
        assert server.connections[0].received == 0
    with faultkit.serve("stall", at="accept") as server, client(server) as plain:
        plain.send(b"x")
        assert plain.waits()


def test_after_idling_each_byte_begins_anew() -> None:
    with faultkit.serve("linger", after_idle_seconds=0.3) as server, client(server) as plain:
        for _ in range(6):
            assert plain.waits(0.1)
            plain.send(b"x")
            assert plain.recv() == "x"
        assert plain.recv() == "ECONNRESET"
        record = server.connections[0]
        assert record.fired_after_seconds is not None
        assert 0.85 < record.fired_after_seconds < 3


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_no_connection_is_idle_over_which_the_server_sends(tls: bool) -> None:
    """Every 0.1 s a byte, for thrice the idle time, while nothing is received."""

    async def handler(conn: Live) -> None:
        async def pushes() -> None:
            for _ in range(12):
                await conn.send(b"x")
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pushes)
            while await conn.receive():
                pass

    with faultkit.serve(
        "load-balancer-idle", after_idle_seconds=0.4, answer=handler, tls=tls, must_be_met=False
    ) as server:
        with client(server) as plain:
            if tls:
                plain.sock = server.client_context.wrap_socket(plain.sock, server_hostname="localhost")
            assert plain.recv_whole(13) == "x" * 12
            plain.sock.close()
        assert not server.connections[0].fired


def test_no_connection_is_idle_over_which_bytes_come_that_nobody_reads() -> None:
    async def handler(conn: Live) -> None:
        await trio.sleep(1)

    with faultkit.serve("linger", after_idle_seconds=0.4, answer=handler, must_be_met=False) as server:
        with client(server) as plain:
            for _ in range(8):
                plain.send(b"x")
                assert plain.waits(0.1)
            assert plain.recv() == "EOF"
        assert not server.connections[0].fired


@pytest.mark.parametrize("answer", ["late", "never reads"])
def test_a_connection_is_idle_while_its_handler_takes_its_time(answer: str) -> None:
    async def handler(conn: Live) -> None:
        if answer == "late":
            await conn.receive()
        await trio.sleep_forever()

    with faultkit.serve("linger", after_idle_seconds=0.3, answer=handler) as server, client(server) as plain:
        plain.send(b"x")
        sent = time.monotonic()
        assert plain.recv() == "ECONNRESET"
        assert 0.25 < time.monotonic() - sent < 2  # the kernel counts in ticks of up to 10 ms
        assert server.connections[0].fired


def test_who_is_healed_is_idle_in_peace() -> None:
    with faultkit.serve("linger", after_idle_seconds=0.1, must_be_met=False) as server, client(server) as plain:
        server.heal()
        assert plain.waits(0.3)
        server.fire()
        assert plain.recv() == "ECONNRESET"


def test_only_when_the_test_says_so() -> None:
    with faultkit.serve("linger", at="fire") as server, client(server) as plain, client(server) as silent:
        for _ in range(3):
            plain.send(b"x")
            assert plain.recv() == "x"
        server.wait_for_connection(2)
        server.fire()
        assert plain.recv() == "ECONNRESET"
        assert silent.recv() == "ECONNRESET"
        assert [record.ended for record in server.connections] == ["abort", "abort"]
        with client(server) as later:
            later.send(b"x")
            assert later.recv() == "x"


def test_firing_comes_before_every_other_trigger() -> None:
    with faultkit.serve("linger", after_bytes=1000) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "x"
        server.fire()
        assert plain.recv() == "ECONNRESET"


def test_a_live_connection_falls_silent_and_is_healed() -> None:
    with faultkit.serve("stall", at="fire") as server, client(server) as plain:
        plain.send(b"a")
        assert plain.recv() == "a"
        server.fire()
        plain.send(b"b")
        assert plain.waits()
        server.heal()
        assert plain.recv() == "b"


def test_a_black_hole_is_healed_before_the_client_gives_up() -> None:
    with faultkit.serve("black-hole", at="fire") as server, client(server) as plain:
        plain.send(b"a")
        assert plain.recv() == "a"
        server.fire()
        plain.send(b"b")
        assert plain.waits()
        server.heal()
        assert plain.recv() == "b"  # the client's kernel sends it again


def test_a_door_shuts_and_opens_while_a_connection_lives() -> None:
    with faultkit.serve("refuse", at="fire") as server, client(server) as plain:
        plain.send(b"a")
        assert plain.recv() == "a"
        server.fire()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address)
        plain.send(b"b")
        assert plain.recv() == "b"
        server.heal()
        with client(server) as again:
            again.send(b"c")
            assert again.recv() == "c"


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"after_bytes": -1}, "after_bytes=-1 never comes: take 0 or more"),
        ({"after_sent": 0}, "after_sent=0 never comes: take 1 or more"),
        ({"after_requests": 0}, "after_requests=0 never comes: take 1 or more"),
        ({"after_answers": -2}, "after_answers=-2 never comes: take 1 or more"),
        ({"after_idle_seconds": 0}, "after_idle_seconds=0 never comes: take more than 0, and less than 2147483648"),
        ({"after_bytes": 1.5}, "after_bytes=1.5 is not a whole number"),
        ({"after_bytes": "1"}, "after_bytes='1' is not a whole number"),
        ({"after_requests": True}, "after_requests=True is not a whole number"),
        ({"after_idle_seconds": "1"}, "after_idle_seconds='1' is not a number of seconds"),
        (
            {"after_idle_seconds": float("nan")},
            "after_idle_seconds=nan never comes: take more than 0, and less than 2147483648",
        ),
        (
            {"at": "lunch"},
            "at='lunch' is no moment of a connection: it is one of accept, client-hello, handshake, mid-body, read, fire",
        ),
        (
            {"at": "accept", "after_bytes": 1},
            "at and after_bytes: a fault has one trigger: leave all but one out",
        ),
        (
            {"after_sent": 1, "after_bytes": 1},
            "after_bytes and after_sent: a fault has one trigger: leave all but one out",
        ),
    ],
)
def test_a_trigger_that_cannot_come_is_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve("linger", **keywords)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("name", "keywords", "sentence"),
    [
        (
            "linger",
            {"at": "handshake"},
            "at='handshake' never comes without TLS: add tls=True",
        ),
        (
            "unread",
            {"at": "accept"},
            "unread leaves received bytes unread, and `at accept` there may be none: take after_bytes or after_requests",
        ),
        (
            "refuse",
            {"after_bytes": 1},
            "refuse is done to the listening socket, before there is a connection: leave `after 1 byte received` out, or "
            "at='fire'",
        ),
        (
            "keepalive-race:in-flight",
            {"after_bytes": 1},
            "keepalive-race:in-flight needs an answer before it, not `after 1 byte received`: take after_answers",
        ),
        ("ok", {"after_bytes": 1}, "`after 1 byte received` and no fault: name the fault that is to set in then"),
    ],
)
def test_a_trigger_that_does_not_fit_the_fault_is_one_sentence(
    name: str, keywords: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(name, **keywords)
    assert str(refused.value) == sentence


def test_nothing_received_is_the_accept() -> None:
    assert chosen(after_bytes=0) == Trigger("accept")
    assert chosen() is None
    assert str(chosen(after_idle_seconds=0.5)) == "after 0.5 s without a byte"
