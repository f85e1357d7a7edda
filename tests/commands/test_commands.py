"""One file, one command: found by itself, imported when it runs, and above everything else."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faultkit import causes, commands
from tests.ordinary import CHECKOUT
from tests.shell import ENVIRONMENT, faultkit

PACKAGE = CHECKOUT / "faultkit"
GREETING = '''
import click

@click.command("say-hello", short_help="a greeting")
def command() -> int:
    """Greet."""
    click.echo("hello")
    return 1
'''


@pytest.mark.parametrize("name", commands.names())
def test_a_file_is_a_command_that_says_what_it_does(name: str) -> None:
    command = commands.load(name)
    assert command.short_help
    assert command.help
    assert name not in causes.names()


def test_one_file_more_is_one_command_more(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "faultkit", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "faultkit/commands/say_hello.py").write_text(GREETING)

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "faultkit", *words]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)

    said = typed("say-hello")
    assert (said.returncode, said.stdout, said.stderr) == (1, "hello\n", "")
    assert "  say-hello " in typed("--help").stdout
    assert typed("say-helo").stderr == "faultkit: there is no cause 'say-helo': did you mean say-hello?\n"


@pytest.mark.parametrize(
    ("typed", "imported"),
    [("linger --quiet", set()), ("list", {"list"}), ("nest 30 60", {"nest"}), ("which --saw 'recv EOF'", {"which"})],
)
def test_only_the_one_that_runs_is_imported(typed: str, imported: set[str]) -> None:
    words = typed.replace("'", "").split(maxsplit=2) if "'" in typed else typed.split()
    program = (
        f"import sys; sys.argv = ['faultkit', *{words!r}]\n"
        "from faultkit.__main__ import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT)
    there = {name.rpartition(".")[2] for name in ended.stderr.split() if name.startswith("faultkit.commands.")}
    assert there & set(commands.names()) == imported


def test_explain_needs_nothing_that_plays(tmp_path: Path) -> None:
    capture = tmp_path / "race.pcap"
    assert faultkit("keepalive-race", "--fin", "in-flight", "--pcap", str(capture), "--quiet").returncode == 0
    program = (
        f"import sys; sys.argv = ['faultkit', 'explain', {str(capture)!r}]\n"
        "from faultkit.__main__ import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT)
    assert "Remedy: let timeouts nest" in ended.stdout
    assert not {"trio", "h11", "dpkt", "faultkit.cause"} & {*ended.stderr.split()}


def imports(file: Path) -> set[str]:
    """What a file imports, wherever it does, for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_nothing_imports_a_command() -> None:
    for file in PACKAGE.rglob("*.py"):
        above = (PACKAGE / "commands") in file.parents or file == PACKAGE / "__main__.py"
        assert above or not {name for name in imports(file) if name.startswith("faultkit.commands")}, file
    # What they share knows none of them by name, and they know nothing of each other.
    known = {f"faultkit.commands.{file.stem}" for file in (PACKAGE / "commands").glob("[a-z]*.py")}
    for file in (PACKAGE / "commands").rglob("*.py"):
        assert not imports(file) & known, file
