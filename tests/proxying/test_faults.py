"""Every fault of `faultkit serve` through a proxy: the same client meets the same as at a server with that fault."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

import faultkit
from faultkit.errors import Misuse
from faultkit.proxying.toxics import made
from faultkit.serving import faults, plan
from tests.proxying.behind import Between, between, outcome, read_all
from tests.watch import until

HELLO = b"hello world, long enough to hold a FIN back"
CHANCE = ("accept-then-reset", "early-response", "keepalive-race:in-flight")  # which call is told, at a server too
SOONER = {"slow": ":1", "idle-firewall": "@idle=100ms", "load-balancer-idle": "@idle=100ms"}


def met(address: tuple[str, int]) -> list[object]:
    """What a client is told, call by call."""
    found: list[object] = []
    with socket.socket() as client:
        client.settimeout(0.12)
        found.append(outcome(lambda: client.connect(address)))
        if found[0] is not None:
            return found
        for _ in range(2):
            found += [outcome(lambda: client.send(HELLO)), outcome(lambda: whole(client))]
        return [*found, outcome(lambda: whole(client))]


def whole(client: socket.socket) -> bytes:
    """An answer, or what there was of it until the end."""
    found = b""
    while len(found) < len(HELLO) and (more := client.recv(len(HELLO) - len(found))):
        found += more
    return found


def echo(service: socket.socket) -> None:
    """A service that says each bytes back."""

    def answer(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                sock.sendall(data)

    with contextlib.suppress(OSError):
        while True:
            sock, _ = service.accept()
            threading.Thread(target=answer, args=(sock,), daemon=True).start()


@contextlib.contextmanager
def in_front_of_echo(fault: str) -> Iterator[Between]:
    with between(plan=plan.chosen(fault, None, None, None, None)) as them:
        threading.Thread(target=echo, args=(them.service,), daemon=True).start()
        yield them


@pytest.mark.parametrize(
    "fault", [name for name, _, served in faults.known() if not served.needs_repair or os.geteuid() == 0]
)
def test_a_client_meets_the_same_as_at_a_server(fault: str) -> None:
    written = fault + SOONER.get(fault, "")
    with faultkit.serve(written, must_be_met=False) as server:
        by_itself = met(server.address)
    with in_front_of_echo(written) as them:
        by_proxy = met(them.proxy.address)
    if fault in CHANCE:
        assert "ConnectionResetError" in by_proxy
    else:
        assert by_proxy == by_itself


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("linger", "ConnectionResetError"),
        ("disconnect", "ConnectionResetError"),
        ("unread", "ConnectionResetError"),
        ("late-write", b""),
        ("half-close", b""),
        ("crash:read", b""),
        ("garbage:3", faults.NOISE[:3]),
        ("stall", "TimeoutError"),
        ("black-hole", "TimeoutError"),
        ("zero-window", "TimeoutError"),
    ],
)
def test_the_service_meets_it_where_that_is_asked_for(fault: str, told: object) -> None:
    with between(plan=plan.chosen(fault, None, None, None, None), towards="upstream") as them:
        client, server = them.connect()
        with client, server:
            client.sendall(b"asked")
            server.settimeout(0.3)
            assert server.recv(10) == b"asked"
            outcome(lambda: server.sendall(b"answer"))
            assert outcome(lambda: server.recv(3)) == told


def test_the_other_side_gets_all_that_came_before_and_then_fin() -> None:
    with between(plan=plan.chosen("linger@bytes=5", None, None, None, None)) as them:
        client, server = them.connect()
        with client, server:
            client.sendall(b"0123456789")
            assert read_all(server) == b"01234"
            assert outcome(lambda: client.recv(1)) == "ConnectionResetError"
        assert them.proxy.connections[0].wait_for_end().ended == "abort"


@pytest.mark.parametrize("sent", [1, 100, 70_000])
def test_so_many_bytes_were_sent_and_no_more(sent: int) -> None:
    with between(plan=plan.chosen(f"late-write@sent={sent}", None, None, None, None)) as them:
        client, server = them.connect()
        with client, server:
            server.sendall(bytes(100_000))
            assert len(read_all(client)) == sent


def test_half_of_an_answer() -> None:
    with between(plan=plan.chosen("truncate", None, None, None, None)) as them:
        client, server = them.connect()
        with client, server:
            client.sendall(b"asked")
            assert server.recv(10) == b"asked"
            server.sendall(b"0123456789")
            assert read_all(client) == b"01234"


def test_one_after_the_other_and_healed() -> None:
    with between(plan=plan.chosen("stall@requests=1 + ok@requests=2", None, None, None, None)) as them:
        client, server = them.connect()
        with client, server:
            client.sendall(b"one")
            assert server.recv(10) == b"one"
            server.sendall(b"first")
            client.settimeout(0.1)
            assert outcome(lambda: client.recv(10)) == "TimeoutError"
            client.settimeout(5)
            them.proxy.heal()
            assert client.recv(10) == b"first"


def test_a_plan_of_connections() -> None:
    with between(plan=plan.chosen(None, ["linger", "ok", "late-write"], None, None, None)) as them:
        threading.Thread(target=echo, args=(them.service,), daemon=True).start()
        ends = [met(them.proxy.address)[2] for _ in range(4)]
        assert ends == ["ConnectionResetError", HELLO, b"", HELLO]


def test_a_fault_that_is_added_and_taken_away_on_a_live_connection() -> None:
    with between() as them:
        client, server = them.connect()
        with client, server:
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            them.proxy.add("stall")
            server.sendall(b"late")
            client.settimeout(0.1)
            assert outcome(lambda: client.recv(10)) == "TimeoutError"
            client.settimeout(5)
            them.proxy.remove("stall_downstream")
            assert client.recv(10) == b"late"


def test_a_door_is_shut_by_a_toxic_and_opened_again() -> None:
    with between() as them:
        threading.Thread(target=echo, args=(them.service,), daemon=True).start()
        them.proxy.add("refuse")
        assert met(them.proxy.address) == ["ConnectionRefusedError"]
        them.proxy.remove("refuse_downstream")
        assert met(them.proxy.address)[2] == HELLO
        them.proxy.add(made("refuse", name="later", attributes={"at_fire": 1}))
        assert met(them.proxy.address)[2] == HELLO
        them.proxy.fire()
        assert met(them.proxy.address) == ["ConnectionRefusedError"]
        them.proxy.heal()
        assert met(them.proxy.address)[2] == HELLO


def test_fire_heal_and_cut() -> None:
    with between(plan=plan.chosen("stall", None, None, None, None)) as them:
        client, server = them.connect()
        with client, server:
            client.settimeout(5)
            them.proxy.fire()
            server.sendall(b"late")
            them.proxy.heal()
            assert client.recv(10) == b"late"
            them.proxy.cut()
            assert outcome(lambda: client.recv(1)) == "ConnectionResetError" == outcome(lambda: server.recv(1))
            assert [one.fault for one in them.proxy.connections[0].met] == ["stall"]


def test_fire_with_nothing_to_fire_is_said() -> None:
    with between() as them, pytest.raises(Misuse, match=r"nothing to set in"):
        them.proxy.fire()


@pytest.mark.parametrize("how", ["reset", "close", "hang", "refuse"])
def test_a_service_that_is_down(how: str) -> None:
    with between(upstream_down=how) as them:
        them.service.close()
        if how == "refuse":
            them.proxy.stop()
            them.proxy.start()
        with socket.socket() as client:
            client.settimeout(0.3)
            if how == "refuse":
                assert outcome(lambda: client.connect(them.proxy.address)) == "ConnectionRefusedError"
                return
            told = outcome(lambda: client.connect(them.proxy.address)) or outcome(lambda: client.recv(1))
            assert told == {"reset": "ConnectionResetError", "close": b"", "hang": "TimeoutError"}[how]


def test_the_door_opens_when_the_service_is_back() -> None:
    with between(upstream_down="refuse") as them:
        there = them.service.getsockname()
        them.service.close()
        with socket.socket() as client:  # the one that meets it first is reset
            outcome(lambda: client.connect(them.proxy.address))
            outcome(lambda: client.recv(1))
        assert met(them.proxy.address) == ["ConnectionRefusedError"]
        with socket.create_server(there) as service:
            threading.Thread(target=echo, args=(service,), daemon=True).start()
            for _ in range(100):
                if (last := met(them.proxy.address)) != ["ConnectionRefusedError"]:
                    break
                threading.Event().wait(0.05)
            assert last[2] == HELLO


def test_what_leaves_something_unread_waits_for_it() -> None:
    with between() as them:
        them.proxy.add(made("unread", attributes={"after_ms": 20}))
        client, server = them.connect()
        with client, server:
            client.settimeout(0.1)
            assert outcome(lambda: client.recv(1)) == "TimeoutError"  # it is due long ago, and nobody has said anything
            client.settimeout(5)
            client.sendall(b"x")
            assert outcome(lambda: client.recv(1)) == "ConnectionResetError"
            assert read_all(server) == b""
    assert them.proxy.connections[0].fired


def test_last_words_to_one_who_is_gone_are_said_once_and_refused_to_nobody() -> None:
    with between() as them:
        client, server = them.connect()
        client.sendall(b"x")  # garbage is for who has said something
        client.close()
        assert read_all(server) == b"x"

        def both() -> None:  # in one turn: the client's RST is answer to the first, and not looked at before the second
            them.proxy.add(made("garbage:100", name="first"))
            them.proxy.add(made("garbage:100", name="second"))
            them.proxy.heal()

        them.proxy.loop.call(both)
        assert them.proxy.toxics == []
        assert them.proxy.connections[0].sent == 100
        server.close()
        until(lambda: them.proxy.live == [])
