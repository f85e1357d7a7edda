"""What each toxic does to the bytes, measured from both ends, and what it does on live connections."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

import faultkit
from faultkit.errors import Misuse
from faultkit.proxying.toxics import TYPES, made
from tests.proxying.behind import Between, between, outcome, read_all

LATE = (
    1.0  # seconds by which a busy machine may be late; how exact they are is in test_stages.py and benchmarks/proxy.py
)


def took(them: socket.socket, size: int, until: float | None = None) -> float:
    """Seconds until so many bytes are there."""
    began = time.monotonic() if until is None else until
    got = 0
    while got < size:
        got += len(them.recv(65536))
    return time.monotonic() - began


def test_latency_of_two_adds_up_and_leaves_the_other_direction_alone() -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            them.proxy.add(made("latency", attributes={"latency": 50}))
            them.proxy.add(made("latency", name="other", attributes={"latency": 30}))
            server.sendall(b"x")
            assert 0.080 <= took(client, 1) < LATE
            client.sendall(b"y")
            assert took(server, 1) < 0.08  # the other direction is free


def test_what_ends_a_direction_comes_with_the_last_byte() -> None:
    with between() as them:
        them.proxy.add(made("latency", attributes={"latency": 50}))
        client, server = them.connect()
        with client:
            server.sendall(b"x")
            server.close()
            assert read_all(client) == b"x"


@pytest.mark.parametrize(
    ("rate", "size", "seconds"), [(100, 20_000, 0.2), (1000, 480_000, 0.48), (10_000, 2_000_000, 0.2)]
)
def test_bandwidth(rate: int, size: int, seconds: float) -> None:
    with between() as them:
        them.proxy.add(made("bandwidth", attributes={"rate": rate}))
        client, server = them.connect()
        with client, server:
            began = time.monotonic()
            thread = threading.Thread(target=server.sendall, args=(bytes(size),))
            thread.start()
            assert seconds * 0.98 <= took(client, size, began) < seconds + LATE
            thread.join()


def test_bandwidth_that_is_shared_is_one_line_for_all() -> None:
    with between() as them:
        them.proxy.add(made("bandwidth", attributes={"rate": 500, "shared": 1}))
        pairs = [them.connect() for _ in range(2)]
        began = time.monotonic()
        for _, server in pairs:
            server.sendall(bytes(50_000))
        for client, server in pairs:
            took(client, 50_000)
            client.close()
            server.close()
        assert 0.19 <= time.monotonic() - began < LATE


def test_no_bandwidth_lets_nothing_pass_until_it_is_taken_away() -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            them.proxy.add(made("bandwidth", name="none"))
            server.sendall(b"late")
            client.settimeout(0.05)
            assert outcome(lambda: client.recv(1)) == "TimeoutError"
            them.proxy.remove("none")
            assert client.recv(10) == b"late"


def test_slow_close_holds_the_end_alone() -> None:
    with between() as them:
        them.proxy.add(made("slow_close", attributes={"delay": 80}))
        client, server = them.connect()
        with client:
            server.sendall(b"x")
            server.close()
            assert client.recv(10) == b"x"
            began = time.monotonic()
            assert client.recv(10) == b""
            assert 0.06 < time.monotonic() - began < LATE


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_timeout_swallows_and_closes_both_ends_by_its_own_clock(stream: str) -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            began = time.monotonic()
            them.proxy.add(made("timeout", stream=stream, attributes={"timeout": 80}))
            source, drain = (client, server) if stream == "upstream" else (server, client)
            source.sendall(b"swallowed")
            assert read_all(drain) == b"" == read_all(source)
            assert 0.075 < time.monotonic() - began < LATE


def test_timeout_that_is_taken_away_closes() -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            them.proxy.add(made("timeout", name="t"))
            server.sendall(b"swallowed")
            them.proxy.remove("t")
            assert read_all(client) == b"" == read_all(server)


@pytest.mark.parametrize("before", [True, False])
def test_reset_peer_resets_both_ends_without_waiting_for_data(before: bool) -> None:
    with between() as them:
        toxic = made("reset_peer", attributes={"timeout": 30})
        if before:
            them.proxy.add(toxic)
        client, server = them.connect()
        if not before:
            them.proxy.add(toxic)
        with client, server:
            assert outcome(lambda: client.recv(1)) == "ConnectionResetError"
            assert outcome(lambda: server.recv(1)) == "ConnectionResetError"


def test_reset_peer_of_no_connection_leaves_the_end_of_others_as_it_is() -> None:
    with between() as them:
        them.proxy.add(made("reset_peer", toxicity=0.0))
        client, server = them.connect()
        with server:
            client.sendall(bytes(1_000_000))
            client.close()
            assert len(read_all(server)) == 1_000_000


def test_slicer_cuts_to_the_average_and_waits_after_each_piece() -> None:
    with between(seed=3) as them:
        them.proxy.add(made("slicer", attributes={"average_size": 100, "size_variation": 50, "delay": 2000}))
        client, server = them.connect()
        with client, server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.sendall(bytes(2000))
            found: list[int] = []
            while sum(found) < 2000:
                found.append(len(client.recv(65536)))
            assert all(size >= 50 for size in found[:-1])  # a client that is late finds several at once
            # tcpi_data_segs_in: its kernel counts them as they come.
            (pieces,) = struct.unpack_from("=I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)
            assert max(14, len(found)) <= pieces <= 40


@pytest.mark.parametrize("limit", [0, 1000, 100_000])
def test_limit_data_passes_exactly_so_many(limit: int) -> None:
    with between() as them:
        them.proxy.add(made("limit_data", attributes={"bytes": limit}))
        client, server = them.connect()
        with client, server:
            thread = threading.Thread(target=lambda: outcome(lambda: server.sendall(bytes(200_000))))
            thread.start()
            assert len(read_all(client)) == limit
            thread.join()


def test_packet_loss_loses_what_was_read_at_once() -> None:
    with between(seed=1) as them:
        them.proxy.add(made("packet_loss", attributes={"loss_rate": 0.5}))
        client, server = them.connect()
        with client:
            for number in range(50):
                server.sendall(bytes([number]))
                them.proxy.passed  # noqa: B018  # a turn of the loop: each byte is read by itself
            server.close()
            came = read_all(client)
        assert 10 < len(came) < 40
        assert list(came) == sorted(came)


# On live connections.


def test_toxicity_is_drawn_once_and_again_for_the_same_seed() -> None:
    def lots(seed: int, *, others: bool) -> list[bool]:
        with between(seed=seed) as them:
            them.proxy.add(made("timeout", name="half", toxicity=0.5))
            pairs = [them.connect() for _ in range(12)]
            if others:
                them.proxy.add(made("noop"))
                them.proxy.add(made("latency"))
                them.proxy.remove("noop_downstream")
            found = []
            for number, (client, server) in enumerate(pairs):
                server.sendall(b"x")
                side = them.proxy.connections[number].upstream
                found.append(bool(side.chain and side.chain.has("half")))
                client.close()
                server.close()
            return found

    assert lots(5, others=False) == lots(5, others=True)
    assert lots(5, others=False) != lots(6, others=False)
    assert 2 < sum(lots(5, others=False)) < 10


def test_what_is_held_goes_out_at_once_when_its_toxic_goes() -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            them.proxy.add(made("latency", name="slow", attributes={"latency": 30_000}))
            them.proxy.add(made("bandwidth", name="thin", attributes={"rate": 1}))
            server.sendall(b"a" * 30_000)
            them.proxy.remove("slow")
            them.proxy.remove("thin")
            assert took(client, 30_000) < LATE


def test_an_update_is_for_what_is_held_too() -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            them.proxy.add(made("latency", name="slow", attributes={"latency": 30_000}))
            server.sendall(b"x")
            began = time.monotonic()
            them.proxy.update("slow", {"latency": 60})
            assert 0.05 < took(client, 1, began) < LATE


def test_control_does_not_wait_for_a_reader_that_has_stopped() -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            them.proxy.add(made("latency", name="slow", attributes={"latency": 10}))
            server.settimeout(0.3)
            sent = 0
            while isinstance(size := outcome(lambda: server.send(bytes(1 << 20))), int):
                sent += size
            began = time.monotonic()
            them.proxy.remove("slow")
            them.proxy.add(made("noop"))
            assert them.proxy.connections[0].upstream.chain is None
            assert time.monotonic() - began < LATE
            server.shutdown(socket.SHUT_WR)
            assert len(read_all(client)) == sent
            held = them.proxy.passed["downstream"]
            assert held.received == held.sent == sent


def test_a_thousand_changes_under_traffic_lose_no_byte() -> None:
    kinds = [
        made("latency", name="t", attributes={"latency": 1, "jitter": 1}),
        made("bandwidth", name="t", attributes={"rate": 50_000}),
        made("slicer", name="t", attributes={"average_size": 5000, "size_variation": 100}),
        made("slow_close", name="t", attributes={"delay": 1}),
        made("noop", name="t"),
    ]
    with between() as them:
        client, server = them.connect()
        stop = threading.Event()
        sent = bytearray()

        def send() -> None:
            number = 0
            while not stop.is_set():
                piece = number.to_bytes(4, "big") * 1000
                server.sendall(piece)
                sent.extend(piece)
                number += 1
            server.shutdown(socket.SHUT_WR)

        got = bytearray()

        def receive() -> None:
            while data := client.recv(65536):
                got.extend(data)

        threads = [threading.Thread(target=send), threading.Thread(target=receive)]
        for thread in threads:
            thread.start()
        for number in range(500):
            them.proxy.add(kinds[number % len(kinds)])
            if number % 3 == 0:
                them.proxy.update("t", toxicity=1.0)
            them.proxy.remove("t")
        stop.set()
        for thread in threads:
            thread.join(20)
        assert bytes(got) == bytes(sent)
        client.close()
        server.close()


# When it sets in.


def test_the_first_connections_alone() -> None:
    with between() as them:
        them.proxy.add(made("timeout", attributes={"connections": 1}))
        first, second = them.connect(), them.connect()
        for client, server in (first, second):
            server.sendall(b"x")
            client.settimeout(0.05)
        assert outcome(lambda: first[0].recv(1)) == "TimeoutError"
        assert second[0].recv(1) == b"x"
        for sock in (*first, *second):
            sock.close()


def test_after_so_many_bytes() -> None:
    with between() as them:
        them.proxy.add(made("timeout", attributes={"after_bytes": 10}))
        client, server = them.connect()
        with client, server:
            server.sendall(b"0123456789abc")
            client.settimeout(0.05)
            assert client.recv(100) == b"0123456789"
            assert outcome(lambda: client.recv(1)) == "TimeoutError"


def asked(them: Between, client: socket.socket, server: socket.socket) -> bytes:
    """One request and its answer."""
    client.sendall(b"ask")
    assert server.recv(10) == b"ask"
    server.sendall(b"answer")
    return client.recv(10)


def test_after_so_many_requests() -> None:
    with between() as them:
        them.proxy.add(made("latency", attributes={"after_requests": 2, "latency": 250}))
        client, server = them.connect()
        with client, server:
            for least, most in ((0, 0.25), (0.25, LATE), (0.25, LATE)):
                began = time.monotonic()
                assert asked(them, client, server) == b"answer"
                assert least <= time.monotonic() - began < most


@pytest.mark.parametrize("attribute", ["after_ms", "after_idle_ms"])
def test_after_a_time(attribute: str) -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            began = time.monotonic()
            them.proxy.add(made("reset_peer", attributes={attribute: 80}))
            assert outcome(lambda: client.recv(1)) == "ConnectionResetError"
            assert 0.06 < time.monotonic() - began < LATE


def test_when_it_is_fired() -> None:
    with between() as them:
        them.proxy.add(made("timeout", attributes={"at_fire": 1}))
        client, server = them.connect()
        with client, server:
            assert asked(them, client, server) == b"answer"
            them.proxy.fire()
            server.sendall(b"x")
            client.settimeout(0.05)
            assert outcome(lambda: client.recv(1)) == "TimeoutError"


# What makes no sense.


@pytest.mark.parametrize(
    ("type", "attributes", "sentence"),
    [
        ("slicer", {"average_size": 10, "size_variation": 11}, "size_variation=11 is more than average_size=10"),
        ("bandwidth", {"rate": -1}, "rate=-1 KB/s makes no sense: it is 0 to"),
        ("latency", {"jitter": 2**63}, "makes no sense"),
        ("latency", {"latency": 1.5}, "latency=1.5 is no whole number of ms"),
        ("latency", {"latency": "1"}, "latency='1' is no number"),
        ("latency", {"latency": True}, "latency=True is no number"),
        ("packet_loss", {"loss_rate": 1.5}, "loss_rate=1.5 of 1 makes no sense: it is 0 to 1"),
        ("noop", {"after_ms": 1, "after_bytes": 1}, "one moment to set in"),
    ],
)
def test_bad_attributes_are_said(type: str, attributes: dict[str, object], sentence: str) -> None:
    with pytest.raises(Misuse, match=sentence.replace("(", r"\(")):
        made(type, attributes=attributes)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: faultkit.latency("a"), "latency\\(seconds='a'\\): it is a number"),  # type: ignore[arg-type]
        (lambda: faultkit.latency(-1), "latency=-1000 ms makes no sense: it is 0 to 2147483647"),
        (lambda: faultkit.bandwidth("50k"), "bandwidth\\(bytes_per_second='50k'\\): it is a number"),  # type: ignore[arg-type]
        (lambda: faultkit.slicer(1.5), "slicer\\(average_size=1.5\\): it is a whole number"),  # type: ignore[arg-type]
        (lambda: faultkit.latency(1, connections=1.5), "connections=1.5 is no whole number of connections"),
        (lambda: faultkit.latency(1, nope=1), "latency takes no nope: it takes name, stream, toxicity, connections"),
        (lambda: faultkit.latency(1, name=5), "name=5 is no text"),
        (lambda: faultkit.latency(1, toxicity="x"), "toxicity='x' is no number"),
    ],
)
def test_what_makes_no_sense_in_python_is_said(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(Misuse, match=sentence):
        make()


def test_rates_and_times_may_be_parts() -> None:
    assert faultkit.bandwidth(123_457).attributes["rate"] == 123.457
    assert faultkit.latency(0.0005).attributes["latency"] == 0.5


def test_what_is_left_out_is_nothing_for_every_type() -> None:
    for type in TYPES:
        with between() as them:
            them.proxy.add(made(type))
            client, server = them.connect()
            client.sendall(b"x")
            client.close()
            outcome(lambda: read_all(server))  # noqa: B023  # called at once
            server.close()


def test_a_change_that_makes_no_sense_changes_nothing() -> None:
    with between() as them:
        them.proxy.add(made("latency", name="l", attributes={"latency": 5}))
        with pytest.raises(Misuse):
            them.proxy.update("l", {"jitter": 3, "latency": -1})
        assert them.proxy.toxic("l").attributes == {"latency": 5, "jitter": 0}
