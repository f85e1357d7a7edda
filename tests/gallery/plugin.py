"""What the files of the gallery have beside faultkit's own fixtures: a plugin of pytest for them alone, tests/bugs/pytest.ini."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

Ends: TypeAlias = Callable[..., bool]
Node: TypeAlias = Callable[..., str]

STATUS: pytest.StashKey[int] = pytest.StashKey()
"""How pytest ended."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", type=int, default=1, help="play each test so often")
    parser.addoption("--node", type=Path, help="the directory in which npm has installed the library")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.fixturenames.append("time")
    metafunc.parametrize("time", range(metafunc.config.getoption("--times")), ids=lambda time: f"time {time + 1}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Threads that a bug has left waiting must not keep the process."""
    sys.stdout.flush()
    os._exit(config.stash.get(STATUS, pytest.ExitCode.INTERNAL_ERROR))


@pytest.fixture
def ends() -> Ends:
    """Calls what may wait for ever, in a thread: does it come to its end, whatever that is, within 3 s?"""

    def run(call: Callable[[], object], *, within_seconds: float = 3) -> bool:
        def bounded() -> None:
            with contextlib.suppress(Exception):
                call()

        thread = threading.Thread(target=bounded, daemon=True)
        thread.start()
        thread.join(within_seconds)
        return not thread.is_alive()

    return run


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Node:
    """Runs a module of JavaScript beside the library, `node(script, server.url)`, and gives what it has printed; "hangs" where
    it does not come to its end within 3 s, which begin when all is loaded."""

    def run(script: str, *arguments: object) -> str:
        bounded = f"""setTimeout(() => {{ console.log("hangs"); process.exit() }}, 3000)\n{script}\nprocess.exit()"""
        command = ["node", "--input-type=module", "--eval", bounded, "--", *map(str, arguments)]
        where = request.config.getoption("--node")
        ended = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=60)
        return (ended.stdout + ended.stderr).strip()

    return run
