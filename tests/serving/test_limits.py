"""No descriptors, no threads, forks, crowds: a server at its limits."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable

import pytest

import faultkit
from faultkit import Server
from tests.ordinary import CHECKOUT
from tests.serving.client import Client, armed, client, listed
from tests.stage.child import in_child

NO_DESCRIPTORS = """
import os, resource, socket, faultkit
free = {free}
with faultkit.serve() as server:
    clients = [socket.socket() for _ in range(20)]
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
    for number in spare[:free]:
        os.close(number)
    for client in clients:
        client.settimeout(20)
        client.connect(server.address)
        client.sendall(b"x")
    for client in clients[:free]:
        assert client.recv(1) == b"x"
    while server._crash is None:
        pass
    for client in clients[:free]:
        client.close()  # which makes room, here and there
    for client in clients[free : 2 * free]:
        assert client.recv(1) == b"x"
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for client in clients[2 * free :]:
        assert client.recv(1) == b"x"
    assert len(server.connections) == 20
    print(server.port, max(spare) + 1, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""


@pytest.mark.parametrize("free", [0, 3])
def test_where_there_are_no_descriptors_it_accepts_again_as_soon_as_there_are(free: int) -> None:
    script = NO_DESCRIPTORS.format(free=free)
    ended = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    port, limit, most = ended.stdout.split()
    assert ended.stderr.splitlines()[-1:] == [
        f"faultkit.errors.Unable: port {port}, connection {free + 1}: no descriptor is left of the {limit} that this process "
        f"may have (EMFILE, too many open files): `ulimit -n {most}` allows more, or close what is open"
    ], ended.stderr


def test_a_thread_that_cannot_start_says_why() -> None:
    script = """
import os, resource, faultkit
serving = faultkit.serve()
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
free = os.open(os.devnull, os.O_RDONLY)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + {more}, limit[1]))
try:
    with serving:
        print("opened")
except faultkit.Unable as error:
    print(str(error).partition(" of the ")[0])
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
with faultkit.serve():
    print("and later it can")
"""
    for more in range(5):
        ended = subprocess.run(
            [sys.executable, "-c", script.format(more=more)], cwd=CHECKOUT, capture_output=True, text=True, timeout=20
        )
        assert ended.stdout.splitlines() == [
            "the servers cannot have a thread: no descriptor is left",
            "and later it can",
        ], (more, ended)


FORK = """
import os, socket, sys, faultkit
with faultkit.serve() as server, faultkit.serve("linger") as armed:
    child = os.fork()
    if child == 0:
        try:
            server.heal()
        except faultkit.Misuse as error:
            print(error, flush=True)
        with faultkit.serve() as own, socket.create_connection(own.address) as plain:
            plain.sendall(b"own")
            print(plain.recv(3), flush=True)
    else:
        assert os.waitpid(child, 0)[1] == 0
        print(child, flush=True)
        with socket.create_connection(server.address) as plain, socket.create_connection(armed.address) as other:
            plain.sendall(b"ours")
            other.sendall(b"x")
            print(plain.recv(4), flush=True)
"""


def test_a_forked_child_serves_its_own_and_leaves_its_parents_alone() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.stderr == ""
    told, own, child, ours = ended.stdout.splitlines()
    assert told.startswith("the server runs in process ")
    assert told.endswith(", which this one was forked from: use it there")
    assert (own, ours) == ("b'own'", "b'ours'")
    assert child.isdigit()


def crowd(serving: Server, clients: int, play: Callable[[Client], str]) -> Counter[str]:
    """So many at once, and what each was told."""
    told: Counter[str] = Counter()
    begin = threading.Barrier(clients)

    def one() -> None:
        begin.wait()
        with client(serving) as plain:
            told[play(plain)] += 1

    together = [threading.Thread(target=one) for _ in range(clients)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    return told


def send_and_read(plain: Client) -> str:
    plain.send(b"x")
    return plain.recv()


@pytest.mark.parametrize(
    ("name", "told"), [("linger", "ECONNRESET"), ("unread", "ECONNRESET"), ("late-write", "EOF"), (None, "x")]
)
def test_two_hundred_clients_at_once(name: str | None, told: str) -> None:
    with faultkit.serve(name) as serving:
        assert crowd(serving, 200, send_and_read) == {told: 200}
        for record in serving.connections:
            record.wait_for_end()
        assert [record.number for record in serving.connections] == list(range(1, 201))
        assert {record.fired for record in serving.connections} == {name is not None}


def test_a_plan_is_exact_for_two_hundred_clients_at_once() -> None:
    with faultkit.serve(plan=["linger", "ok", "late-write", "ok"] * 50) as serving:
        assert crowd(serving, 200, send_and_read) == {"ECONNRESET": 50, "x": 100, "EOF": 50}


def test_two_hundred_live_connections_are_fired_upon_at_once() -> None:
    with armed("linger") as serving, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(serving)) for _ in range(200)]
        for plain in clients[:100]:
            assert send_and_read(plain) == "x"
        serving.fire()
        assert {plain.recv() for plain in clients} == {"ECONNRESET"}


def test_an_idle_connection_costs_little() -> None:
    """Less than 20 KiB, with a task too; the client's end of it included."""
    script = """
import os, resource, socket, faultkit
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
def kib():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
async def handler(conn):
    await conn.receive()
for answer in ("echo", handler):
    with faultkit.serve(answer=answer) as server:
        clients = []
        for count in (100, 1000):  # the first ones pay for what all share
            before = kib()
            clients += [socket.create_connection(server.address) for _ in range(count)]
            server.wait_for_connection(len(clients))
        if answer == "echo":
            for client in clients:
                client.sendall(b"x")
                client.recv(1)
        print((kib() - before) / 1000)
        for client in clients:
            client.close()
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    for line in ended.stdout.splitlines():
        assert float(line) < 20, ended.stdout


def test_nothing_is_sent_for_minutes_by_an_end_that_was_deaf() -> None:
    in_child(_deaf_end)


def _deaf_end() -> None:
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    with contextlib.ExitStack() as stack:
        with faultkit.serve("black-hole") as serving:
            plain = stack.enter_context(client(serving))
            plain.send(b"x")
            assert plain.waits()
        assert plain.recv() == "EOF"
        while listed(serving.port, "04"):  # FIN-WAIT-1
            pass
        plain.sock.close()
        while listed(serving.port, "09"):  # LAST-ACK
            pass
