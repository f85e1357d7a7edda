"""What a connection's record says, and how a handler's crash is told."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import faultkit
from faultkit import HandlerCrashed, Live, Misuse
from tests.serving.client import Client, client

REQUEST = b"0123456789"


def test_a_client_that_looks_as_soon_as_it_is_told_sees_it_all() -> None:
    with faultkit.serve() as server, client(server) as plain:
        for times in range(1, 500):
            plain.send(REQUEST)
            plain.recv_whole(len(REQUEST))
            record = server.connections[0]
            assert (record.received, record.requests, record.answers, record.sent) == (
                10 * times,
                times,
                times,
                10 * times,
            )


def test_a_client_that_looks_as_soon_as_it_is_reset_sees_it_all() -> None:
    with faultkit.serve("linger") as server:
        for number in range(300):
            with client(server) as plain:
                plain.send(b"x")
                assert plain.recv() == "ECONNRESET"
                record = server.connections[number]
                assert record.fired
                assert record.ended == "abort"
                assert record.fired_after_seconds is not None
                assert record.seconds is not None
                assert record.fired_after_seconds <= record.seconds


def test_a_record_reads_well() -> None:
    with faultkit.serve("linger", after_bytes=3) as server, client(server) as plain:
        record = server.wait_for_connection()
        assert repr(record) == (
            f"<connection 1 from 127.0.0.1:{plain.sock.getsockname()[1]}: linger, 0 bytes in, 0 out, open>"
        )
        plain.send(b"xxx")
        assert plain.recv() == "ECONNRESET"
        assert repr(record.wait_for_end()).endswith(" s, abort>")
        document = record.document()
        assert list(document) == [
            "number",
            "peer",
            "fault",
            "received",
            "sent",
            "requests",
            "answers",
            "fired_after_seconds",
            "ended",
            "seconds",
        ]
        assert (document["number"], document["fault"], document["received"], document["ended"]) == (
            1,
            "linger",
            3,
            "abort",
        )


async def crashes(conn: Live) -> None:
    await conn.receive()
    raise KeyError("no such thing")


async def exits(conn: Live) -> None:
    await conn.receive()
    sys.exit(3)


async def fails(conn: Live) -> None:
    await conn.receive()
    pytest.fail("this is not the request that was wanted")


async def misuses(conn: Live) -> None:
    await conn.receive()
    conn.close_unread()


async def groups(conn: Live) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crashes, conn)


async def no_descriptor(conn: Live) -> None:
    await conn.receive()
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (crashes, "connection 1: KeyError: 'no such thing'"),
        (exits, "connection 1: SystemExit: 3"),
        (fails, "connection 1: Failed: this is not the request that was wanted"),
        (
            misuses,
            "connection 1: Misuse: close_unread: nothing has arrived that is unread, so close() would send FIN: "
            "wait until it is readable",
        ),
        (groups, "connection 1: ExceptionGroup: Exceptions from Trio nursery (1 sub-exception)"),
        (no_descriptor, "connection 1: OSError: [Errno 24] Too many open files"),
    ],
)
def test_a_crash_is_told_and_the_server_goes_on(handler: Any, sentence: str) -> None:
    def hears(plain: Client) -> None:
        plain.send(b"x")
        assert plain.recv() in ("EOF", "ECONNRESET")

    with pytest.raises(HandlerCrashed) as crashed, faultkit.serve(answer=handler) as server:
        for _ in range(2):
            with client(server) as plain:
                hears(plain)
        assert [record.wait_for_end().ended for record in server.connections] == ["failed", "failed"]
        with faultkit.serve() as other, client(other) as plain:
            plain.send(b"alive")
            assert plain.recv() == "alive"
    assert str(crashed.value) == sentence
    assert crashed.value.__cause__ is not None


def test_a_request_that_was_read_with_the_one_before_it_cannot_be_left_unread() -> None:
    with (
        pytest.raises(HandlerCrashed) as crashed,
        faultkit.serve("keepalive-race:unsent", answer="http") as server,
        client(server) as plain,
    ):
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        plain.recv()
        server.wait_for_connection().wait_for_end()
    assert str(crashed.value) == (
        "connection 1: Misuse: keepalive-race:unsent: request 2 came with the one before it, and was read with it: "
        "nothing is left to leave unread; let the client wait for each answer"
    )


def test_an_answer_that_is_too_short_to_hold_a_fin_back() -> None:
    with (
        pytest.raises(HandlerCrashed) as crashed,
        faultkit.serve("keepalive-race:in-flight") as server,
        client(server) as plain,
    ):
        plain.send(b"short")
        server.wait_for_connection().wait_for_end()
    assert str(crashed.value) == (
        "connection 1: Misuse: keepalive-race:in-flight: an answer of 5 bytes is too short to hold a FIN back: take 20 or more"
    )


@pytest.fixture(params=["unread", "keepalive-race:unsent", "early-response", "crash:unread"])
def unread_fault(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_a_client_that_goes_without_a_word_has_met_nothing(unread_fault: str) -> None:
    """An EOF is readable too, but no byte."""
    with pytest.raises(faultkit.FaultNotMet), faultkit.serve(unread_fault) as server:
        with client(server):
            server.wait_for_connection()
        assert server.connections[0].wait_for_end().ended == "peer closed"


def test_a_client_that_goes_after_one_request_has_not_met_the_second() -> None:
    with pytest.raises(faultkit.FaultNotMet), faultkit.serve("keepalive-race:unsent") as server:
        with client(server) as plain:
            plain.send(REQUEST)
            assert plain.recv() == REQUEST.decode()
        assert server.connections[0].wait_for_end().ended == "peer closed"


def test_waiting_for_what_the_handler_never_does() -> None:
    with faultkit.serve() as server, client(server):
        record = server.wait_for_connection()
        with pytest.raises(TimeoutError) as waited:
            record.wait_for_end(timeout_seconds=0.05)
        assert str(waited.value) == "connection 1 goes on after 0.05 s"


async def test_a_wait_that_would_block_the_loop_is_refused() -> None:
    async with faultkit.serve() as server:
        stream = await trio.open_tcp_stream(*server.address)
        record = await server.await_connection()
        with pytest.raises(Misuse) as refused:
            record.wait_for_end()
        await stream.aclose()
        assert (await record.await_end()).ended == "peer closed"
    assert str(refused.value) == (
        "this would block the trio loop, in which the client may have to run: await the await_... method instead"
    )
