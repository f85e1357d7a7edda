"""The loop with Trio as its guest: what ends it, and that nothing is left."""

from __future__ import annotations

import os
import select
import socket

import pytest
import trio

import faultkit
from faultkit.proxying.loop import Loop
from faultkit.proxying.proxy import Proxy


class Pipe:
    """One that is watched, and what came out of it."""

    def __init__(self, loop: Loop) -> None:
        self.read, self.write = os.pipe()
        self.came = b""
        self.event = trio.Event()
        loop.watch(self.read, self, select.EPOLLIN)

    def ready(self, _events: int, /) -> None:
        self.came += os.read(self.read, 100)
        self.event.set()  # Trio is told from outside of its own rounds

    def failed(self, error: Exception, /) -> None:
        raise error


def test_both_go_on() -> None:
    loop = Loop()
    pipe = Pipe(loop)

    async def main(word: bytes) -> bytes:
        await trio.to_thread.run_sync(os.write, pipe.write, word)
        await pipe.event.wait()
        await trio.sleep(0.001)
        return pipe.came

    assert loop.run_with(main, b"hello") == b"hello"
    assert loop.closed
    os.close(pipe.read)
    os.close(pipe.write)


class Rounds(trio.abc.Instrument):
    """How often Trio has looked at its own descriptors."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


def test_what_is_passed_on_costs_no_round_of_trio() -> None:
    loop, rounds = Loop(), Rounds()

    def ask(address: tuple[str, int]) -> None:
        with socket.create_connection(address, timeout=5) as client:
            for _ in range(200):
                client.sendall(b"x")
                assert client.recv(1) == b"x"

    async def main(service: tuple[str, int]) -> tuple[int, int]:
        proxy = Proxy(loop, "127.0.0.1:0", service)
        proxy.start()
        trio.lowlevel.add_instrument(rounds)
        await trio.to_thread.run_sync(ask, proxy.address)
        proxy.close()
        return rounds.count, proxy.connections[0].received

    with faultkit.serve() as service:
        told, passed = loop.run_with(main, service.address)
    assert passed == 200
    assert told < 20


def test_what_breaks_in_the_loop_ends_the_guest_in_order() -> None:
    loop, ended = Loop(), []

    async def main() -> None:
        loop.at(loop.now(), lambda: os.close(-1))
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.run_with(main)
    assert ended
    assert loop.closed


def test_what_breaks_in_the_guest_comes_out() -> None:
    async def main() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    loop = Loop()
    with pytest.raises(ZeroDivisionError):
        loop.run_with(main)
    assert loop.closed


def test_descriptors_are_given_back() -> None:
    before = os.listdir("/proc/self/fd")
    Loop().run_with(trio.sleep, 0)
    assert os.listdir("/proc/self/fd") == before
