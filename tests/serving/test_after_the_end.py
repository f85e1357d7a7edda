"""A connection that has ended: what still waits in it, what is still done to it, and who has its descriptor's number next."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.lowlevel

import faultkit
from faultkit import HandlerCrashed, Live, Server
from faultkit.serving.engine import SHARED
from faultkit.serving.sessions import Sessions
from tests.serving.client import armed, client

SILENCES: dict[str, Callable[[Live], None]] = {
    "stall": lambda conn: conn.stall(),
    "black_hole": lambda conn: conn.black_hole(),
    "stop_reading": lambda conn: conn.stop_reading(),
}
ENDS: dict[str, tuple[Callable[[Live], None], str]] = {
    "abort": (lambda conn: conn.abort(), "ECONNRESET"),
    "close": (lambda conn: conn.close(), "EOF"),
    "disconnect": (lambda conn: conn.disconnect(), "ECONNRESET"),
}


def innocent(server: Server, times: int = 3) -> None:
    """Others are served, whatever numbers their descriptors have."""
    for _ in range(times):
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("silence", SILENCES)
def test_a_silenced_connection_may_be_ended(silence: str, end: str) -> None:
    silences, (ends, told) = SILENCES[silence], ENDS[end]

    async def handler(conn: Live) -> None:
        await conn.receive()
        silences(conn)
        await trio.lowlevel.checkpoint()
        ends(conn)

    with faultkit.serve() as other:
        for _ in range(3):
            with faultkit.serve(answer=handler) as server, client(server) as plain:
                plain.send(b"go")
                if silence == "black_hole" and end == "close":
                    plain.waits()  # it may have been healed before its FIN, or after
                else:
                    assert plain.recv() == told
                assert server.wait_for_connection().wait_for_end().ended == end
            innocent(other)


@pytest.mark.parametrize("name", ["keepalive-timeout", "retransmit-timeout", "stall", "zero-window"])
def test_a_handler_that_aborts_after_its_fault(name: str) -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()
        server.fire()
        conn.abort()

    with faultkit.serve() as other:
        with armed(name, answer=handler) as server, client(server) as plain:
            plain.send(b"go")
            assert plain.recv() == "ECONNRESET"
        innocent(other)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("verb", ENDS)
def test_what_waits_beside_the_verb_ends_with_the_connection(verb: str, tls: bool) -> None:
    """Shielded or not, in the connection's own task or in another, reading, writing, held by a silence or slowed."""
    ends, _ = ENDS[verb]
    told: list[str] = []

    async def waits(conn: Live, what: Callable[[Live], Awaitable[object]]) -> None:
        with trio.CancelScope(shield=True):
            try:
                while True:
                    await what(conn)
            except trio.ClosedResourceError:
                told.append("closed")

    async def handler(conn: Live) -> None:
        await conn.receive()
        conn.stop_reading()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits, conn, lambda conn: conn.receive())
            nursery.start_soon(waits, conn, lambda conn: conn.send(b"x"))
            nursery.start_soon(waits, conn, lambda conn: conn.answer(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            ends(conn)

    with faultkit.serve(answer=handler, tls=tls) as server, client(server) as plain:
        sock = plain.sock
        if tls:
            sock = server.client_context.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(b"go")
        assert server.wait_for_connection().wait_for_end().ended == verb
        sock.close()
    assert told == ["closed"] * 3


async def test_tasks_of_the_tests_own_may_outlive_the_connection() -> None:
    told: list[str] = []
    given: list[Live] = []

    async def handler(conn: Live) -> None:
        await conn.receive()
        given.append(conn)
        done.set()
        await trio.sleep_forever()

    done = trio.Event()
    calls: list[Callable[[Live], Awaitable[object]]] = [
        lambda conn: conn.receive(),
        lambda conn: conn.send(b"x"),
        lambda conn: conn.answer(b"x"),
        lambda conn: conn.request(),
    ]

    async def uses(conn: Live, what: Callable[[Live], Awaitable[object]]) -> None:
        try:
            while True:
                await what(conn)
                await trio.lowlevel.checkpoint()
        except trio.ClosedResourceError as error:
            told.append(str(error))

    async with faultkit.serve(answer=handler) as server, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream(*server.address)
        await stream.send_all(b"go")
        await done.wait()
        nursery.start_soon(uses, given[0], calls[0])
        await trio.testing.wait_all_tasks_blocked()
        given[0].abort()
        for what in calls[1:]:
            nursery.start_soon(uses, given[0], what)
        await stream.aclose()
    assert len(told) == len(calls)


def test_every_verb_leaves_an_ended_connection_alone() -> None:
    """By then its descriptor's number is another connection's."""

    async def handler(conn: Live) -> None:
        await conn.receive()
        conn.abort()
        for verb in (conn.abort, conn.close, conn.close_held, conn.close_unread, conn.disconnect, conn.finish):
            verb()
        for verb in (conn.half_close, conn.vanish, conn.black_hole, conn.stop_reading, conn.stall, conn.heal):
            verb()
        conn.crash(read=True)
        conn.slow(bytes_per_second=1)
        conn.slices(size=1)
        conn.garbage(b"x", size=1)
        conn.early_response(b"x")
        conn.shorten_fin_wait(seconds=1)

    with faultkit.serve(answer=handler) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "ECONNRESET"
        assert server.wait_for_connection().wait_for_end().ended == "abort"


def test_two_that_are_held_and_one_that_gives_up_hear_of_the_end_all_the_same() -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()
        conn.stall()

        async def gives_up() -> None:
            with trio.move_on_after(0.01):
                await conn.send(b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(gives_up)
            nursery.start_soon(conn.send, b"y")

    with faultkit.serve(answer=handler) as server:
        with client(server) as plain:
            plain.send(b"go")
            record = server.wait_for_connection()
            assert plain.waits()
        assert record.wait_for_end().ended == "peer closed"


def test_an_error_of_one_connection_is_told_of_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(conn: Live) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Live, "_left_alone", breaks)
    with faultkit.serve() as other:
        with pytest.raises(HandlerCrashed, match="connection 1: ZeroDivisionError"), faultkit.serve("stall") as server:
            with client(server) as plain:
                plain.send(b"go")
                record = server.wait_for_connection().wait_for_fired()
            assert record.wait_for_end().ended == "failed"
        innocent(other)


def test_what_goes_wrong_as_one_is_accepted_is_that_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    begins = Sessions._begin

    def breaks(sessions: Sessions, live: Live) -> None:
        if live.record.number == 1:
            raise OSError(errno.ENOSPC, "epoll has no more")
        begins(sessions, live)

    monkeypatch.setattr(Sessions, "_begin", breaks)
    with pytest.raises(HandlerCrashed, match="connection 1: OSError"), faultkit.serve() as server:
        with client(server) as plain:
            assert plain.recv() == "EOF"
        innocent(server)


def test_a_descriptor_that_the_handler_closed_is_nobody_elses() -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()
        conn.stall()

        async def takes_it_away() -> None:
            await trio.testing.wait_all_tasks_blocked()
            conn.sock.close()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(takes_it_away)
            await conn.send(b"held")

    with faultkit.serve() as other:
        for _ in range(3):
            with (
                pytest.raises(HandlerCrashed, match=r"Misuse: the handler closed conn\.sock by itself"),
                faultkit.serve(answer=handler) as server,
                client(server) as plain,
            ):
                plain.send(b"go")
                assert plain.recv() == "EOF"
                innocent(other)
                assert server.connections[0].wait_for_end(timeout_seconds=20).ended == "failed"


def test_the_engine_watches_nothing_when_all_is_closed() -> None:
    held = SHARED.hold()
    try:
        for name in ("stall", "black-hole", "linger", "half-close", "slow", "load-balancer-idle"):
            with armed(name) as server, client(server) as plain, socket.create_connection(server.address):
                plain.send(b"x")
                plain.recv()
                server.fire()
        assert held._watches == {}
    finally:
        SHARED.release()


CLOSED_BY_ITSELF: dict[str, dict[str, Any]] = {
    "fire": {"fault": "linger", "at": "fire"},
    "fire, of what is to be unread": {"fault": "unread", "at": "fire"},
    "heal and fire": {"fault": "linger", "at": "fire"},
    "idle": {"fault": "linger", "after_idle_seconds": 0.05},
}


@pytest.mark.parametrize("what", CLOSED_BY_ITSELF)
def test_a_socket_that_the_handler_closed_does_not_keep_a_fault_from_the_others(what: str) -> None:
    async def handler(conn: Live) -> None:
        if conn.record.number == 1:
            conn.sock.close()
        else:
            await conn.answer(b"x")
        await trio.sleep_forever()

    keywords = CLOSED_BY_ITSELF[what]
    with (
        faultkit.serve() as beside,
        pytest.raises(HandlerCrashed, match=r"^connection 1: OSError: \[Errno 9\] Bad file descriptor$"),
        faultkit.serve(**keywords, answer=handler) as server,
        client(server) as broken,
        client(server) as plain,
    ):
        assert broken.recv() == "EOF"
        assert plain.recv() == "x"
        plain.send(b"unread")
        if "heal" in what:
            server.heal()
        if "fire" in what:
            server.fire()
        assert plain.recv() == "ECONNRESET"
        assert server.connections[0].wait_for_end().ended == "failed"
        innocent(beside)


@pytest.mark.parametrize("verb", ["finish", "half_close", "garbage"])
def test_a_handler_that_takes_its_leave_after_the_end_of_the_server_has_ended(verb: str) -> None:
    """It is cancelled, and in what it shields from that it goes on to read until its client closes, which does not."""

    async def handler(conn: Live) -> None:
        await conn.receive()
        with trio.CancelScope(shield=True):
            begun.set()
            while not conn._stopped:
                await trio.lowlevel.checkpoint()
            conn.garbage(b"x", size=10) if verb == "garbage" else getattr(conn, verb)()

    begun = threading.Event()
    with faultkit.serve(answer=handler) as server, socket.create_connection(server.address, 20) as plain:
        plain.sendall(b"x")
        assert begun.wait(20)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 4
        assert server.connections[0].ended == "server closed"


def test_one_task_is_told_of_the_reset_and_another_that_all_has_ended() -> None:
    async def handler(conn: Live) -> None:
        await conn.receive()

        async def reads_and_ends() -> None:
            try:
                await conn.receive()
            finally:
                conn.abort()

        async def waits() -> None:
            with trio.CancelScope(shield=True):
                await released.wait()
                await conn.receive()

        released = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads_and_ends)
            nursery.start_soon(waits)
            try:
                await trio.sleep_forever()
            finally:
                released.set()

    with faultkit.serve(answer=handler) as server:
        with client(server) as plain:
            plain.send(b"x")
            faultkit.abort(plain.sock)
        assert server.wait_for_connection().wait_for_end().ended == "abort"
