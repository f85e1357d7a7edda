"""Somebody else's project: test files in a directory of their own, run by pytest with the plugin."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from faultkit import pytest_plugin
from faultkit.serving import faults, fixture

# pytester forgets what was first imported in a run of its own, so it is imported here: every cause, and what serves it.
assert faults.names() and fixture

ROOT = Path(__file__).parents[2]

INI = """
[pytest]
addopts = -p no:cacheprovider -p no:asyncio
filterwarnings = error
"""

# An installed faultkit is found by pytest itself.
FOUND = any(entry.value == pytest_plugin.__name__ for entry in entry_points(group="pytest11"))

CLIENT = """
    import socket

    def talk(server, data=b"x"):
        "Send it, and give what is told then: b'' is EOF."
        with socket.create_connection(server.address, timeout=5) as client:
            client.sendall(data)
            return client.recv(100)
"""


@dataclass
class Project:
    pytester: pytest.Pytester

    def __post_init__(self) -> None:
        self.pytester.makefile(".ini", pytest=INI)

    def write(self, tests: str, **others: str) -> None:
        """Its test file, which can `talk`, and others by name."""
        self.pytester.makepyfile(test_it=dedent(CLIENT) + dedent(tests), **{k: dedent(v) for k, v in others.items()})

    def run(self, tests: str, *arguments: str, **others: str) -> pytest.RunResult:
        """Write and run it in this process."""
        self.write(tests, **others)
        more: dict[str, Any] = {} if FOUND else {"plugins": [pytest_plugin]}
        return self.pytester.runpytest_inprocess(*arguments, **more)

    def run_apart(self, tests: str, *arguments: str, **others: str) -> pytest.RunResult:
        """Write and run it in a process of its own."""
        self.write(tests, **others)
        return self.pytester.runpytest_subprocess(*self.named, *arguments, timeout=60)

    @property
    def named(self) -> list[str]:
        """What a command line has to say for the plugin to be there."""
        return [] if FOUND else ["-p", pytest_plugin.__name__]
