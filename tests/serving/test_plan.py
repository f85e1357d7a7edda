"""Which connection gets which fault: by a plan, by chance that can be repeated, and what is said when one was not met."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, Misuse, Server
from faultkit.serving import plan
from tests.serving.client import client


def met(server: Server) -> str:
    """One request, and what the client was told."""
    with client(server) as plain:
        plain.send(b"hello")
        return plain.recv()


def test_each_connection_gets_its_own() -> None:
    with faultkit.serve(plan=["linger", "truncate", "ok"]) as server:
        assert [met(server) for _ in range(5)] == ["ECONNRESET", "he", "hello", "hello", "hello"]
        assert [record.fault for record in server.connections] == ["linger", "truncate", "ok", "ok", "ok"]


def test_one_trigger_goes_for_the_whole_plan() -> None:
    with faultkit.serve(plan=["linger", "ok", "truncate"], after_sent=3) as server:
        told = []
        for _ in range(3):
            with client(server) as plain:
                plain.send(b"hello")
                told.append([plain.recv_whole(3), plain.recv()])
        assert told == [["hel", "ECONNRESET"], ["hel", "lo"], ["hel", "EOF"]]


def drawn(seed: int, times: int, **keywords: Any) -> list[str]:
    chosen = plan.chosen(keywords.get("fault"), None, keywords.get("random", 0.3), seed, None)
    return [fault.name if (fault := chosen.of(number)) else "ok" for number in range(1, times + 1)]


def test_a_seed_repeats_what_was_drawn() -> None:
    assert drawn(7, 200) == drawn(7, 200)
    assert drawn(7, 200) != drawn(8, 200)
    assert len(set(drawn(7, 200))) > 5, "faults are drawn from all that end a connection"
    assert set(drawn(7, 200, fault="unread")) == {"ok", "unread"}


def test_each_connection_draws_from_its_own_stream() -> None:
    chosen = plan.chosen(None, None, 0.5, 7, None)
    backwards = [chosen.of(number) for number in range(100, 0, -1)]
    assert [chosen.of(number) for number in range(1, 101)] == backwards[::-1]


def test_the_probability_is_that_of_a_fault() -> None:
    for probability in (0.1, 0.5, 0.9):
        faults = sum(name != "ok" for name in drawn(3, 2000, random=probability, fault="linger"))
        assert abs(faults / 2000 - probability) < 0.05
    assert "ok" not in drawn(3, 100, random=1)


def test_what_is_drawn_is_what_the_clients_meet() -> None:
    with faultkit.serve("linger", random=0.5, seed=11) as server:
        told = [met(server) for _ in range(40)]
    assert told == ["hello" if name == "ok" else "ECONNRESET" for name in drawn(11, 40, random=0.5, fault="linger")]


def test_without_a_seed_one_is_made_and_told() -> None:
    with faultkit.serve("linger", random=0.5, must_be_met=False) as server, faultkit.serve() as healthy:
        assert isinstance(server.seed, int)
        assert healthy.seed is None


def test_what_is_drawn_does_not_touch_the_tests_own_random_numbers() -> None:
    import random

    random.seed(5)
    expected = random.random()
    random.seed(5)
    with faultkit.serve("linger", random=0.5, must_be_met=False) as server:
        met(server)
    assert random.random() == expected


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        (
            {"fault": "linger", "plan": ["ok"]},
            "fault 'linger' and a plan: the plan says what each connection gets; leave one of them out",
        ),
        ({"seed": 1}, "seed=1 decides nothing without random: add random=0.3, or leave it out"),
        (
            {"plan": "linger"},
            "plan='linger' is no list of faults, one at least: take one such as ['linger', 'linger', 'ok']",
        ),
        (
            {"plan": [["slow:100", ("linger", {"after_sent": 500})], "ok"]},
            "plan=[['slow:100', ('linger', {'after_sent': 500})], 'ok']: several in order on one connection are one text, "
            "'slow:100 + linger@sent=500', and no list within the list",
        ),
        (
            {"plan": ["ok", 5]},
            "plan=['ok', 5]: 5 is not the name of a fault: take a list such as ['linger', 'linger', 'ok']",
        ),
        ({"plan": []}, "plan=[] is no list of faults, one at least: take one such as ['linger', 'linger', 'ok']"),
        ({"plan": ["linger", "okay"]}, "there is no fault 'okay': did you mean ok?"),
        ({"plan": [1]}, None),
        (
            {"plan": ["listener-closed", "ok"]},
            "listener-closed keeps clients from connecting at all, so no server can count them: serve it alone, and heal() it",
        ),
        ({"random": 0}, "random=0 is not a probability: take more than 0, up to 1, such as 0.3"),
        ({"random": 1.1}, "random=1.1 is not a probability: take more than 0, up to 1, such as 0.3"),
        ({"random": "0.3"}, "random='0.3' is not a probability: take more than 0, up to 1, such as 0.3"),
        ({"random": 0.3, "seed": "x"}, "seed='x' is not a whole number"),
        (
            {"random": 0.3, "plan": ["ok"]},
            "random=0.3 and a plan: the plan leaves nothing to chance; leave one of them out",
        ),
        (
            {"random": 0.3, "after_bytes": 1},
            "`after 1 byte received` with random and no fault: faults drawn from all set in at their own triggers",
        ),
        ({"after_bytes": 1}, "`after 1 byte received` and no fault: name the fault that is to set in then"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(keywords: dict[str, Any], sentence: str | None) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(**keywords)
    if sentence:
        assert str(refused.value) == sentence
    assert "\n" not in str(refused.value)


def unmet(keywords: dict[str, Any], clients: Sequence[bytes]) -> str:
    """What is said at the end, after so many clients, each of which sent that and went."""
    with pytest.raises(FaultNotMet) as complaint, faultkit.serve(**keywords) as server:
        for data in clients:
            with client(server) as plain, contextlib.suppress(OSError):
                plain.sock.sendall(data)
                if data:
                    plain.recv()
        for record in server.connections:
            record.wait_for_end()
        port = server.port
    return str(complaint.value).replace(f" on port {port}", "")


@pytest.mark.parametrize(
    ("keywords", "clients", "sentence"),
    [
        ({"fault": "linger"}, [], "linger was never met: no connection came"),
        (
            {"fault": "linger", "after_bytes": 9},
            [b"", b"hello"],
            "linger was never met: it was to set in after 9 bytes received, and 2 connections came: connection 2 had 5 bytes "
            "in, 5 out, peer closed",
        ),
        (
            {"plan": ["linger", "ok", "linger"]},
            [b"x", b"x"],
            "linger was never met: it was planned for connection 3, and 2 connections came",
        ),
        (
            {"plan": ["linger", "ok"]},
            [b"", b"x"],
            "linger was never met: it was planned after 1 byte received of connection 1, connection 1 had 0 bytes in, 0 out, "
            "peer closed",
        ),
        ({"random": 0.5, "seed": 1}, [], "a random fault was never met: no connection came"),
        ({"fault": "refuse"}, [], "refuse was never met: no client tried to connect"),
        ({"fault": "connect-hang"}, [], "connect-hang was never met: no client tried to connect"),
        ({"fault": "refuse", "at": "fire"}, [], "refuse was to set in at fire(), which was never called"),
    ],
)
def test_a_fault_that_nobody_met_is_one_sentence(
    keywords: dict[str, Any], clients: Sequence[bytes], sentence: str
) -> None:
    assert unmet(keywords, clients) == sentence


def test_a_fault_need_not_be_met_where_that_is_said() -> None:
    with faultkit.serve("linger", must_be_met=False):
        pass


def test_what_failed_already_is_not_covered() -> None:
    with pytest.raises(ZeroDivisionError), faultkit.serve("linger"):
        raise ZeroDivisionError


def test_a_client_that_left_at_once_has_met_it_all_the_same() -> None:
    for _ in range(200):
        with faultkit.serve("linger") as server, client(server) as plain:
            plain.sock.sendall(b"x")


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"fault": "linger"}, "linger"),
        ({"fault": "refuse"}, "refuse"),
        ({"fault": "stall + linger@sent=5"}, "stall + linger@sent=5"),
        ({"plan": ["linger", "ok", "stall"]}, "linger, ok, stall"),
        ({"fault": "linger", "random": 0.5, "seed": 7}, "faults by chance, seed=7"),
        ({}, "ok"),
    ],
)
def test_a_server_says_what_it_is(keywords: dict[str, Any], told: str) -> None:
    with faultkit.serve(must_be_met=False, **keywords) as server:
        assert repr(server) == f"<server at http://127.0.0.1:{server.port}/: {told}; no connection came>"
    assert repr(server).endswith("; no connection came, closed>")
