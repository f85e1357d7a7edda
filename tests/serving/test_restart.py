"""`server.restart(down_seconds=...)`: who is there is reset, who comes is refused, and then all is as before."""

from __future__ import annotations

import threading
import time

import pytest
import trio

import faultkit
from faultkit import Misuse
from tests.serving.client import armed, client, unconnected


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_again_and_again(ipv6: bool) -> None:
    with faultkit.serve(ipv6=ipv6) as server:
        for _ in range(3):
            with client(server) as idle, client(server) as busy:
                busy.send(b"x")
                assert busy.recv() == "x"
                began = time.monotonic()
                server.restart(down_seconds=0.3)
                assert [idle.recv(), busy.recv()] == ["ECONNRESET", "ECONNRESET"]
            told = []
            while "ok" not in told:
                with unconnected(server) as plain:
                    told.append(plain.connect(server.address))
                    if told[-1] == "ok":
                        plain.send(b"y")
                        assert plain.recv() == "y"
            assert set(told) == {"ECONNREFUSED", "ok"}
            assert time.monotonic() - began > 0.29
        assert [record.wait_for_end().ended for record in server.connections] == ["abort", "abort", "peer closed"] * 3
        assert server.turned_away


def test_at_once() -> None:
    with faultkit.serve() as server:
        for _ in range(20):
            with client(server) as plain:
                server.restart()
                assert plain.recv() == "ECONNRESET"
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"


def test_heal_brings_it_up_and_the_time_that_was_left_changes_nothing() -> None:
    with faultkit.serve() as server:
        server.restart(down_seconds=0.1)
        server.heal()
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"
            assert plain.waits(0.2)
        server.restart(down_seconds=0.1)
        server.restart(down_seconds=60)  # the last one decides
        time.sleep(0.2)
        with unconnected(server) as plain:
            assert plain.connect(server.address) == "ECONNREFUSED"
        server.restart()
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"


def test_the_end_does_not_wait_for_it() -> None:
    def threads() -> int:
        return [thread.name for thread in threading.enumerate()].count("faultkit")

    began, before = time.monotonic(), threads()  # a fixture of the session may hold one
    with faultkit.serve() as server:
        server.restart(down_seconds=60)
    assert time.monotonic() - began < 5
    assert threads() == before


def test_the_plan_goes_on_after_it() -> None:
    with faultkit.serve(plan=["ok", "linger", "ok"]) as server:
        with client(server) as plain:
            server.restart()
            assert plain.recv() == "ECONNRESET"
        for told in ("ECONNRESET", "x"):
            with client(server) as plain:
                plain.send(b"x")
                assert plain.recv() == told


async def test_in_the_loop_of_the_server() -> None:
    async with faultkit.serve() as server:
        stream = await trio.open_tcp_stream(*server.address)
        server.restart(down_seconds=0.1)
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(*server.address)


def test_what_cannot_mean_anything() -> None:
    with faultkit.serve() as server, pytest.raises(Misuse, match=r"^restart\(down_seconds=-1\): it is 0 or more$"):
        server.restart(down_seconds=-1)
    with armed("refuse", must_be_met=False) as server, pytest.raises(Misuse) as refused:
        server.restart()
    assert str(refused.value) == "restart(): refuse keeps clients out by itself: fire() and heal() do that"
