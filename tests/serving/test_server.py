"""A server as a test has it: waiting, fire and heal, what it complains of, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Live, Misuse, Server
from faultkit.serving import engine, faults
from faultkit.serving.entry import Serving
from tests.ordinary import CHECKOUT
from tests.serving.client import Client, client, unconnected
from tests.stage.child import in_child

REQUEST = b"0123456789abcdefghij"


# Waiting.


def test_a_thread_waits_for_a_connection_and_gets_that_one() -> None:
    with faultkit.serve() as server:
        coming = threading.Timer(0.05, lambda: stack.enter_context(client(server)))
        with contextlib.ExitStack() as stack:
            stack.enter_context(client(server))
            coming.start()
            assert server.wait_for_connection(2).number == 2
            assert server.wait_for_connection().number == 1
            coming.join()


def test_a_wait_that_is_too_long_says_what_has_come_by_then() -> None:
    with faultkit.serve() as server, contextlib.ExitStack() as stack:
        for came in ("no connection", "1 connection", "2 connections"):
            with pytest.raises(TimeoutError) as waited:
                server.wait_for_connection(3, timeout_seconds=0.02)
            assert str(waited.value) == f"{came} came, not 3, after 0.02 s"
            stack.enter_context(client(server))
            server.wait_for_connection(len(server.connections) or 1)


def test_there_is_no_connection_0() -> None:
    with faultkit.serve() as server, pytest.raises(Misuse) as refused:
        server.wait_for_connection(0)
    assert str(refused.value) == "connection 0: the first one is 1"


def test_asyncio_waits() -> None:
    async def play() -> None:
        async with faultkit.serve("linger") as server:
            with pytest.raises(Misuse, match="this would block the asyncio loop"):
                server.wait_for_connection()
            waiting = asyncio.create_task(server.await_connection())
            reader, writer = await asyncio.open_connection(*server.address)
            record = await waiting
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert (await record.await_end()).ended == "abort"
            writer.close()

    asyncio.run(asyncio.wait_for(play(), 20))


async def test_trio_waits_for_a_server_in_its_own_loop() -> None:
    with trio.fail_after(20):
        async with faultkit.serve("linger") as server, trio.open_nursery() as nursery:
            records: list[faultkit.Connection] = []

            async def wait() -> None:
                records.append(await server.await_connection())

            nursery.start_soon(wait)
            stream = await trio.open_tcp_stream(*server.address)
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            [record] = server.connections
            assert (await record.await_end()).ended == "abort"
            await stream.aclose()
        assert records == [record]


def test_trio_waits_for_a_server_in_another_thread() -> None:
    async def play(server: Server) -> None:
        with trio.fail_after(20):
            stream = await trio.open_tcp_stream(*server.address)
            assert (await server.await_connection()).number == 1
            await stream.aclose()
            assert (await server.connections[0].await_end()).ended == "peer closed"

    with faultkit.serve() as server:
        trio.run(play, server)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_wait_that_was_given_up_does_not_trouble_the_server(loop: str) -> None:
    """Nor one whose loop has ended in the middle of it."""

    async def give_up(server: Server) -> None:
        if loop == "trio":
            with trio.move_on_after(0.01):
                await server.await_connection()
        else:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(server.await_connection(), 0.01)

    with faultkit.serve() as server:
        held = server._waiting._wakers
        kept: set[Callable[[], object]] = set()
        held_add = held.add

        class Keeping(set[Callable[[], object]]):
            def add(self, wake: Callable[[], object]) -> None:
                kept.add(wake)
                held_add(wake)

        server._waiting._wakers = Keeping()
        trio.run(give_up, server) if loop == "trio" else asyncio.run(give_up(server))
        assert len(kept) == 1
        server._waiting._wakers = kept  # as the engine's thread has it that looked just before
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"


# fire()


def armed(name: str, **keywords: Any) -> Serving:
    return faultkit.serve(name, at="fire", **keywords)


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
            "fire(): keepalive-race:in-flight needs an answer to hold its FIN back behind: it sets in after 1 answers",
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


# What it complains of.


def test_a_healthy_server_needs_nobody() -> None:
    with faultkit.serve():
        pass


UNMET: dict[str, tuple[dict[str, Any], int, str]] = {
    "nobody came": ({"fault": "linger"}, 0, "linger on port PORT was never met: no connection came"),
    "not so far": (
        {"fault": "linger", "after_bytes": 100},
        2,
        "linger on port PORT was never met: it was to set in after 100 bytes received, and 2 connections came: "
        "connection 2 had 5 bytes in, 5 out, peer closed",
    ),
    "not in the plan's turn": (
        {"plan": ["ok", "ok", "linger"]},
        2,
        "linger on port PORT was never met: it was planned for connection 3, and 2 connections came",
    ),
    "not in its own turn": (
        {"plan": ["ok", "unread"], "after_bytes": 6},
        2,
        "unread on port PORT was never met: it was planned after 6 bytes received of connection 2, connection 2 had "
        "5 bytes in, 5 out, peer closed",
    ),
    "by chance": ({"random": 1.0, "seed": 1}, 0, "a random fault on port PORT was never met: no connection came"),
    "behind a door": (
        {"fault": "connect-hang"},
        0,
        "connect-hang on port PORT was never met: no client tried to connect",
    ),
    "behind an open door": (
        {"fault": "refuse", "at": "fire"},
        1,
        "refuse on port PORT was to set in at fire(), which was never called",
    ),
    "no client waited": (
        {"fault": "listener-closed"},
        0,
        "listener-closed on port PORT was never met: no connection came",
    ),
}


@pytest.mark.parametrize("case", UNMET)
def test_a_fault_that_nobody_met_is_one_sentence(case: str) -> None:
    keywords, clients, sentence = UNMET[case]
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve(**keywords) as server:
        for number in range(clients):
            with client(server) as plain:
                plain.send(b"hello")
                assert plain.recv() == "hello"
            server.connections[number].wait_for_end()
    assert str(unmet.value) == sentence.replace("PORT", str(server.port))
    with faultkit.serve(**keywords, must_be_met=False):
        pass


def test_in_a_namespace_of_its_own_the_first_refusal_counts() -> None:
    """OutRsts is 0 there."""
    in_child(_first_refusal)


def _first_refusal() -> None:
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    with faultkit.serve("refuse") as server, unconnected(server) as plain:
        assert plain.connect(server.address) == "ECONNREFUSED"
    with pytest.raises(FaultNotMet), faultkit.serve("refuse"):
        pass


def test_a_client_that_was_too_quick_to_be_seen_is_looked_for() -> None:
    """It connects, sends and goes, and the server is asked at once."""
    for _ in range(100):
        with faultkit.serve("linger") as server:
            with client(server) as plain:
                plain.send(b"x")
            server.check()


def test_what_the_test_itself_raised_is_not_covered_up() -> None:
    with pytest.raises(ZeroDivisionError), faultkit.serve("linger"):
        raise ZeroDivisionError


def test_a_crash_comes_before_a_fault_that_was_not_met() -> None:
    async def handler(conn: Live) -> None:
        raise ValueError("first")

    with (
        pytest.raises(HandlerCrashed, match=r"^connection 1: ValueError: first$"),
        armed("linger", answer=handler) as server,
    ):
        with client(server) as plain:
            assert plain.recv() == "EOF"
        with client(server):
            pass


async def test_what_is_wrong_is_told_in_the_loop_of_the_server_too() -> None:
    with pytest.raises(FaultNotMet, match=r"was never met: no connection came$"):
        async with faultkit.serve("linger") as server:
            with pytest.raises(Misuse) as refused:
                server.check()
            assert str(refused.value) == "check() would block the loop in which the server runs: await acheck() there"
            with pytest.raises(FaultNotMet):
                await server.acheck()
    with pytest.raises(ZeroDivisionError):
        async with faultkit.serve("linger"):
            raise ZeroDivisionError


# Where it listens.


@pytest.mark.parametrize(
    ("keywords", "host"),
    [
        ({}, "127.0.0.1"),
        ({"ipv6": True}, "::1"),
        ({"host": "localhost"}, "127.0.0.1"),
        ({"host": "localhost", "ipv6": True}, "::1"),
        ({"host": "127.9.8.7"}, "127.9.8.7"),
        ({"host": "::1"}, "::1"),
        ({"host": "0.0.0.0", "beyond_loopback": True}, "0.0.0.0"),
    ],
)
def test_where_it_listens(keywords: dict[str, Any], host: str) -> None:
    with faultkit.serve(**keywords) as server:
        assert (server.host, server.address) == (host, (host, server.port))
        shown = f"[{host}]" if ":" in host else host
        assert server.url == f"http://{shown}:{server.port}/"
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"
            assert server.connections[0].peer == plain.sock.getsockname()[:2]


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        (
            {"host": "0.0.0.0"},
            "host='0.0.0.0' is not loopback, and others could reach what is broken on purpose: "
            "say beyond_loopback if that is meant",
        ),
        (
            {"host": "192.0.2.1"},
            "host='192.0.2.1' is not loopback, and others could reach what is broken on purpose: "
            "say beyond_loopback if that is meant",
        ),
        (
            {"host": "::"},
            "host='::' is not loopback, and others could reach what is broken on purpose: say beyond_loopback if that is meant",
        ),
        ({"host": "example.org"}, "host='example.org' is not an address: leave it out for loopback"),
        ({"host": "127.0.0.1", "ipv6": True}, "host='127.0.0.1' is no IPv6 address: leave ipv6 out"),
        ({"port": 65536}, "port=65536 is no port: it is 0 to 65535, 0 for a free one"),
        ({"port": -1}, "port=-1 is no port: it is 0 to 65535, 0 for a free one"),
        ({"port": True}, "port=True is no port: it is 0 to 65535, 0 for a free one"),
        ({"port": "80"}, "port='80' is no port: it is 0 to 65535, 0 for a free one"),
    ],
)  # fmt: skip
def test_where_it_cannot_listen_is_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(**keywords)
    assert str(refused.value) == sentence


def test_an_address_that_is_not_here() -> None:
    with pytest.raises(faultkit.Unable) as refused:
        faultkit.serve(host="192.0.2.1", beyond_loopback=True)
    assert str(refused.value) == (
        "port 0 on 192.0.2.1 is refused (Cannot assign requested address): leave both out to get a free port on loopback"
    )


@pytest.mark.parametrize("name", [None, "refuse", "connect-hang", "backlog-full"])
def test_a_port_that_is_in_use(name: str | None) -> None:
    with faultkit.serve(name, must_be_met=False) as server:
        with pytest.raises(Misuse) as refused:
            faultkit.serve(port=server.port)
        assert str(refused.value) == f"port {server.port} is in use on 127.0.0.1: leave it out to get a free one"
    with faultkit.serve(port=server.port) as again:  # at once
        assert again.port == server.port


def test_a_port_with_connections_in_time_wait_is_free() -> None:
    with faultkit.serve("late-write") as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "EOF"
        plain.sock.close()
        server.wait_for_connection().wait_for_end()
        port = server.port
    with faultkit.serve(port=port):
        pass


def test_a_server_is_for_one_with() -> None:
    serving = faultkit.serve()
    with serving:
        pass
    with pytest.raises(Misuse) as refused, serving:
        pass
    assert (
        str(refused.value) == "this server has been opened before: each faultkit.serve(...) gives one, for one `with`"
    )


# Its end.


def descriptors() -> list[str]:
    """What this process holds open, without the directory that is read for it."""
    held = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            held.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(name for name in held if "/fd" not in name)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "faultkit"]


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With a thread of its own, so that this ends too."""
    monkeypatch.setattr("faultkit.serving.entry.SHARED", engine.Thread())
    before, threads_before = descriptors(), threads()
    yield
    assert descriptors() == before
    assert threads() == threads_before


async def never_ends(conn: Live) -> None:
    await trio.sleep_forever()


# a fault or none, a handler, and what the client does before the server ends
OPEN: dict[str, tuple[str | None, Any, Callable[[Client], object]]] = {
    "nothing said": ("linger", "echo", lambda plain: None),
    "idle after an echo": (None, "echo", lambda plain: (plain.send(b"x"), plain.recv())),
    "in http": (None, "http", lambda plain: plain.send(b"GET / HT")),
    "in a handler": (None, never_ends, lambda plain: None),
    "it does not read what it is sent": (None, bytes(20_000_000), lambda plain: plain.send(b"x")),
    "draining": ("accept-then-close", "echo", lambda plain: plain.recv()),
    "half closed": ("half-close", "echo", lambda plain: (plain.send(b"x"), plain.recv())),
    "stalled": ("stall", "echo", lambda plain: plain.send(b"x")),
    "a black hole": ("black-hole", "echo", lambda plain: plain.send(b"x")),
    "a zero window": ("zero-window", "echo", lambda plain: plain.send(bytes(100_000))),
    "slow": ("slow:1", "echo", lambda plain: (plain.send(REQUEST), plain.recv(1))),
    "garbage that nobody reads": ("garbage:20000000", "echo", lambda plain: (plain.send(b"x"), plain.recv(1))),
    "a full backlog": ("backlog-full", "echo", lambda plain: None),
    "a wait for its idle time": ("idle-firewall", "echo", lambda plain: plain.send(b"x")),
}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("state", OPEN)
def test_nothing_is_left_and_nothing_hangs(state: str) -> None:
    name, answer, play = OPEN[state]
    with contextlib.ExitStack() as stack:
        with faultkit.serve(name, answer=answer, must_be_met=False) as server:
            for _ in range(3):
                plain = stack.enter_context(unconnected(server, timeout=1))
                if state != "a full backlog":
                    plain.connect(server.address)
                    play(plain)
        assert all(record.ended for record in server.connections)


@pytest.mark.usefixtures("nothing_left")
def test_nothing_is_left_of_tls() -> None:
    with faultkit.serve(tls=True, must_be_met=False) as server:
        path = server.ca_file
        assert os.path.exists(path)
        with client(server) as silent, client(server) as plain:
            server.wait_for_connection(2)
            with server.client_context.wrap_socket(plain.sock, server_hostname="localhost") as ours:
                ours.sendall(b"x")
                assert ours.recv(1) == b"x"
            silent.send(b"no")
    assert not os.path.exists(path)


@pytest.mark.usefixtures("nothing_left")
async def test_nothing_is_left_in_the_loop_of_the_test() -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with faultkit.serve(answer=never_ends) as server:
        stream = await trio.open_tcp_stream(*server.address)
        await server.await_connection()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        for _ in range(100):
            await stream.send_all(bytes(100_000))
    await stream.aclose()


def test_a_handler_that_will_not_end_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faultkit.serving.sessions.PATIENCE", 0.1)
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    monkeypatch.setattr("faultkit.serving.entry.SHARED", engine.Thread())
    let_go: list[Callable[[], object]] = []

    async def shielded(conn: Live) -> None:
        released, token = trio.Event(), trio.lowlevel.current_trio_token()
        let_go.append(lambda: token.run_sync_soon(released.set))
        await conn.receive()
        with trio.CancelScope(shield=True):
            await released.wait()

    with pytest.raises(HandlerCrashed) as crashed, faultkit.serve(answer=shielded) as serving, client(serving) as plain:
        plain.send(b"x")
        serving.wait_for_connection()
        while serving.connections[0].received == 0:
            pass
    assert str(crashed.value) == "connection 1: TimeoutError: it did not end within 0.1 s of being cancelled"
    let_go[0]()


SCRIPT = """
import contextlib, socket, sys, faultkit
with faultkit.serve({fault!r}, must_be_met=False) as server, contextlib.ExitStack() as stack:
    print(server.port, flush=True)
    {wait}
"""


@pytest.mark.parametrize(
    "wait",
    [
        "server.wait_for_connection(timeout_seconds=60)",
        "stack.enter_context(socket.create_connection(server.address)).recv(1)",
        "server._engine.wait_for(__import__('trio').sleep_forever)",
    ],
)
def test_ctrl_c_in_the_middle(wait: str) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(fault="stall", wait=wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert running.stdout is not None
    port = int(running.stdout.readline())
    if "create_connection" in wait:
        while not listed(port, "01"):  # ESTABLISHED
            pass
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert errors.count("Traceback") == 1, errors
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


def listed(port: int, state: str) -> bool:
    """Does one end of a connection with that port have that state (tcp_states.h), in this namespace?"""
    with open("/proc/net/tcp") as table:
        return any(f":{port:04X} " in line and line.split()[3] == state for line in table)


# Limits.

NO_DESCRIPTORS = """
import os, resource, socket, faultkit
free = {free}
with faultkit.serve() as server:
    clients = [socket.socket() for _ in range(20)]
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
    for number in spare[:free]:
        os.close(number)
    for client in clients:
        client.settimeout(20)
        client.connect(server.address)
        client.sendall(b"x")
    for client in clients[:free]:
        assert client.recv(1) == b"x"
    while server._crash is None:
        pass
    for client in clients[:free]:
        client.close()  # which makes room, here and there
    for client in clients[free : 2 * free]:
        assert client.recv(1) == b"x"
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for client in clients[2 * free :]:
        assert client.recv(1) == b"x"
    assert len(server.connections) == 20
"""


@pytest.mark.parametrize("free", [0, 3])
def test_where_there_are_no_descriptors_it_accepts_again_as_soon_as_there_are(free: int) -> None:
    script = NO_DESCRIPTORS.format(free=free)
    ended = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert ended.stderr.splitlines()[-1:] == [
        f"faultkit.serving.server.HandlerCrashed: connection {free + 1}: OSError: [Errno 24] Too many open files"
    ], ended.stderr


def test_a_thread_that_cannot_start_says_why() -> None:
    script = """
import os, resource, faultkit
serving = faultkit.serve()
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
free = os.open(os.devnull, os.O_RDONLY)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + {more}, limit[1]))
try:
    with serving:
        print("opened")
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
with faultkit.serve():
    print("and later it can")
"""
    for more in range(5):
        ended = subprocess.run(
            [sys.executable, "-c", script.format(more=more)], cwd=CHECKOUT, capture_output=True, text=True, timeout=20
        )
        assert ended.stdout.splitlines() == ["[Errno 24] Too many open files", "and later it can"], (more, ended)


FORK = """
import os, socket, sys, faultkit
with faultkit.serve() as server, faultkit.serve("linger") as armed:
    child = os.fork()
    if child == 0:
        try:
            server.heal()
        except faultkit.Misuse as error:
            print(error, flush=True)
        with faultkit.serve() as own, socket.create_connection(own.address) as plain:
            plain.sendall(b"own")
            print(plain.recv(3), flush=True)
    else:
        assert os.waitpid(child, 0)[1] == 0
        print(child, flush=True)
        with socket.create_connection(server.address) as plain, socket.create_connection(armed.address) as other:
            plain.sendall(b"ours")
            other.sendall(b"x")
            print(plain.recv(4), flush=True)
"""


def test_a_forked_child_serves_its_own_and_leaves_its_parents_alone() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.stderr == ""
    told, own, child, ours = ended.stdout.splitlines()
    assert told.startswith("the server runs in process ")
    assert told.endswith(", which this one was forked from: use it there")
    assert (own, ours) == ("b'own'", "b'ours'")
    assert child.isdigit()


def crowd(serving: Server, clients: int, play: Callable[[Client], str]) -> Counter[str]:
    """So many at once, and what each was told."""
    told: Counter[str] = Counter()
    begin = threading.Barrier(clients)

    def one() -> None:
        begin.wait()
        with client(serving) as plain:
            told[play(plain)] += 1

    together = [threading.Thread(target=one) for _ in range(clients)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    return told


def send_and_read(plain: Client) -> str:
    plain.send(b"x")
    return plain.recv()


@pytest.mark.parametrize(
    ("name", "told"), [("linger", "ECONNRESET"), ("unread", "ECONNRESET"), ("late-write", "EOF"), (None, "x")]
)
def test_two_hundred_clients_at_once(name: str | None, told: str) -> None:
    with faultkit.serve(name) as serving:
        assert crowd(serving, 200, send_and_read) == {told: 200}
        for record in serving.connections:
            record.wait_for_end()
        assert [record.number for record in serving.connections] == list(range(1, 201))
        assert {record.fired for record in serving.connections} == {name is not None}


def test_a_plan_is_exact_for_two_hundred_clients_at_once() -> None:
    with faultkit.serve(plan=["linger", "ok", "late-write", "ok"] * 50) as serving:
        assert crowd(serving, 200, send_and_read) == {"ECONNRESET": 50, "x": 100, "EOF": 50}


def test_two_hundred_live_connections_are_fired_upon_at_once() -> None:
    with armed("linger") as serving, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(serving)) for _ in range(200)]
        for plain in clients[:100]:
            assert send_and_read(plain) == "x"
        serving.fire()
        assert {plain.recv() for plain in clients} == {"ECONNRESET"}


def test_an_idle_connection_costs_little() -> None:
    """Less than 20 KiB, with a task too; the client's end of it included."""
    script = """
import os, resource, socket, faultkit
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
def kib():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
async def handler(conn):
    await conn.receive()
for answer in ("echo", handler):
    with faultkit.serve(answer=answer) as server:
        clients = []
        for count in (100, 1000):  # the first ones pay for what all share
            before = kib()
            clients += [socket.create_connection(server.address) for _ in range(count)]
            server.wait_for_connection(len(clients))
        if answer == "echo":
            for client in clients:
                client.sendall(b"x")
                client.recv(1)
        print((kib() - before) / 1000)
        for client in clients:
            client.close()
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    for line in ended.stdout.splitlines():
        assert float(line) < 20, ended.stdout


def test_nothing_is_sent_for_minutes_by_an_end_that_was_deaf() -> None:
    in_child(_deaf_end)


def _deaf_end() -> None:
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    with contextlib.ExitStack() as stack:
        with faultkit.serve("black-hole") as serving:
            plain = stack.enter_context(client(serving))
            plain.send(b"x")
            assert plain.waits()
        assert plain.recv() == "EOF"
        while listed(serving.port, "04"):  # FIN-WAIT-1
            pass
        plain.sock.close()
        while listed(serving.port, "09"):  # LAST-ACK
            pass
