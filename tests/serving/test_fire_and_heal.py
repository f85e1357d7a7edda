"""`fire()` and `heal()`, on live connections and at the door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

import faultkit
from faultkit import Live, Misuse, Server
from faultkit.serving import faults
from tests.serving.client import armed, client, unconnected

REQUEST = b"0123456789abcdefghij"


def test_fire_sees_every_client_whose_connect_has_returned() -> None:
    for _ in range(100):
        with armed("linger") as server, client(server) as plain:
            server.fire()
            assert plain.recv() == "ECONNRESET"


async def speaks_first(conn: Live) -> None:
    await conn.send(b"hello")
    while await conn.receive():
        pass


@pytest.mark.parametrize("name", ["linger", "disconnect", "late-write", "accept-then-close", "crash:read"])
def test_fire_comes_before_the_connections_task_has_begun(name: str) -> None:
    for _ in range(20):
        with armed(name, answer=speaks_first) as server, client(server) as plain:
            server.fire()
            assert plain.recv() in ("ECONNRESET", "EOF", "hello")
            record = server.wait_for_connection()
            assert record.fired


@pytest.mark.parametrize("busy", [False, True], ids=["nothing said", "with a task"])
@pytest.mark.parametrize("name", ["linger", "disconnect", "late-write", "accept-then-close", "half-close", "garbage"])
def test_fire_is_for_live_connections(name: str, busy: bool) -> None:
    with armed(name) as server, client(server) as first, client(server) as second:
        for plain in (first, second):
            if busy:
                plain.send(b"hello")
                assert plain.recv() == "hello"
        server.wait_for_connection(2)
        server.fire()
        for plain in (first, second):
            told = "ECONNRESET" if name in ("linger", "disconnect") else "EOF"
            assert plain.recv() == (faults.NOISE.decode("latin-1") if name == "garbage" else told)
        assert all(record.fired for record in server.connections)
        server.fire()  # each fault sets in once


def test_fire_with_bytes_that_are_unread() -> None:
    async def handler(conn: Live) -> None:
        await conn.receive(5)
        await conn.send(b"five")
        await trio.sleep_forever()

    with armed("unread", answer=handler) as server, client(server) as plain:
        plain.send(REQUEST)
        assert plain.recv() == "five"
        server.fire()
        assert plain.recv() == "ECONNRESET"
        assert server.connections[0].wait_for_end().ended == "close with 15 bytes unread"


def test_fire_where_nothing_is_unread_is_refused() -> None:
    with armed("unread", must_be_met=False) as server, client(server) as silent, client(server) as plain:
        with pytest.raises(Misuse) as refused:
            server.fire()
        assert str(refused.value) == "fire(): unread leaves received bytes unread, and connection 1 has none"
        assert silent.waits()
        assert [record.ended for record in server.connections] == [None, None]
        plain.send(b"x")  # nothing else sets it off, so this is read and given back
        assert plain.recv() == "x"


def test_fire_is_for_those_that_the_plan_names() -> None:
    with faultkit.serve(plan=["ok", "linger"], at="fire") as server, client(server) as first, client(server) as second:
        server.fire()
        assert second.recv() == "ECONNRESET"
        first.send(b"x")
        assert first.recv() == "x"


def test_fire_does_not_wait_for_another_trigger() -> None:
    with faultkit.serve("linger", after_bytes=1000) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "x"
        server.fire()
        assert plain.recv() == "ECONNRESET"


def test_fire_from_a_handler() -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()
        server.fire()

    with armed("linger", answer=handler) as server, client(server) as silent, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "ECONNRESET"
        assert silent.recv() == "ECONNRESET"


async def test_fire_and_heal_in_the_loop_of_the_server() -> None:
    async with armed("black-hole") as server:
        stream = await trio.open_tcp_stream(*server.address)
        server.fire()
        await stream.send_all(b"x")
        with trio.move_on_after(0.05):
            await stream.receive_some()
        server.heal()
        with trio.fail_after(20):
            assert await stream.receive_some() == b"x"
        await stream.aclose()


def test_a_verb_that_ended_it_before_is_not_fired_upon() -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()
        conn.abort()
        server.fire()

    with armed("linger", answer=handler, must_be_met=False) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "ECONNRESET"
        assert server.wait_for_connection().wait_for_end().ended == "abort"
        assert not server.connections[0].fired


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("refuse", "ECONNREFUSED"),
        ("closed-port", "ECONNREFUSED"),
        ("connect-hang", "timeout"),
        ("backlog-full", "timeout"),
    ],
)
def test_fire_shuts_the_door_and_heal_opens_it_again_and_again(name: str, told: str) -> None:
    with armed(name) as server, client(server) as early:
        for turn in range(3):
            server.fire()
            with unconnected(server, timeout=0.1) as plain:
                assert plain.connect(server.address) == told
            server.heal()
            with client(server) as plain:
                plain.send(b"hello")
                assert plain.recv() == "hello"
            early.send(b"still here")
            assert early.recv() == "still here", turn
        assert all(record.fault == "ok" for record in server.connections)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (faultkit.serve, "fire(): this server has no fault to set in: name one, as in serve('linger', at='fire')"),
        (
            lambda: faultkit.serve(plan=["ok"]),
            "fire(): this server has no fault to set in: name one, as in serve('linger', at='fire')",
        ),
        (
            lambda: faultkit.serve("keepalive-race:in-flight", must_be_met=False),
            "fire(): keepalive-race:in-flight needs an answer to hold its FIN back behind: it sets in after 1 answer",
        ),
    ],
)
def test_what_cannot_be_fired_is_one_sentence(made: Callable[[], Any], sentence: str) -> None:
    with made() as server, client(server):
        with pytest.raises(Misuse) as refused:
            server.fire()
        assert str(refused.value) == sentence


@pytest.mark.parametrize("call", [Server.fire, Server.heal])
def test_a_closed_server_says_so(call: Callable[[Server], None]) -> None:
    with faultkit.serve("linger", must_be_met=False) as server:
        pass
    with pytest.raises(Misuse) as refused:
        call(server)
    assert (
        str(refused.value) == "the server is closed: this goes inside the `with`, and for the fixtures inside the test"
    )


# heal()


def test_healed_connections_are_spared_until_fire() -> None:
    with faultkit.serve("linger", after_bytes=5) as server, client(server) as plain, client(server) as busy:
        busy.send(b"x")
        assert busy.recv() == "x"
        server.heal()
        for one in (plain, busy):
            one.send(b"more than five bytes")
            assert one.recv() == "more than five bytes"
        with client(server) as later:
            later.send(b"more than five bytes")
            assert later.recv() == "more than five bytes"
        server.connections[2].wait_for_end()
        server.fire()
        assert [plain.recv(), busy.recv()] == ["ECONNRESET", "ECONNRESET"]
        with client(server) as again:
            again.send(b"12345")
            assert again.recv() == "ECONNRESET"
        assert [record.fault for record in server.connections] == ["linger", "linger", "ok", "linger"]


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("name", ["black-hole", "stall", "zero-window", "slow:1", "retransmit-timeout"])
def test_heal_ends_what_hangs(name: str, ipv6: bool) -> None:
    with faultkit.serve(name, ipv6=ipv6) as server, client(server) as plain:
        plain.send(REQUEST)
        begun = plain.recv(1) if name == "slow:1" else ""
        assert plain.waits()
        server.heal()
        assert begun + plain.recv_whole(len(REQUEST) - len(begun)) == REQUEST.decode()
        plain.send(b"again")
        assert plain.recv() == "again"


def test_heal_ends_what_hangs_from_the_accept_on() -> None:
    with faultkit.serve("black-hole", at="accept") as server, client(server) as plain:
        plain.send(REQUEST)
        assert plain.waits()
        server.heal()
        assert plain.recv_whole(len(REQUEST)) == REQUEST.decode()  # the retransmission


def test_who_connected_before_heal_was_there_before() -> None:
    for _ in range(50):
        with faultkit.serve("accept-then-close") as server, client(server) as plain:
            server.heal()
            assert plain.recv() == "EOF"
            with client(server) as later:
                later.send(b"x")
                assert later.recv() == "x"


# One outage after the other.


@pytest.mark.parametrize("name", ["linger", "black-hole", "stall", "zero-window", "load-balancer-idle"])
def test_each_fire_is_an_outage_and_heal_ends_it(name: str) -> None:
    """Of who came before, of who came while all was well, and of who lives on."""
    with armed(name) as server, client(server) as early:
        for _ in range(3):
            with client(server) as plain:
                plain.send(b"a")
                assert plain.recv() == "a"
                server.fire()
                if name in ("linger", "load-balancer-idle"):
                    assert plain.recv() == "ECONNRESET"
                else:
                    plain.send(b"b")
                    early.send(b"c")
                    assert plain.waits()
                    assert early.waits()
                record = server.connections[-1]
                assert record.fired
                assert record.fault == name
                server.heal()
                if record.ended is None:
                    assert [plain.recv(), early.recv()] == ["b", "c"]


def test_what_a_handler_heals_by_itself_sets_in_once() -> None:
    async def handler(conn: Live) -> None:
        while data := await conn.receive():
            conn.heal()
            await conn.answer(data)

    with faultkit.serve("stall", answer=handler) as server, client(server) as plain:
        for _ in range(3):
            plain.send(b"a")
            assert plain.recv() == "a"
        assert server.connections[0].fired
