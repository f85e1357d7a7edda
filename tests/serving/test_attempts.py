"""A plan that refuses: each attempt to connect is met in its turn and counted, however quick the client is."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, Misuse, Server, Unable
from faultkit.witness.kernel import counters
from tests.boxes import PYTHON, every_user
from tests.serving.client import armed, unconnected
from tests.shell import faultkit as command


def inside(scene: Callable[..., Any], *arguments: Any, user: str = "") -> Any:
    """What that function of this module gives in a sandbox."""
    program = f"import json; from tests.serving import test_attempts as t; print(json.dumps(t.{scene.__name__}(*{arguments!r})))"
    ended = command("sandbox", "--", *PYTHON, program, user=user)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def tried(server: Server) -> str:
    """One attempt, and an answer where it is let in."""
    with unconnected(server) as plain:
        told = plain.connect(server.address)
        if told != "ok":
            return told
        plain.send(b"x")
        return plain.recv()


def waiting(server: Server) -> str:
    """The same of a client that does not block: the kernel tells it in another way."""
    with socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET) as plain:
        plain.setblocking(False)
        plain.connect_ex(server.address)
        select.select([], [plain], [])
        number = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return "ECONNREFUSED" if number == 111 else f"error {number}"


def without_a_pause(ipv6: bool, times: int) -> list[Any]:
    """Clients that try again at once, and what the kernel itself counted in this namespace, where nobody else is."""
    seen = []
    for number in range(times):
        with faultkit.serve(plan=["refuse", "refuse", "ok", "refuse", "linger"], ipv6=ipv6) as server:
            before = counters()["TcpAttemptFails"]
            one = waiting if number % 2 else tried
            told = [one(server), one(server), tried(server), one(server), tried(server), tried(server)]
            failed = counters()["TcpAttemptFails"] - before
            seen.append([told, [attempt.met for attempt in server.attempts], failed, server.turned_away])
    return seen


@every_user
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_each_in_its_turn_however_quick_the_client_is(ipv6: bool, user: str) -> None:
    met = [
        ["ECONNREFUSED", "ECONNREFUSED", "x", "ECONNREFUSED", "ECONNRESET", "x"],
        ["refused", "refused", "connected", "refused", "connected", "connected"],
        3,
        True,
    ]
    assert inside(without_a_pause, ipv6, 50, user=user) == [met] * 50


def all_at_once() -> Any:
    with faultkit.serve(plan=["refuse", "ok"] * 10) as server:
        with ThreadPoolExecutor(20) as pool:
            told = list(pool.map(tried, [server] * 20))
        attempts = server.attempts
        times = [attempt.at for attempt in attempts]
        return [sorted(told), [attempt.met for attempt in attempts], times == sorted(times)]


def test_many_clients_at_once_share_one_plan() -> None:
    assert inside(all_at_once) == [["ECONNREFUSED"] * 10 + ["x"] * 10, ["refused", "connected"] * 10, True]


def backing_off() -> Any:
    paused = []
    with faultkit.serve(plan=["refuse"] * 4 + ["ok"]) as server:
        pause = 0.02
        while tried(server) == "ECONNREFUSED":
            paused.append(pause)
            time.sleep(pause)
            pause *= 2
        seen = [attempt.pause_seconds for attempt in server.attempts[1:]]
        began = server.attempts[0]
        return [paused, seen, began.pause_seconds, [record.opened_at - began.at for record in server.connections]]


def test_the_pauses_of_a_client_that_backs_off() -> None:
    paused, seen, first, since = inside(backing_off)
    assert paused == [0.02, 0.04, 0.08, 0.16]
    assert first == 0
    # By the kernel's stamps: what this process waited for a processor is in neither.
    assert all(pause - 0.002 < measured < pause + 2 for pause, measured in zip(paused, seen, strict=True))
    assert since == pytest.approx([0, *(sum(seen[:number]) for number in range(1, 5))])


def sent_again() -> Any:
    with faultkit.serve(plan=["connect-hang", "refuse", "ok"]) as server:
        with unconnected(server, timeout=1.3) as plain:  # its kernel sends the SYN again after a second
            told = [plain.connect(server.address)]
        told += [tried(server), tried(server)]
        return [told, [(attempt.number, attempt.met) for attempt in server.attempts]]


def test_a_syn_that_is_sent_again_is_no_further_attempt() -> None:
    assert inside(sent_again) == [
        ["timeout", "ECONNREFUSED", "x"],
        [[1, "unanswered"], [2, "refused"], [3, "connected"]],
    ]


def healed_and_fired() -> Any:
    with faultkit.serve(plan=["refuse"] * 3 + ["linger"], must_be_met=False) as server:
        told = [tried(server)]
        server.heal()
        told.append(tried(server))
        server.fire()
        told += [tried(server) for _ in range(3)]
        return told


def test_heal_lets_everybody_in_and_fire_goes_on_with_the_plan() -> None:
    assert inside(healed_and_fired) == ["ECONNREFUSED", "x", "ECONNREFUSED", "ECONNRESET", "x"]


def complaints() -> Any:
    told = []
    try:
        with faultkit.serve(plan=["refuse", "refuse", "ok"]) as server:
            port = server.port
            tried(server)
    except FaultNotMet as error:
        told.append(str(error).replace(str(port), "PORT"))
    with faultkit.serve(plan=["refuse", "ok"], must_be_met=False) as server:
        for act in (server.restart, lambda: faultkit.serve(plan=["refuse@fire"])):
            try:
                act()
            except Misuse as error:
                told.append(str(error))
        told += [tried(server), repr(server.connections[0]).replace(str(server.connections[0].peer), "PEER")[:55]]
    return told


def test_what_is_said() -> None:
    assert inside(complaints) == [
        "refuse on port PORT was never met: it was planned for connection 2, and 1 connection came",
        "restart(): this plan turns attempts away by itself, one by one: leave one of them out",
        "refuse@fire: in a plan it is met by whose turn it is: leave its trigger out",
        "ECONNREFUSED",
        "<connection 1 from PEER: refuse, 0 bytes in, 0 out, fir",
    ]


def test_on_the_command_line() -> None:
    program = (
        "exec 3< <(exec python -m faultkit serve --plan refuse,ok --connections 2 --json); read -r line <&3; "
        'port=$(python -c "import json, sys; print(json.loads(sys.argv[1])[\'port\'])" "$line"); '
        "for n in 1 2; do (exec 4<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && echo in || echo refused; done; cat <&3"
    )
    ended = command("sandbox", "--", "bash", "-c", program.replace("python", PYTHON[0]))
    first, second, *lines = ended.stdout.splitlines()
    assert (first, second, ended.stderr) == ("refused", "in", "")
    assert [(found["fault"], found["ended"]) for found in map(json.loads, lines)] == [
        ("refuse", "refused"),
        ("ok", "peer closed"),
    ]


def test_elsewhere_it_says_what_it_takes() -> None:
    with pytest.raises(Unable) as refused:
        faultkit.serve(plan=["refuse", "ok"])
    assert str(refused.value) == (
        "a plan with refuse counts attempts that no program is told of, and works only inside a private namespace: run it "
        "with faultkit sandbox -- ...; accept-then-close and accept-then-reset are counted everywhere"
    )


def test_attempts_are_counted_everywhere_where_nobody_is_refused() -> None:
    with faultkit.serve(plan=["accept-then-close", "accept-then-reset", "ok"]) as server:
        for number in range(1, 4):
            with unconnected(server) as plain:
                plain.connect(server.address)  # or it is told of the reset already
                server.wait_for_connection(number)
        assert [attempt.met for attempt in server.attempts] == ["connected"] * 3
        assert [attempt.number for attempt in server.attempts] == [1, 2, 3]


def test_attempts_that_nobody_counted_are_not_told() -> None:
    with armed("refuse") as server:
        server.fire()
        assert tried(server) == "ECONNREFUSED"
        with pytest.raises(Misuse) as refused:
            _ = server.attempts
    assert str(refused.value) == (
        "some clients met a closed door, and nobody counts those: name refuse in a plan, one for each attempt"
    )
