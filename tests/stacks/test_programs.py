"""A stack of the test's own, with Python as its program: what a recipe has in hand, and what a wrong promise gets."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faultkit import NotProduced, Unable, check_cause
from faultkit.acting.exchange import Client
from faultkit.acting.play import Play
from faultkit.acting.program import Part
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise
from faultkit.playing.stack import Stack, stack

PYTHON = Part("python3", "python3")
HERE = Address("127.0.0.1", 8080)

PAGE = """# {name}: it breaks

The story,
in two lines.

## What runs

- One.

## What to expect

Nothing.

## The fix

- Do this,
  and that.

```sh
not shown
```
"""

# Answers each path in its own way; says so.
SERVER = """
import socket, struct, sys
listener = socket.create_server(("127.0.0.1", 8080))
print("ready", flush=True)
while True:
    connection, peer = listener.accept()
    path = connection.recv(65536).split()[1].decode()
    print("asked for", path, file=sys.stderr, flush=True)
    if path == "/half":
        connection.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhalf")
    elif path == "/until-the-end":
        connection.send(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nall of it")
    elif path == "/reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif path == "/noise":
        connection.send(b"noise\\r\\n\\r\\n")
    connection.close()
"""


def made(tmp_path: Path, script: Callable[[Play], Awaitable[None]], promise: Promise, **files: str) -> Stack:
    folder = tmp_path / "of-a-test"
    (folder / "fixed").mkdir(parents=True)
    (folder / "README.md").write_text(PAGE.format(name=folder.name))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "fixed/server.py").write_text("fixed\n")
    return stack(
        str(folder / "of_a_test.py"),
        shows=lambda options: ("linger",),
        parts=lambda options: (PYTHON,),
        doing=lambda options: "It breaks.",
        script=script,
        promise=lambda options, play: promise,
    )


async def _ask_for_everything(play: Play) -> None:
    play.programs.callers({HERE: "client"})
    server = await play.programs.start("server", PYTHON, "server.py")
    await server.said("ready")
    await server.listens(HERE)
    client = Client(play, HERE)
    for path in ("/half", "/until-the-end", "/nothing", "/reset", "/noise"):
        one = await client.request("GET", path)
        await server.said(f"asked for {path}")
        if path == "/until-the-end":
            assert one.body == b"all of it"
    server.signal(signal.SIGTERM)
    assert await server.ended() == -signal.SIGTERM
    await client.request("POST", "/gone", body=b"once")


ANSWERS = (
    "GET /half 200 then recv EOF",
    "GET /until-the-end 200",
    "GET /nothing recv EOF",
    "GET /reset recv ECONNRESET",
)
LINES = ("ready", *(f"asked for /{path}" for path in ("half", "until-the-end", "nothing", "reset", "noise")))


def test_what_becomes_of_each_request_and_what_the_program_says(tmp_path: Path) -> None:
    promise = Promise(calls={}, packets=None, resets=None, counters=None, lines={"server": LINES})
    found = made(tmp_path, _ask_for_everything, promise, server=SERVER)
    assert check_cause(found, 1).produced == 1
    with pytest.raises(NotProduced) as differs:
        check_cause(_promising(found, exchanges=[*ANSWERS, "POST /gone 200"]), 1)
    told = str(differs.value)
    assert "run 1, program, requests: expected " in told
    seen = told.partition("; seen ")[2]
    assert seen.startswith(", ".join(ANSWERS) + ", GET /noise not HTTP: ")
    assert seen.endswith(", POST /gone connect ECONNREFUSED")


def _promising(found: Stack, **promised: Any) -> Stack:
    kept: dict[str, Any] = {"calls": {}, "packets": None, "resets": None, "counters": None}
    return replace(found, promise=lambda options, play: Promise(**{**kept, **promised}))


def test_a_log_that_says_more_or_less_than_promised_is_a_difference(tmp_path: Path) -> None:
    found = made(tmp_path, _ask_for_everything, Promise(calls={}), server=SERVER)
    for lines in (LINES[:-1], (*LINES, "more"), (*LINES[:-1], "asked for /silence")):
        with pytest.raises(NotProduced, match="run 1, program, server's log: expected ready, "):
            check_cause(_promising(found, lines={"server": lines}), 1)


def test_lines_that_may_come_in_any_number_or_in_other_words(tmp_path: Path) -> None:
    found = made(tmp_path, _ask_for_everything, Promise(calls={}), server=SERVER)
    agreeing: list[tuple[str, ...]] = [
        ("ready", "asked for *"),
        ("ready", "never *", "asked for +"),
        ("set | ready", "asked for *"),
    ]
    for lines in agreeing:
        assert check_cause(_promising(found, lines={"server": lines}), 1).produced == 1
    differing: list[tuple[str, ...]] = [
        ("asked for *",),
        ("ready", "never +", "asked for *"),
        ("set | go", "asked for *"),
    ]
    for lines in differing:
        with pytest.raises(NotProduced, match="run 1, program, server's log"):
            check_cause(_promising(found, lines={"server": lines}), 1)


async def _start_what_ends(play: Play) -> None:
    server = await play.programs.start("server", PYTHON, "-c", "print('no such directive'); raise SystemExit(1)")
    await server.listens(HERE)


async def _wait_for_a_word(play: Play) -> None:
    server = await play.programs.start("server", PYTHON, "-c", "")
    await server.said("ready")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (_start_what_ends, "server ended without listening on 127.0.0.1:8080; its last words: no such directive"),
        (_wait_for_a_word, "server ended without having said 'ready'; it said nothing"),
    ],
)
def test_a_program_that_ends_too_early_is_one_sentence(
    tmp_path: Path, script: Callable[[Play], Awaitable[None]], told: str
) -> None:
    with pytest.raises(Unable) as refused:
        check_cause(made(tmp_path, script, Promise(calls={})), 1)
    assert str(refused.value) == f"of-a-test: {told}"


def test_a_stack_is_not_played_on_the_host(tmp_path: Path) -> None:
    with pytest.raises(Unable) as refused:
        check_cause(made(tmp_path, _wait_for_a_word, Promise(calls={})), 1, on="host")
    assert str(refused.value) == (
        "of-a-test: real programs are started in a private namespace only: leave --on host out"
    )


CONNECTS = """
import socket
socket.create_connection(("127.0.0.1", 8080)).recv(1)
"""


async def _be_connected_to(play: Play) -> None:
    play.programs.callers({HERE: "caller"})
    listener = play.listen(HERE.port, role="app")
    await play.programs.start("caller", PYTHON, "-c", CONNECTS)
    connection = await listener.accept()
    assert connection is not None
    connection.close()


def test_the_end_that_a_program_connects_from_has_its_name(tmp_path: Path) -> None:
    promise = Promise(
        calls={"app": ("accept ok", "close ok")},
        packets=("caller SYN", "app SYN,ACK", "app FIN,ACK", "caller FIN,ACK *"),
        counters=None,
    )
    assert check_cause(made(tmp_path, _be_connected_to, promise), 1).produced == 1


def test_what_is_read_from_the_page_and_the_files(tmp_path: Path) -> None:
    found = made(tmp_path, _wait_for_a_word, Promise(calls={}), server="broken\n", other="same\n")
    assert (found.name, found.summary, found.family) == ("of-a-test", "it breaks", "application")
    assert found.story == "The story, in two lines."
    assert found.remedy == ("Do this, and that.",)
    assert found.files(fixed=False) == {"server.py": "broken\n", "other.py": "same\n"}
    assert found.files(fixed=True) == {"server.py": "fixed\n", "other.py": "same\n"}
    assert found.fix() == "--- server.py\n+++ fixed/server.py\n@@ -1 +1 @@\n-broken\n+fixed\n"
