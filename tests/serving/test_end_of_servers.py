"""The end of a server: nothing is left, and nothing hangs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

import faultkit
from faultkit import HandlerCrashed, Live
from faultkit.serving import engine
from tests.ordinary import CHECKOUT
from tests.serving.client import PATIENCE, Client, client, listed, unconnected

REQUEST = b"0123456789abcdefghij"


def descriptors() -> list[str]:
    """What this process holds open, without the directory that is read for it."""
    held = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            held.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(name for name in held if "/fd" not in name)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "faultkit"]


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With a thread of its own, so that this ends too."""
    monkeypatch.setattr("faultkit.serving.entry.SHARED", engine.Thread())
    before, threads_before = descriptors(), threads()
    yield
    assert descriptors() == before
    assert threads() == threads_before


async def never_ends(conn: Live) -> None:
    await trio.sleep_forever()


# a fault or none, a handler, and what the client does before the server ends
OPEN: dict[str, tuple[str | None, Any, Callable[[Client], object]]] = {
    "nothing said": ("linger", "echo", lambda plain: None),
    "idle after an echo": (None, "echo", lambda plain: (plain.send(b"x"), plain.recv())),
    "in http": (None, "http", lambda plain: plain.send(b"GET / HT")),
    "in a handler": (None, never_ends, lambda plain: None),
    "it does not read what it is sent": (None, bytes(20_000_000), lambda plain: plain.send(b"x")),
    "draining": ("accept-then-close", "echo", lambda plain: plain.recv()),
    "half closed": ("half-close", "echo", lambda plain: (plain.send(b"x"), plain.recv())),
    "stalled": ("stall", "echo", lambda plain: plain.send(b"x")),
    "a black hole": ("black-hole", "echo", lambda plain: plain.send(b"x")),
    "a zero window": ("zero-window", "echo", lambda plain: plain.send(bytes(100_000))),
    "slow": ("slow:1", "echo", lambda plain: (plain.send(REQUEST), plain.recv(1))),
    "garbage that nobody reads": ("garbage:20000000", "echo", lambda plain: (plain.send(b"x"), plain.recv(1))),
    "a full backlog": ("backlog-full", "echo", lambda plain: None),
    "a wait for its idle time": ("idle-firewall", "echo", lambda plain: plain.send(b"x")),
}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("state", OPEN)
def test_nothing_is_left_and_nothing_hangs(state: str) -> None:
    name, answer, play = OPEN[state]
    with contextlib.ExitStack() as stack:
        with faultkit.serve(name, answer=answer, must_be_met=False) as server:
            for _ in range(3):
                plain = stack.enter_context(unconnected(server, timeout=1))
                if state != "a full backlog":
                    plain.connect(server.address)
                    play(plain)
        assert all(record.ended for record in server.connections)


@pytest.mark.usefixtures("nothing_left")
def test_nothing_is_left_of_tls() -> None:
    with faultkit.serve(tls=True, must_be_met=False) as server:
        path = server.ca_file
        assert os.path.exists(path)
        with client(server) as silent, client(server) as plain:
            server.wait_for_connection(2)
            with server.client_context.wrap_socket(plain.sock, server_hostname="localhost") as ours:
                ours.sendall(b"x")
                assert ours.recv(1) == b"x"
            silent.send(b"no")
    assert not os.path.exists(path)


@pytest.mark.usefixtures("nothing_left")
async def test_nothing_is_left_in_the_loop_of_the_test() -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with faultkit.serve(answer=never_ends) as server:
        stream = await trio.open_tcp_stream(*server.address)
        await server.await_connection()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        for _ in range(100):
            await stream.send_all(bytes(100_000))
    await stream.aclose()


def test_a_handler_that_will_not_end_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faultkit.serving.sessions.PATIENCE", 0.1)
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    monkeypatch.setattr("faultkit.serving.entry.SHARED", engine.Thread())
    ended = threading.Event()

    async def shielded(conn: Live) -> None:
        await conn.receive()
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        finally:
            ended.set()

    with pytest.raises(HandlerCrashed) as crashed, faultkit.serve(answer=shielded) as serving, client(serving) as plain:
        plain.send(b"x")
        serving.wait_for_connection()
        while serving.connections[0].received == 0:
            pass
    sentence = (
        r"connection 1: TimeoutError: it did not end within 0.1 s of being cancelled, at test_end_of_servers.py:\d+"
    )
    assert re.fullmatch(sentence, str(crashed.value))
    assert ended.wait(PATIENCE)  # it is cancelled for all that


SCRIPT = """
import contextlib, socket, sys, faultkit
with faultkit.serve({fault!r}, must_be_met=False) as server, contextlib.ExitStack() as stack:
    print(server.port, flush=True)
    {wait}
"""


@pytest.mark.parametrize(
    "wait",
    [
        "server.wait_for_connection(timeout_seconds=60)",
        "stack.enter_context(socket.create_connection(server.address)).recv(1)",
        "server._engine.wait_for(__import__('trio').sleep_forever)",
    ],
)
def test_ctrl_c_in_the_middle(wait: str) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(fault="stall", wait=wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert running.stdout is not None
    port = int(running.stdout.readline())
    if "create_connection" in wait:
        while not listed(port, "01"):  # ESTABLISHED
            pass
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert errors.count("Traceback") == 1, errors
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))
