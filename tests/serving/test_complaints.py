"""What a server complains of at its end, and of what it does not."""

from __future__ import annotations

from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Live, Misuse
from tests.serving.client import armed, client, unconnected
from tests.stage.child import in_child


def test_a_healthy_server_needs_nobody() -> None:
    with faultkit.serve():
        pass


UNMET: dict[str, tuple[dict[str, Any], int, str]] = {
    "nobody came": ({"fault": "linger"}, 0, "linger on port PORT was never met: no connection came"),
    "not so far": (
        {"fault": "linger", "after_bytes": 100},
        2,
        "linger on port PORT was never met: it was to set in after 100 bytes received, and 2 connections came: "
        "connection 2 had 5 bytes in, 5 out, peer closed",
    ),
    "not in the plan's turn": (
        {"plan": ["ok", "ok", "linger"]},
        2,
        "linger on port PORT was never met: it was planned for connection 3, and 2 connections came",
    ),
    "not in its own turn": (
        {"plan": ["ok", "unread"], "after_bytes": 6},
        2,
        "unread on port PORT was never met: it was planned after 6 bytes received of connection 2, connection 2 had "
        "5 bytes in, 5 out, peer closed",
    ),
    "by chance": ({"random": 1.0, "seed": 1}, 0, "a random fault on port PORT was never met: no connection came"),
    "behind a door": (
        {"fault": "connect-hang"},
        0,
        "connect-hang on port PORT was never met: no client tried to connect",
    ),
    "behind an open door": (
        {"fault": "refuse", "at": "fire"},
        1,
        "refuse on port PORT was to set in at fire(), which was never called",
    ),
    "no client waited": (
        {"fault": "listener-closed"},
        0,
        "listener-closed on port PORT was never met: no connection came",
    ),
}


@pytest.mark.parametrize("case", UNMET)
def test_a_fault_that_nobody_met_is_one_sentence(case: str) -> None:
    keywords, clients, sentence = UNMET[case]
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve(**keywords) as server:
        for number in range(clients):
            with client(server) as plain:
                plain.send(b"hello")
                assert plain.recv() == "hello"
            server.connections[number].wait_for_end()
    assert str(unmet.value) == sentence.replace("PORT", str(server.port))
    with faultkit.serve(**keywords, must_be_met=False):
        pass


def test_in_a_namespace_of_its_own_the_first_refusal_counts() -> None:
    """OutRsts is 0 there."""
    in_child(_first_refusal)


def _first_refusal() -> None:
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    with faultkit.serve("refuse") as server, unconnected(server) as plain:
        assert plain.connect(server.address) == "ECONNREFUSED"
    with pytest.raises(FaultNotMet), faultkit.serve("refuse"):
        pass


def test_a_client_that_was_too_quick_to_be_seen_is_looked_for() -> None:
    """It connects, sends and goes, and the server is asked at once."""
    for _ in range(100):
        with faultkit.serve("linger") as server:
            with client(server) as plain:
                plain.send(b"x")
            server.check()


def test_what_the_test_itself_raised_is_not_covered_up() -> None:
    with pytest.raises(ZeroDivisionError), faultkit.serve("linger"):
        raise ZeroDivisionError


def test_a_crash_comes_before_a_fault_that_was_not_met() -> None:
    async def handler(conn: Live) -> None:
        raise ValueError("first")

    with (
        pytest.raises(HandlerCrashed, match=r"^connection 1: ValueError: first$"),
        armed("linger", answer=handler) as server,
    ):
        with client(server) as plain:
            assert plain.recv() == "EOF"
        with client(server):
            pass


async def test_what_is_wrong_is_told_in_the_loop_of_the_server_too() -> None:
    with pytest.raises(FaultNotMet, match=r"was never met: no connection came$"):
        async with faultkit.serve("linger") as server:
            with pytest.raises(Misuse) as refused:
                server.check()
            assert str(refused.value) == "check() would block the loop in which the server runs: await acheck() there"
            with pytest.raises(FaultNotMet):
                await server.acheck()
    with pytest.raises(ZeroDivisionError):
        async with faultkit.serve("linger"):
            raise ZeroDivisionError


async def sends_and_counts_nothing(conn: Live) -> None:
    while await conn.receive():
        await conn.send(b"+OK\r\n")


NEVER_COUNTED: dict[str, tuple[dict[str, Any], str]] = {
    "after_requests": (
        {"after_requests": 2},
        "; its handler never said that a request was whole: `await conn.request()` does",
    ),
    "after_answers": (
        {"after_answers": 1},
        "; its handler never gave an answer whole: `await conn.answer(...)` does, send() is not counted",
    ),
    "mid-body": (
        {"at": "mid-body"},
        "; its handler never gave an answer whole: `await conn.answer(...)` does, send() is not counted",
    ),
    "after_bytes": ({"after_bytes": 100}, ", peer closed"),
}


@pytest.mark.parametrize("planned", [False, True], ids=["every", "planned"])
@pytest.mark.parametrize("when", NEVER_COUNTED)
def test_a_handler_that_counts_nothing_is_told_what_the_fault_waits_for(when: str, planned: bool) -> None:
    keywords, said = NEVER_COUNTED[when]
    fault: dict[str, Any] = {"plan": ["linger"]} if planned else {"fault": "linger"}
    with (
        pytest.raises(FaultNotMet) as unmet,
        faultkit.serve(**fault, **keywords, answer=sends_and_counts_nothing) as server,
    ):
        with client(server) as plain:
            for _ in range(2):
                plain.send(b"PING\r\n")
                assert plain.recv() == "+OK\r\n"
        server.connections[0].wait_for_end()
    assert str(unmet.value).endswith(said)


def test_an_answer_of_ours_counts_by_itself_and_nothing_is_said_of_a_handler() -> None:
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve("linger", after_requests=1, answer="http") as server:
        with client(server) as plain:
            plain.send(b"GET")
        server.wait_for_connection().wait_for_end()
    assert "handler" not in str(unmet.value)


@pytest.mark.parametrize("name", ["connect-hang", "refuse", "backlog-full"])
def test_who_was_turned_away_has_come(name: str) -> None:
    with faultkit.serve(name) as server:
        for _ in range(2):  # one may still find a place in a full queue
            with unconnected(server, timeout=0.1) as plain:
                plain.connect(server.address)
        assert server.came
        assert server.turned_away
        with pytest.raises(TimeoutError) as late:
            server.wait_for_connection(timeout_seconds=0.01)
        assert str(late.value) == "no connection was accepted, only turned away, after 0.01 s"
