"""Every stack there is: really run, broken and fixed, as root and as an ordinary user; and what its folder must have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from faultkit import causes
from faultkit.acting.program import Library
from faultkit.cause import checked
from faultkit.commands.line.group import faultkit as group
from faultkit.errors import Misuse
from faultkit.playing import stack
from tests.cells import cells
from tests.ordinary import CHECKOUT
from tests.shell import USERS, faultkit, start
from tests.watch import inside, moved, until

TIMES = 5  # a cell
SEARCHES = 1  # what hunts by timing and promises nothing is played to see that it runs, and leaves nothing

every_stack = pytest.mark.parametrize("name", stack.names())
every_user = pytest.mark.parametrize("user", USERS)


@dataclass(frozen=True)
class Cell:
    stack: str
    variant: int
    user: str

    def __str__(self) -> str:
        return f"{self.stack}-{self.variant}-{self.user}"

    @property
    def options(self) -> dict[str, Any]:
        return dict(stack.load(self.stack).variants[self.variant])

    @property
    def times(self) -> int:
        return SEARCHES if "sweep" in self.options else TIMES

    @property
    def asked(self) -> dict[str, Any]:
        return {
            "cause": f"stack {self.stack}",
            "times": self.times,
            "ipv6": False,
            "on": "namespace",
            "options": self.options,
        }


CELLS = [
    Cell(name, variant, user)
    for name in stack.names()
    for variant in range(len(stack.load(name).variants))
    for user in USERS
]


@pytest.fixture(scope="module")
def conformance(request: pytest.FixtureRequest) -> Iterator[dict[Cell, Future[dict[str, Any]]]]:
    """Every selected cell, five at a time: most of them wait for a clock."""
    calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    chosen = [cell for call in calls if isinstance(cell := call.params.get("cell"), Cell)]
    with cells("tests.conform", at_once=5) as submit:
        yield {cell: submit(cell.asked, cell.user == "nobody") for cell in chosen}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_it_goes_as_promised_and_leaves_nothing(cell: Cell, conformance: dict[Cell, Future[dict[str, Any]]]) -> None:
    told = conformance[cell].result()
    assert "report" in told, told.get("otherwise", told)
    report = told["report"]
    assert report["runs"] == report["produced"] == cell.times
    assert set(report["not_seen"]) <= {"reasons"}


@every_stack
def test_what_a_stack_says_about_itself(name: str) -> None:
    found = stack.load(name)
    assert found.story
    assert found.remedy
    assert {} in found.variants
    assert {"fixed": True} in found.variants
    for variant in found.variants:
        options = checked(found, dict(variant))
        assert found.doing(options).endswith(".")
        assert found.parts(options)
        for shown in found.shows(options):
            # What it tells people to type is a command that is understood.
            cause, *flags = shown.split()
            assert causes.load(cause)
            told = group.get_command(click.Context(group), cause)
            assert told is not None
            told.make_context(cause, flags)
    # Each file of the fix differs from the one it replaces, and the diff says how.
    for file in (found.folder / "fixed").iterdir():
        assert f"+++ fixed/{file.name}" in found.fix()
        assert found.files(fixed=True)[file.name] != found.files(fixed=False).get(file.name)


def test_the_list_names_every_stack() -> None:
    ended = faultkit("stack")
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()] == stack.names()


@every_stack
def test_a_missing_program_is_exit_3_with_the_package_that_has_it(name: str) -> None:
    """Where it was is nothing that can be executed or imported, in a mount namespace that ends with the command."""
    found = stack.load(name)
    for part in found.parts(found.options()):
        path = part.path()
        assert path is not None
        over = f"--bind /dev/null {os.path.realpath(path)}"
        if isinstance(part, Library):
            over = f"-t tmpfs none {os.path.dirname(path)}"
        hidden = f'mount {over} && exec "$@"'
        typed = [sys.executable, "-m", "faultkit", "stack", name]
        ended = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", hidden, "sh", *typed],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=CHECKOUT,
        )
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr == (f"faultkit: {name}: {part.command} is not installed: {part.installer} {part.package}\n")


@every_stack
@every_user
def test_without_a_namespace_nothing_is_started(name: str, user: str) -> None:
    ended = faultkit("stack", name, user=user, denied=True)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith(f"faultkit: {name}: real programs are started in a private namespace only: ")
    assert ended.stderr.count("\n") == 1
    assert "--on" not in ended.stderr  # which a stack does not have


@every_stack
@every_user
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_whatever_ends_it_leaves_no_process_and_no_file(name: str, user: str, number: signal.Signals) -> None:
    before = sorted(os.listdir("/dev/shm"))
    running = start("stack", name, user=user)
    try:
        namespace = moved(running)
        # Its first process and one program at least, beside the command itself.
        until(lambda: len(inside(namespace)) >= 3, running)
        os.kill(running.pid, number)
        out, err = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    if number is signal.SIGINT:
        assert (running.returncode, out, err) == (130, "", "\nfaultkit: interrupted; nothing is left behind\n")
    elif number is signal.SIGTERM:
        assert (running.returncode, out, err) == (143, "", "faultkit: ended by SIGTERM; nothing is left behind\n")
    else:
        assert running.returncode == -number
    until(lambda: not inside(namespace))  # after kill -9 the kernel ends the rest in its own time
    assert sorted(os.listdir("/dev/shm")) == before


def test_an_unknown_stack_is_named_with_the_nearest() -> None:
    ended = faultkit("stack", "nginx-keepaliv")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "faultkit: there is no stack 'nginx-keepaliv': did you mean nginx-keepalive?\n"
    assert faultkit("stack", "zzzz").stderr == "faultkit: there is no stack 'zzzz': faultkit stack names them all\n"


def test_a_page_that_is_written_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"# {tmp_path.name}: it breaks\n\nStory.\n\n## What runs\n\nThings.\n")
    with pytest.raises(Misuse, match=r"must begin with .* and have the sections What runs, What to expect and The fix"):
        stack.read(tmp_path)
