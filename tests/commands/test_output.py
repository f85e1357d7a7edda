"""Where the output goes: pipes, terminals, full disks, closed streams, and readers that have gone."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.shell import (
    ENVIRONMENT,
    USERS,
    faultkit,
    line,
    on_terminal,
)

every_user = pytest.mark.parametrize("user", USERS)


OUTPUTS = [
    "",
    "--help",
    "list",
    "list --json",
    "doctor",
    "doctor --json",
    "recipe",
    "recipe idle-firewall",
    "linger",
    "linger --help",
    "linger --json",
    "linger --packets",
    "linger --repeat 5",
    "linger --repeat 5 --json",
]


@pytest.mark.parametrize("typed", OUTPUTS)
def test_a_reader_that_has_gone(typed: str) -> None:
    """As `| true`: not a word, and not the exit status of something else seen."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = faultkit(*typed.split(), stdout=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_reader_that_takes_one_line() -> None:
    shell = " ".join(line("list")) + " | head -1; echo ${PIPESTATUS[0]}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[0] == "application: a program's own close"
    assert ended.stdout.splitlines()[1] in ("0", "141")
    assert ended.stderr == ""


# One for each way of printing.
FEW_OUTPUTS = ["--help", "list", "doctor --json", "linger", "linger --packets"]


@pytest.mark.parametrize("typed", FEW_OUTPUTS)
def test_a_disk_that_is_full(typed: str) -> None:
    with open("/dev/full", "w") as full:
        ended = faultkit(*typed.split(), stdout=full)
    assert (ended.returncode, ended.stderr) == (
        3,
        "faultkit: the output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("typed", FEW_OUTPUTS)
def test_an_output_that_is_closed(typed: str) -> None:
    ended = faultkit(*typed.split(), preexec_fn=lambda: os.close(1))
    assert (ended.returncode, ended.stderr) == (3, "faultkit: the output cannot be written: Bad file descriptor\n")


def test_all_streams_closed() -> None:
    assert faultkit("linger", "--quiet", preexec_fn=lambda: os.closerange(0, 3)).returncode == 0
    assert faultkit("linger", preexec_fn=lambda: os.closerange(0, 3)).returncode == 3
    closed = faultkit("lingr", preexec_fn=lambda: os.close(2))
    assert (closed.returncode, closed.stdout) == (2, "")


@pytest.mark.parametrize("typed", ["", "list", "doctor", "recipe", "linger --repeat 3"])
def test_other_commands_in_a_pipe(typed: str) -> None:
    ended = faultkit(*typed.split())
    assert (ended.returncode, ended.stderr) == (0, "")
    for told in ended.stdout.splitlines():
        assert "\x1b" not in told
        assert len(told) <= 80, told
        assert told == told.rstrip(), told


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_there_is_colour(columns: int) -> None:
    status, told = on_terminal("linger", columns=columns)
    assert status == 0
    assert "\x1b[1;32m✔ Produced as promised.\x1b[0m" in told
    assert re.search("\x1b\\[1;31m.*RST,ACK", told)
    plain = re.sub("\x1b\\[[0-9;]*m", "", told)
    assert "\x1b" not in plain
    longest = max(map(len, plain.splitlines()))
    assert columns - 20 < longest <= columns


def test_columns_of_the_environment() -> None:
    ended = faultkit("linger", env=ENVIRONMENT | {"COLUMNS": "120"})
    assert 100 < max(map(len, ended.stdout.splitlines())) <= 120
    assert on_terminal("list", columns=80, environment={"NO_COLOR": "1"})[1].count("\x1b[3") == 0


@pytest.mark.parametrize("language", [{"LANG": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_terminal_without_unicode(language: dict[str, str]) -> None:
    for typed in ("linger", "linger --json", "linger --packets", "list", "doctor", "linger --repeat 2"):
        ended = faultkit(*typed.split(), env=ENVIRONMENT | language)
        assert (ended.returncode, ended.stderr) == (0, ""), typed
        assert "?" not in ended.stdout
        if "--json" in typed:
            assert json.loads(ended.stdout)["verdict"]["produced"] is True
