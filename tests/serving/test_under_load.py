"""Every fault a hundred times while every core is busy: the same is told each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import faultkit
from tests.serving.client import client
from tests.serving.test_faults import TABLE

TIMES = 100
AT_ONCE = 25


@pytest.fixture(scope="module", autouse=True)
def busy() -> Iterator[None]:
    """One program for each core that does nothing but that."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for one in spinning:
        one.kill()
        one.wait()


@pytest.mark.parametrize("name", TABLE)
def test_a_fault_is_the_same_under_load(name: str) -> None:
    play, told, ended = TABLE[name]

    def once(_: int) -> tuple[tuple[str, ...], str | None]:
        with faultkit.serve(name) as server, client(server) as plain:
            play(plain)
            record = server.wait_for_connection(timeout_seconds=20)
            return tuple(plain.told), record.wait_for_end(timeout_seconds=20).ended if ended else None

    with ThreadPoolExecutor(AT_ONCE) as clients:
        seen = Counter(clients.map(once, range(TIMES)))
    assert seen == {(tuple(told), ended): TIMES}


def test_one_server_gives_a_hundred_clients_the_same() -> None:
    """Faults by turns, so that each is told apart from its neighbours."""
    names = ["linger", "unread", "late-write", "keepalive-race:unsent", "disconnect", "ok"]
    with faultkit.serve(plan=names * TIMES) as server:
        for number, name in enumerate(names * TIMES):
            with client(server) as plain:
                if name == "ok":
                    plain.send(b"x")
                    assert plain.recv() == "x"
                else:
                    play, told, ended = TABLE[name]
                    play(plain)
                    assert plain.told == told, number
                    assert server.connections[number].wait_for_end().ended == ended
