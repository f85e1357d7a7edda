"""What a shell, `man` and `--help` know of the commands: all that there is, drawn from the catalogue."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import click
import pytest

from faultkit import causes, commands
from faultkit.cause import FAMILIES
from faultkit.clients.rows import clients
from faultkit.commands.line.group import faultkit as group
from faultkit.commands.line.main import main
from faultkit.playing import stack
from faultkit.serving import faults
from faultkit.stage import recipe
from tests.ordinary import CHECKOUT
from tests.shell import ENVIRONMENT, faultkit, line

FAULTS = {"ok", *(name for name, _, _ in faults.known())}
NAMES = {*causes.names(), *commands.names()}
FILE = {"file"}
OFFERED = [
    ("", NAMES),
    ("li", {"linger", "list", "listener-closed"}),
    ("serve ", FAULTS),
    ("serve --plan ", FAULTS),
    ("serve --plan linger,", {f"linger,{name}" for name in FAULTS}),
    ("serve --at mid", {"mid-body"}),
    ("clients --fault ", FAULTS),
    ("clients ", {client.name for client in clients()}),
    ("proxy --fault sta", {"stall"}),
    ("recipe ", set(recipe.names())),
    ("recipe --as ", {"iptables", "nft"}),
    ("stack ", set(stack.names())),
    ("stack haproxy --reset ", {"all", "idle", "nolinger", "check", "timeout-server"}),
    ("crash --request ", {"unread", "read"}),
    ("linger --on ", {"namespace", "host"}),
    ("linger --pcap ", FILE),
    ("explain ", FILE),
    ("clients --save ", FILE),
]


@pytest.mark.parametrize(("typed", "offered"), OFFERED)
def test_what_a_shell_offers(
    typed: str, offered: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *words, begun = f"faultkit {typed}".split(" ")
    monkeypatch.setenv("_FAULTKIT_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join([*words, begun]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit, match=r"^0$"):
        main([])
    told = capsys.readouterr().out.splitlines()
    kinds, values = told[0::3], [value.replace("\\:", ":") for value in told[1::3]]  # as zsh has it
    assert set(kinds if offered == FILE else values) == offered


def test_bash_completes() -> None:
    script = subprocess.run(
        line(), env={**ENVIRONMENT, "_FAULTKIT_COMPLETE": "bash_source"}, capture_output=True, check=True
    )
    ended = subprocess.run(
        ["bash", "-euc", script.stdout.decode() + "\ncomplete -p faultkit"], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "_faultkit_completion faultkit" in ended.stdout


def test_every_choice_is_offered() -> None:
    """An option that has a choice says which, whichever cause it is of."""
    for name in causes.names():
        command = group.get_command(click.Context(group), name)
        assert command
        for option in command.params:
            choices = re.fullmatch(
                r"([a-z0-9-]+)(\|[a-z0-9-]+)+", option.make_metavar(click.Context(command)).strip("[]")
            )
            if choices:
                told = [item.value for item in option.shell_complete(click.Context(command), "")]
                assert told == choices[0].split("|"), (name, option)


@pytest.mark.parametrize("name", commands.names())
def test_files_and_faults_are_offered_wherever_one_is_asked_for(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command
    context = click.Context(command)
    for parameter in command.params:
        items = parameter.shell_complete(context, "")
        if parameter.metavar == "FILE":
            assert [item.type for item in items] == ["file"], parameter
        if parameter.metavar in ("FAULT", "FAULT,..."):
            assert {item.value for item in items} == FAULTS, parameter


def test_help_is_by_family() -> None:
    told = faultkit("--help", env={**ENVIRONMENT, "COLUMNS": "200"}).stdout
    parts = dict(re.findall(r"^([A-Za-z][^\n]*):\n((?:  .*\n?)+)", told, re.MULTILINE))
    found = {name: re.findall(r"^  (\S+)", text, re.MULTILINE) for name, text in parts.items()}
    for family, about in FAMILIES.items():
        assert found[f"{family}: {about}"] == [cause.name for cause in causes.by_family() if cause.family == family]
    assert found["Commands"] == list(commands.names())


def test_every_command_has_a_manual_page(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("man", CHECKOUT / ".ci/man.py")
    assert spec and spec.loader
    man = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(man)
    kept = dict(group.commands)
    try:
        man.main(str(tmp_path))
    finally:
        group.commands = kept
    stacks = {f"stack-{name}" for name in stack.names()}
    pages = {page.name: page.read_text() for page in tmp_path.iterdir()}
    assert set(pages) == {"faultkit.1", *(f"faultkit-{name}.1" for name in (*NAMES, *stacks))}
    assert "\\-\\-plan" in pages["faultkit-serve.1"]
    assert "unread|read" in pages["faultkit-crash.1"]
