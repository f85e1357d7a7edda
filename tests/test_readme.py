"""The README says what is there, and its examples run."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from faultkit import causes
from faultkit import commands as catalogued
from faultkit.commands.line import options, status
from faultkit.commands.line.group import faultkit
from faultkit.commands.line.played import of_stack
from faultkit.playing import stack
from tests import readme
from tests.gallery import bug

COMMANDS, PYTHON = ((readme.DOCS / name).read_text() for name in ("commands.md", "python.md"))
CI_RUN = (readme.ROOT / ".ci/run").read_text().splitlines()
SET_UP, TEST, REGENERATE = ".ci/setup && .venv/bin/faultkit linger", ".ci/test", ".venv/bin/python -m tests.readme"


def table(header: str) -> list[tuple[str, str]]:
    """The rows of the table that begins with that cell: first cell, rest."""
    _, _, after = COMMANDS.partition(f"| {header} | |\n|---|---|\n")
    rows = re.match(r"(\|.*\|\n)+", after)
    assert rows, header
    cells = (re.split(r"(?<!\\)\|", row.strip("| ")) for row in rows[0].splitlines())
    return [(cell.strip().replace("\\|", "|"), rest[0].strip() if rest else "") for cell, *rest in cells]


def flags(parameters: list[click.Parameter]) -> set[str]:
    return {name for parameter in parameters for name in parameter.opts if name.startswith("--")}


def common() -> set[str]:
    return flags([*options.common(), *options.where()])


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with `faultkit` on the PATH as a user has it, whoever installed it and where."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    command = binaries / "faultkit"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={readme.ROOT} exec {sys.executable} -m faultkit "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(binaries), prepend=os.pathsep)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def run(file: Path, where: Path) -> str:
    ended = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", str(file)], cwd=where, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


every_page = pytest.mark.parametrize(
    "page", [*readme.PAGES, readme.DOCS / "architecture.md"], ids=lambda page: page.name
)


@every_page
def test_generated_parts_are_up_to_date(page: Path) -> None:
    text = page.read_text()
    assert readme.written_anew(text) == text, f"to write them anew: {REGENERATE}"


def test_every_example_and_table_is_shown_once() -> None:
    examples = {file.name for file in readme.EXAMPLES.iterdir() if file.is_file()} - {"__init__.py", "conftest.py"}
    shown = [name for page in readme.PAGES for name in readme.names(page.read_text())]
    bugs = {shown.file.name for shown in bug.known()}
    assert sorted(name for name in shown if name not in bugs) == sorted({*examples, *readme.TABLES})


def test_every_other_block_is_a_command_that_is_known_here() -> None:
    text = "".join(page.read_text() for page in (readme.README, readme.DOCS / "architecture.md"))
    blocks = re.findall(r"^```(.*?)\n(.*?)^```$", readme.PART.sub("", text), re.DOTALL | re.MULTILINE)
    assert blocks == [("sh", SET_UP + "\n"), ("sh", TEST + "\n"), ("sh", REGENERATE + "\n")]


def test_the_first_page_stays_one() -> None:
    assert len(readme.README.read_text().splitlines()) <= 255


def test_ci_runs_the_test_command() -> None:
    assert any(line.split(" ||")[0] == TEST for line in CI_RUN)
    assert any(line.startswith(".ci/setup") for line in (readme.ROOT / ".ci/test").read_text().splitlines())
    for script in ("run", "setup", "test", "apt"):
        assert (readme.ROOT / ".ci" / script).stat().st_mode & stat.S_IXOTH, script


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", readme.PART.sub("", page.read_text())):
        assert (page.parent / target).exists(), target


def test_nobody_is_told_to_install_what_no_index_has() -> None:
    files = [*readme.ROOT.glob("*.md"), *readme.DOCS.glob("*.md"), *(readme.ROOT / "faultkit").rglob("*.py")]
    told = [file.name for file in files if re.search(r"pip install ['\"]?faultkit", file.read_text())]
    assert told == []


SCRIPTS = sorted(readme.EXAMPLES.glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_shell_example_runs(script: Path, commands: Path) -> None:
    printed = run(script, commands)
    told = {
        "linger.sh": "Produced as promised",
        "host.sh": "Produced as promised",
        "trace.sh": "[RST, ACK]",
        "explain.sh": "reset by the server: keepalive-race --fin in-flight; shown by the packets",
        "json.sh": "True 1",
        "which.sh": "keepalive-race, half-open: faultkit keepalive-race",
        "recipe.sh": "5432 counter drop",
        "repeat.sh": "",
        "control.sh": "hello from faultkit\ncurl: (56) Recv failure: Connection reset by peer",
        "proxied.sh": "linger            78 in    50 out  abort after",
        "serve.sh": "curl: (56) Recv failure: Connection reset by peer",
    }
    assert told[script.name] in printed
    assert printed or script.name == "repeat.sh"


def shape(printed: str) -> list[object]:
    """What stays when times and chance go: which of two ends' calls comes first, and who may read the reset reasons."""
    head, ladder, verdict, evidence, who, *rest = printed.strip().split("\n\n")
    rungs: list[str] = []
    for line in ladder.splitlines()[1:]:
        time, event = line[:10], line[10:]
        if time.strip():
            assert re.fullmatch(r" +\d+\.\d{3}", time), line
            rungs.append(event.strip())
        else:
            rungs[-1] += " " + event.strip()
    seen = [line for line in evidence.splitlines() if "reset reasons" not in line and not line.startswith(" " * 10)]
    return [
        head.replace("private user and network", "private network"),
        ladder.splitlines()[0],
        sorted(rungs),
        verdict,
        seen,
        who.splitlines()[0],
        rest,
    ]


def test_the_output_it_shows_is_what_a_run_prints(commands: Path) -> None:
    printed = readme.beginning(run(readme.EXAMPLES / "linger.sh", commands))
    assert shape(printed) == shape((readme.EXAMPLES / "linger.txt").read_text())


def test_the_cheat_sheet_names_every_command_and_its_flags() -> None:
    told: dict[str, set[str]] = {}
    for cell, _ in table("command"):
        for command in re.findall(r"`faultkit ?([^`]*)`", cell):
            word = command.split(" ")[0] if command[:1].islower() or command.startswith("CAUSE") else ""
            told.setdefault(word, set()).update(re.findall(r"--[a-z0-9-]+", command))
    there = {name: flags(catalogued.load(name).params) for name in catalogued.names()}
    there["stack"] |= flags(options.common()) | {"--fixed"}
    assert told == {**there, "CAUSE": set(), "": {*flags(faultkit.params), "--help"}}


def test_the_cheat_sheet_names_every_flag_that_all_causes_take() -> None:
    told = [flag for cell, _ in table("every CAUSE takes") for flag in re.findall(r"--[a-z0-9-]+", cell)]
    assert sorted(told) == sorted(common())
    for cause in causes.names():
        command = faultkit.get_command(click.Context(faultkit), cause)
        assert command is not None
        own = re.search(rf"^\| `{cause}` \| (.*) \|$", readme.part("flags"), re.MULTILINE)
        assert own
        assert flags(command.params) - common() == set(re.findall(r"--[a-z0-9-]+", own[1])), cause


def test_the_table_of_stacks_names_every_flag() -> None:
    for name in stack.names():
        command = of_stack(stack.load(name))
        own = re.search(rf"^\| `{name}` \| .* \| (.*) \|$", readme.part("stacks"), re.MULTILINE)
        assert own
        assert flags(command.params) - flags(options.common()) - {"--fixed"} == set(
            re.findall(r"--[a-z0-9-]+", own[1])
        ), name


def test_the_cheat_sheet_has_every_exit_status() -> None:
    statuses = [value for name, value in vars(status).items() if name.isupper()]
    assert [int(number) for number, _ in table("exit status")] == statuses


def test_the_verbs_it_names_are_there() -> None:
    from faultkit import sockets

    paragraph = PYTHON.partition("`faultkit.sockets` has the verbs.")[2].partition("<!--")[0]
    verbs = set(re.findall(r"`([a-z_]+)`", paragraph))
    public = {
        name
        for name, thing in vars(sockets).items()
        if name.islower() and not name.startswith("_") and getattr(thing, "__module__", "") == sockets.__name__
    }
    assert verbs == public
