"""The cells of a matrix, each in a process of its own: `with cells("tests.conform", at_once=6) as submit: submit(asked, True)`.

A process that has imported all that a cell needs is there once for each user and place, and forks for each cell, which
therefore begins at once: `python -m tests.cells tests.conform`, a cell a line.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.ordinary import CHECKOUT, command

Asked = dict[str, Any]
Told = dict[str, Any]
# What a play imports when it comes to it.
LATER = ("dpkt", "psutil", "faultkit.witness.tap", "faultkit.stage.firewall", "faultkit.playing.run")


@contextlib.contextmanager
def cells(module: str, *, at_once: int) -> Iterator[Callable[[Asked, bool], Future[Told]]]:
    """Give what begins a cell, as an ordinary user or not: `check(**asked)` of that module, which gives a JSON document."""
    mine = threading.local()
    begun: list[subprocess.Popen[str]] = []

    def forking(ordinary: bool) -> subprocess.Popen[str]:
        known: dict[bool, subprocess.Popen[str]] = vars(mine).setdefault("forking", {})
        if ordinary not in known:
            argv = command(sys.executable, "-m", "tests.cells", module, ordinary=ordinary)
            known[ordinary] = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
            )
            begun.append(known[ordinary])
        return known[ordinary]

    def run(asked: Asked, ordinary: bool) -> Told:
        running = forking(ordinary)
        assert running.stdin
        assert running.stdout
        running.stdin.write(json.dumps(asked) + "\n")
        running.stdin.flush()
        told = json.loads(running.stdout.readline())
        assert "crashed" not in told, told["crashed"]
        assert isinstance(told, dict)
        return told

    with ThreadPoolExecutor(at_once) as pool:
        yield lambda asked, ordinary: pool.submit(run, asked, ordinary)
    for running in begun:
        running.communicate()


def forked(check: Callable[..., Told], asked: Asked) -> bytes:
    """What it gives in a child, as a line."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            try:
                told = check(**asked)
            except BaseException:
                told = {"crashed": traceback.format_exc()}
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(json.dumps(told).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        line = pipe.read()
    _, status = os.waitpid(child, 0)
    return line or json.dumps({"crashed": f"it ended without a word: status {status}"}).encode() + b"\n"


def main(module: str) -> None:
    from faultkit import causes

    check = importlib.import_module(module).check
    for name in LATER:
        importlib.import_module(name)
    for name in causes.names():
        causes.load(name)
    with open(os.dup(0), "rb") as asking, open(os.dup(1), "wb") as telling:
        with open(os.devnull, "r+b") as nothing:  # the cells have no part in this
            os.dup2(nothing.fileno(), 0)
            os.dup2(nothing.fileno(), 1)
        for line in asking:
            telling.write(forked(check, json.loads(line)))
            telling.flush()


if __name__ == "__main__":
    main(sys.argv[1])
