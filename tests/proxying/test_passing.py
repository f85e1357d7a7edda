"""Without anything on it: every byte, every end, either way."""

from __future__ import annotations

import hashlib
import random
import socket
import threading

import pytest

from tests.proxying.behind import abort, between, outcome, read_all


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 20_000_000])
def test_every_byte_comes_in_order_either_way(size: int) -> None:
    data = random.Random(size).randbytes(size)
    with between() as them:
        for turn in range(2):
            source, drain = them.connect()[:: -1 if turn else 1]
            with source, drain:

                def send(source: socket.socket = source) -> None:
                    source.sendall(data)
                    source.shutdown(socket.SHUT_WR)

                thread = threading.Thread(target=send)
                thread.start()
                assert hashlib.sha256(read_all(drain)).digest() == hashlib.sha256(data).digest()
                thread.join()
        assert {sum(counts) for counts in them.proxy.passed.values()} == {2 * size}


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_half_close_leaves_the_other_direction_open(who: str) -> None:
    with between() as them:
        first, second = them.connect()[:: -1 if who == "upstream" else 1]
        with first, second:
            first.sendall(b"asked")
            first.shutdown(socket.SHUT_WR)
            assert read_all(second) == b"asked"
            assert them.proxy.connections[0].state == f"{who} closed"
            second.sendall(b"answered" * 1000)
            second.close()
            assert read_all(first) == b"answered" * 1000
        assert them.proxy.connections[0].wait_for_end().ended == "closed"


@pytest.mark.parametrize("who", ["client", "upstream"])
@pytest.mark.parametrize("before", [0, 1000, 100_000])
def test_a_reset_is_a_reset_after_what_came_before_it(who: str, before: int) -> None:
    with between() as them:
        first, second = them.connect()[:: -1 if who == "upstream" else 1]
        with second:
            first.sendall(bytes(before))
            found = b""
            while len(found) < before:
                found += second.recv(65536)
            abort(first)
            assert outcome(lambda: second.recv(1)) == "ConnectionResetError"
        assert them.proxy.connections[0].wait_for_end().ended == f"lost: ECONNRESET from the {who}"


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_close_over_unread_data_is_a_reset(who: str) -> None:
    with between() as them:
        first, second = them.connect()[:: -1 if who == "upstream" else 1]
        with second:
            second.sendall(b"never read")
            assert first.recv(1, socket.MSG_PEEK) == b"n"
            first.close()
            assert outcome(lambda: second.recv(1)) == "ConnectionResetError"


def test_nothing_is_kept_of_a_connection_that_is_over() -> None:
    with between(keep=False) as them:
        client, server = them.connect()
        pair = them.proxy.live[0]
        client.close()
        server.close()
        pair.wait_for_end()
        assert them.proxy.connections == []
        assert them.proxy.loop._watched.keys() == {them.proxy.loop._wake, them.proxy.door.door.sock.fileno()}  # type: ignore[union-attr]
