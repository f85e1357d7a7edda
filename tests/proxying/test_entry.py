"""`faultkit.proxy` in plain Python, asyncio and Trio: the same words as `faultkit.serve`, and loud when nothing met it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import pytest
import trio

import faultkit
from faultkit import Misuse
from faultkit.proxying.thread import Thread
from tests.proxying.behind import outcome, read_all


@pytest.fixture
def service() -> Iterator[faultkit.Server]:
    with faultkit.serve() as server:
        yield server


@pytest.fixture
def own_thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    """The proxies' thread, held by nobody but this test: the fixtures of another keep theirs, with its pipes, for the session."""
    thread = Thread()
    monkeypatch.setattr("faultkit.proxying.entry.SHARED", thread)
    return thread


def talk(address: tuple[str, int], data: bytes = b"x") -> object:
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(data)
        return outcome(lambda: client.recv(100))


def test_the_first_lines_of_the_page(service: faultkit.Server) -> None:
    with faultkit.proxy(service.address, "linger", after_bytes=1) as proxy:
        assert talk(proxy.address) == "ConnectionResetError"
        assert proxy.connections[0].received == 1
        assert proxy.connections[0].wait_for_fired().fired
    with pytest.raises(Misuse, match="is closed"):
        proxy.fire()


@pytest.mark.parametrize("upstream", ["localhost:{}", "127.0.0.1:{}"])
def test_a_name_is_looked_up(service: faultkit.Server, upstream: str) -> None:
    with faultkit.proxy(upstream.format(service.port)) as proxy:
        assert talk(proxy.address) == b"x"
        assert proxy.upstream == upstream.format(service.port)


def test_a_name_that_is_none_is_a_service_that_is_down() -> None:
    with faultkit.proxy("no-such-host.invalid:80", upstream_down="close") as proxy:
        assert talk(proxy.address) == b""
        assert (proxy.connections[0].wait_for_end().ended or "").startswith("upstream: ")


def test_toxics_are_added_by_what_they_are_called(service: faultkit.Server) -> None:
    with faultkit.proxy(service.address) as proxy:
        proxy.add(faultkit.latency(0.05, jitter_seconds=0.01), towards="client")
        proxy.add(faultkit.bandwidth(1e6), towards="upstream")
        proxy.add("slices:1", towards="client")
        assert talk(proxy.address) == b"x"
        assert [one.name for one in proxy.toxics] == ["bandwidth_upstream", "latency_downstream", "slices:1_downstream"]
        proxy.heal()
        assert proxy.toxics == []


def test_latency_and_rate_are_keywords(service: faultkit.Server) -> None:
    with faultkit.proxy(service.address, latency_seconds=0.05, rate=1500.5) as proxy:
        assert [(one.name, one.stream) for one in proxy.toxics] == [("rate", "both"), ("latency", "downstream")]
        assert proxy.toxic("rate").attributes["rate"] == 1.5005
        assert talk(proxy.address) == b"x"


def test_random_and_its_seed(service: faultkit.Server) -> None:
    def ends(seed: int) -> list[object]:
        with faultkit.proxy(service.address, "linger", random=0.5, seed=seed) as proxy:
            assert proxy.seed == seed
            return [talk(proxy.address) for _ in range(12)]

    assert ends(1) == ends(1) != ends(2)


def test_which_connections(service: faultkit.Server) -> None:
    with faultkit.proxy(service.address, "linger", when="first=BAD") as proxy:
        assert talk(proxy.address, b"GOOD") == b"GOOD"
        assert talk(proxy.address, b"BAD") == "ConnectionResetError"
        with socket.create_connection(proxy.address, timeout=5) as client:
            for byte in b"BA":
                client.sendall(bytes([byte]))
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"BA"


def test_a_fault_that_nobody_met_is_loud(service: faultkit.Server) -> None:
    with (
        pytest.raises(faultkit.FaultNotMet, match=r"^linger on port \d+ was never met: no connection came$"),
        faultkit.proxy(service.address, "linger"),
    ):
        pass
    with (
        pytest.raises(
            faultkit.FaultNotMet, match=r"was to set in after 9 bytes received, and 1 connection came: connect"
        ),
        faultkit.proxy(service.address, "linger", after_bytes=9) as proxy,
    ):
        talk(proxy.address)
    with (
        pytest.raises(faultkit.FaultNotMet, match=r"^latency_downstream on port \d+ was never met: no connection came"),
        faultkit.proxy(service.address) as proxy,
    ):
        proxy.add(faultkit.latency(0.1))
    with faultkit.proxy(service.address, "linger", must_be_met=False):
        pass


def test_one_that_is_met_in_the_kernels_queue_only_is_met(service: faultkit.Server) -> None:
    for _ in range(20):
        with faultkit.proxy(service.address, "linger") as proxy, socket.create_connection(proxy.address) as client:
            client.sendall(b"x")


def test_what_makes_no_sense_is_said(service: faultkit.Server, own_thread: Thread) -> None:
    for keywords, sentence in (
        ({"at": "handshake"}, "is not decrypted"),
        ({"towards": "nobody"}, "it is client, upstream or both"),
        ({"host": "0.0.0.0"}, "is not loopback"),
        ({"upstream_down": "up"}, "it is reset, close, refuse or hang"),
        ({"plan": ["refuse", "ok"], "fault": None}, "connection is there"),
        ({"port": 99999}, "0 to 65535"),
    ):
        with pytest.raises(Misuse, match=sentence), faultkit.proxy(service.address, **{"fault": "linger", **keywords}):  # type: ignore[arg-type]
            pass
    with pytest.raises(Misuse, match="outside the own network: beyond_loopback"), faultkit.proxy("8.8.8.8:53"):
        pass
    for there, sentence in (
        (("localhost",), "upstream="),
        (("a b", 80), "'a b' is no host"),
        ((b"localhost", 80), "upstream="),
        (("localhost", True), "upstream="),
        (("localhost", 0), "localhost:0 names port 0, where nobody listens"),
    ):
        with pytest.raises(Misuse, match=sentence):
            faultkit.proxy(there)  # type: ignore[arg-type]
    for keywords, sentence in (
        ({"seed": "a"}, "seed='a'"),
        ({"rate": 0}, "rate=0 lets nothing pass"),
    ):
        with pytest.raises(Misuse, match=sentence):
            faultkit.proxy("localhost:80", **keywords)
    with pytest.raises(Misuse, match="localhost names no port: write HOST:PORT"), faultkit.proxy("localhost"):
        pass
    with pytest.raises(Misuse, match="is in use"), faultkit.proxy(service.address, port=service.port):
        pass
    assert own_thread._holders == 0


def test_in_asyncio(service: faultkit.Server) -> None:
    async def main() -> bytes:
        async with faultkit.proxy(service.address) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.address)
            writer.write(b"x")
            got = await reader.read(1)
            assert (await proxy.await_connection()).received == 1
            writer.close()
            await writer.wait_closed()
            return got

    assert asyncio.run(main()) == b"x"


async def test_in_trio_it_runs_in_the_same_loop() -> None:
    async with faultkit.serve() as server, faultkit.proxy(server.address, "stall@requests=2") as proxy:
        threads = threading.active_count()
        stream = await trio.open_tcp_stream(*proxy.address)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        await stream.send_all(b"y")
        with trio.move_on_after(0.05) as late:
            await stream.receive_some()
        assert late.cancelled_caught
        proxy.heal()
        assert await stream.receive_some() == b"y"
        assert threading.active_count() == threads
        await stream.aclose()


@pytest.mark.usefixtures("own_thread")
def test_nothing_is_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    with faultkit.serve() as server:
        for _ in range(3):
            with faultkit.proxy(server.address, latency_seconds=0.01) as proxy:
                clients = [socket.create_connection(proxy.address) for _ in range(20)]
                for client in clients:
                    client.sendall(bytes(100_000))
            for client in clients:
                client.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads
