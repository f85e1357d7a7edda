"""What one connection, handler or thread does must not reach the others: the same loop serves them all."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Http, Live, Misuse
from faultkit.serving import engine
from faultkit.serving.engine import Thread
from tests.serving.client import armed, client

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("name", ["linger", "disconnect", "black-hole"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_fire_upon_a_connection_whose_bytes_have_just_come_is_no_crash(name: str, tls: bool) -> None:
    """Its task has been woken to read them, and finds that the fault has closed the socket."""
    for _ in range(20 if tls else 100):
        with armed(name, answer="http", tls=tls) as server, contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.create_connection(server.address, 20))
            if tls:
                sock = stack.enter_context(server.client_context.wrap_socket(sock, server_hostname="localhost"))
            sock.sendall(GET)
            sock.recv(1000)
            sock.sendall(GET)
            server.fire()


async def babbles(conn: Live) -> None:
    await conn.receive()
    while True:
        await conn.send(b"x" * 1000)


@pytest.mark.parametrize("much", ["slices", "babbles"])
def test_one_that_always_has_something_to_say_does_not_keep_the_others_waiting(much: str) -> None:
    told = threading.Event()
    serving = faultkit.serve("slices", answer=Http(b"x" * 8_000_000)) if much == "slices" else None
    with serving or faultkit.serve(answer=babbles) as server, faultkit.serve() as other, client(server) as plain:

        def reads() -> None:
            plain.send(GET)
            while plain.sock.recv(1 << 16) and not told.is_set():
                pass

        reading = threading.Thread(target=reads)
        reading.start()
        began = time.monotonic()
        with client(other) as beside:
            for _ in range(20):
                beside.send(b"a")
                assert beside.recv() == "a"
        assert time.monotonic() - began < 5  # it took as long as the client read
        server.heal()
        told.set()
        reading.join()


def test_slow_in_the_middle_of_an_answer_ends_with_heal() -> None:
    """What was sent before it was slow is not waited for: megabytes, at a thousand bytes a second."""
    size = 20_000_000
    with armed("slow:1000", answer=Http(b"x" * size)) as server, client(server) as plain:
        plain.send(GET)
        assert plain.sock.recv(1000)
        server.fire()
        server.heal()
        left = size - 1000
        while left > 0:
            left -= len(plain.sock.recv(1 << 20))


async def closes_by_itself(conn: Live) -> None:
    await conn.receive()
    faultkit.abort(conn.sock)


def test_a_handler_that_closes_its_socket_by_itself_is_told_of_and_harms_nobody_else() -> None:
    with faultkit.serve() as other:
        with (
            pytest.raises(HandlerCrashed, match=r"Misuse: the handler closed conn\.sock"),
            faultkit.serve(answer=closes_by_itself) as server,
            client(server) as plain,
        ):
            plain.send(b"x")
            assert plain.recv() == "ECONNRESET"
            server.connections[0].wait_for_end()
            plain.sock.close()
            with client(server) as again:
                again.send(b"x")
                assert again.recv() == "ECONNRESET"
        with client(other) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        (lambda conn: conn.slices(size=0), "slices: segments of 0 bytes carry nothing: take 1 or more"),
        (
            lambda conn: conn.slow(bytes_per_second=-1),
            "slow: -1 bytes per second would never end: take more than 0, or stall()",
        ),
        (lambda conn: conn.garbage(b"", size=5), "garbage: 0 bytes, 5 in all: take 1 or more of both"),
    ],
)
def test_a_verb_that_cannot_mean_anything_is_one_sentence(verb: object, sentence: str) -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()
        assert callable(verb)
        verb(conn)

    with pytest.raises(HandlerCrashed) as crashed, faultkit.serve(answer=handler) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "EOF"
    assert str(crashed.value) == f"connection 1: Misuse: {sentence}"


def test_long_garbage() -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()
        conn.garbage(b"z" * 70_000, size=5)

    with faultkit.serve(answer=handler) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv_whole(5) == "zzzzz"


@pytest.fixture
def thread() -> Iterator[Thread]:
    yield Thread()


def test_a_thread_that_a_handler_blocks_is_left_behind_for_another(
    thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.05)
    ends = threading.Event()
    held = thread.hold()
    blocked = thread._thread
    assert blocked
    with pytest.raises(TimeoutError, match="a handler blocks it"):
        held.call(lambda: ends.wait(20))
    another = thread.hold()
    assert another is not held
    monkeypatch.setattr(engine, "PATIENCE", 20.0)
    assert another.call(lambda: "answers") == "answers"
    thread.release()
    thread.release()
    ends.set()
    blocked.join(20)
    assert not blocked.is_alive()


def test_fire_and_heal_while_another_thread_ends_the_server_say_that_it_is_closed() -> None:
    said = set()
    for _ in range(100):
        with faultkit.serve("linger", at="fire", must_be_met=False) as server:

            def disturbs(server: faultkit.Server = server) -> None:
                try:
                    while True:
                        server.heal()
                        server.fire()
                except Exception as refused:
                    said.add(str(refused).partition(":")[0])

            threads = [threading.Thread(target=disturbs) for _ in range(2)]
            for one in threads:
                one.start()
        for one in threads:
            one.join(20)
    assert said == {"the server is closed"}


@pytest.mark.parametrize("tls", [False, True])
def test_an_ended_server_is_checked_as_often_as_one_likes(tls: bool) -> None:
    with faultkit.serve("ok", tls=tls) as healthy:
        pass
    with faultkit.serve("linger", tls=tls, must_be_met=False) as server:

        def check(server: faultkit.Server = server) -> None:
            for _ in range(20):
                server.check()

        checks = threading.Thread(target=check)
        checks.start()
    for one in (healthy, server):
        one.check()
    checks.join(20)
    assert not checks.is_alive()


def test_a_fault_that_was_healed_before_anybody_came_was_not_met() -> None:
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve("linger") as server:
        server.heal()
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"
    assert str(unmet.value) == f"linger on port {server.port} was never met: it was healed before 1 connection came"


def test_where_there_is_no_body_nothing_is_cut_short() -> None:
    with pytest.raises(FaultNotMet), faultkit.serve("truncate", answer=Http(b"")) as server, client(server) as plain:
        plain.send(GET)
        assert plain.recv().startswith("HTTP/1.1 200")
        assert not server.connections[0].fired


def test_waiting_for_a_fault_of_a_connection_that_has_ended_without() -> None:
    with faultkit.serve("linger", after_bytes=5, must_be_met=False) as server:
        with client(server):
            pass
        record = server.wait_for_connection().wait_for_end()
        with pytest.raises(Misuse) as refused:
            record.wait_for_fired()
        assert str(refused.value) == "connection 1 has ended (peer closed), and has not met its fault"


def test_a_client_that_takes_it_for_a_proxy_is_refused() -> None:
    with faultkit.serve(answer="http") as server, socket.create_connection(server.address, 5) as plain:
        plain.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
        assert plain.recv(1000).startswith(b"HTTP/1.1 405 ")
