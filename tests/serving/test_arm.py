"""`server.fault = ...`, `plan`, `arm` and `forget`: a server whose port stays, and that begins anew."""

from __future__ import annotations

import contextlib
import http.client
import threading
from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Live, Misuse, Server
from tests.serving.client import armed, client, unconnected


def met(server: Server) -> str:
    """One connection, and what the client was told."""
    with unconnected(server) as plain:
        if (told := plain.connect(server.address)) != "ok":
            return told
        plain.send(b"x")
        return plain.recv()


def test_one_after_the_other_at_the_same_port() -> None:
    with faultkit.serve("linger") as server:
        port = server.port
        assert (server.fault, server.plan) == ("linger", None)
        assert [met(server), met(server)] == ["ECONNRESET"] * 2
        server.fault = "accept-then-close"
        assert [met(server), server.fault] == ["EOF", "accept-then-close"]
        server.plan = ["ok", "linger", "ok"]
        assert [server.fault, server.plan] == [None, ["ok", "linger", "ok"]]
        assert [met(server) for _ in range(4)] == ["x", "ECONNRESET", "x", "x"]
        server.fault = "refuse"
        assert [met(server), met(server), server.turned_away, server.connections] == ["ECONNREFUSED"] * 2 + [True, []]
        server.fault = None
        assert [met(server), server.turned_away, server.fault] == ["x", False, None]
        server.fault = "listener-closed"
        assert met(server) == "ECONNRESET"
        server.fault = "connect-hang"
        with unconnected(server, timeout=0.1) as plain:
            assert plain.connect(server.address) == "timeout"
        server.fault = "refuse"
        assert met(server) == "ECONNREFUSED"
        server.fault = None
        assert [met(server), server.port] == ["x", port]


def test_records_begin_anew_and_what_was_not_met_is_of_this_turn_alone() -> None:
    with faultkit.serve("linger") as server:
        assert met(server) == "ECONNRESET"
        server.forget()
        assert (server.connections, server.fault) == ([], "linger")
        with pytest.raises(FaultNotMet, match=r"no connection came$"):
            server.check()
        assert met(server) == "ECONNRESET"
        server.check()
        server.arm("stall", must_be_met=False)
        server.check()
        server.arm("stall", must_be_met=True)
        with pytest.raises(FaultNotMet, match=r"^stall on port"):
            server.check()
        server.rearm()
        assert [met(server), server.connections[0].number] == ["ECONNRESET", 1]


def test_a_crash_is_of_this_turn_alone() -> None:
    async def crashes(conn: Live) -> None:
        await conn.receive()
        raise ValueError("a mistake")

    with faultkit.serve(answer=crashes) as server:
        met(server)
        with pytest.raises(HandlerCrashed):
            server.check()
        server.forget()
        server.check()


@pytest.mark.parametrize("spoken", [False, True], ids=["silent", "spoken"])
@pytest.mark.parametrize(
    "fault", ["linger", "unread", "half-close", "linger@requests=2", "unread@requests=2", "linger@sent=3"]
)
def test_a_live_connection_has_just_come(fault: str, spoken: bool) -> None:
    told = {"half-close": "EOF"}.get(fault, "ECONNRESET")
    with faultkit.serve() as server, client(server) as first, client(server) as second:
        if spoken:
            for one in (first, second):
                one.send(b"hello")
                assert one.recv() == "hello"
        server.wait_for_connection(2)
        server.plan = [fault, "ok"]
        assert [record.number for record in server.connections] == [1, 2]
        assert [record.received for record in server.connections] == [0, 0]
        second.send(b"two")
        assert second.recv() == "two"
        first.send(b"one")
        if "=" in fault:
            assert first.recv_whole(3) == "one"
        if "requests" in fault:
            first.send(b"again")
        assert first.recv() == told
        assert server.connections[0].wait_for_fired().fault == fault


def test_a_pool_of_a_wider_scope() -> None:
    with faultkit.serve(answer="http") as server:
        pooled = http.client.HTTPConnection(*server.address, timeout=5)

        def status() -> int:
            pooled.request("GET", "/")
            answer = pooled.getresponse()
            answer.read()
            return answer.status

        with contextlib.closing(pooled):
            for _ in range(20):
                assert status() == 200
                server.fault = "linger"
                with pytest.raises(ConnectionResetError):
                    status()
                server.check()
                server.fault = None
                pooled.close()
                assert status() == 200
                server.check()


def test_what_was_done_to_a_live_connection_is_healed() -> None:
    with faultkit.serve("stall") as server, client(server) as plain:
        plain.send(b"x")
        before = server.wait_for_connection().wait_for_fired()
        server.fault = None
        assert plain.recv() == "x"
        assert (before.ended, before.over) == ("forgotten", True)
        plain.send(b"y")
        assert plain.recv() == "y"
        assert server.connections[0].fault == "ok"


def test_one_that_cannot_meet_it_any_more_is_left_alone() -> None:
    with faultkit.serve() as server, client(server) as old:
        server.wait_for_connection()
        server.plan = ["accept-then-close", "ok"]
        old.send(b"x")
        assert old.recv() == "x"
        assert server.connections == []
        assert [met(server), met(server)] == ["EOF", "x"]


def test_by_its_first_bytes_which_are_its_next() -> None:
    with faultkit.serve() as server, client(server) as old:
        old.send(b"hello")
        assert old.recv() == "hello"
        server.arm("linger", when="first=bad")
        old.send(b"good")
        assert old.recv() == "good"
        with client(server) as new:
            new.send(b"bad")
            assert new.recv() == "ECONNRESET"


def test_fire_and_restart_go_with_it() -> None:
    with armed("linger") as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "x"
        server.restart()
        assert plain.recv() == "ECONNRESET"
        server.fault = "linger@fire"
        with client(server) as other:
            server.wait_for_connection()
            server.fire()
            assert other.recv() == "ECONNRESET"


def test_while_clients_come_and_go() -> None:
    """Exchanges from one thread, clients in others: nobody is told what no fault of the two does."""
    told: set[str] = set()
    stop = threading.Event()

    def clients() -> None:
        while not stop.is_set():
            told.add(met(server))

    with faultkit.serve(must_be_met=False) as server:
        threads = [threading.Thread(target=clients) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(400):
            server.fault = ("linger", None, "refuse", "accept-then-close")[number % 4]
        server.fault = None
        stop.set()
        for thread in threads:
            thread.join()
    assert told <= {"x", "ECONNRESET", "EOF", "ECONNREFUSED"}
    assert "x" in told


def test_what_cannot_mean_anything() -> None:
    with faultkit.serve() as server:
        cases: list[tuple[dict[str, Any], str | None]] = [
            ({"fault": "lingr"}, "there is no fault 'lingr': did you mean linger?"),
            ({"plan": []}, None),
            ({"when": "path=/x"}, "when= chooses connections for a fault, and there is none: name one"),
            ({"fault": "linger@handshake"}, "linger@handshake never comes without TLS: add tls=True"),
        ]
        for keywords, sentence in cases:
            with pytest.raises(Misuse) as refused:
                server.arm(**keywords)
            assert sentence in (None, str(refused.value))
        assert met(server) == "x"
    with pytest.raises(Misuse, match="the server is closed"):
        server.fault = "linger"
