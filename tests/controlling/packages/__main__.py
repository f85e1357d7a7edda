"""Puts each client into an environment of its own, and runs its program, which fails where the client or its socket is told
something else than toxiproxy's would be."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from tests.controlling import served
from tests.ordinary import CHECKOUT

HERE = Path(__file__).parent
NODE, PYTHON = "toxiproxy-node-client@4.1.0", "toxiproxy-python==0.1.1"


def node(directory: Path) -> list[str]:
    """The command that runs the program of Node.js, with its client where it finds it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "package.json").write_text("{}")
    npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--cache", str(directory / "npm")]
    subprocess.run([*npm, "--prefix", str(directory), NODE], check=True, stdout=subprocess.DEVNULL)
    program = directory / "program.mjs"
    program.write_text((HERE / "program.mjs").read_text())
    return ["node", str(program)]


def python(directory: Path) -> list[str]:
    """The same of Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    interpreter = directory / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", PYTHON, "future"], check=True)
    return [str(interpreter), str(HERE / "program.py")]


@click.command()
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="The environments, for the next run.")
def main(keep: Path | None) -> None:
    """Run both programs, and say how that went."""
    failed = []
    with ExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, made in ((NODE, node), (PYTHON, python)):
            command = made(directory / made.__name__)
            with served.echo() as upstream, served.api("-proxy-metrics") as api:
                port = str(api.port)
                ended = subprocess.run([*command, port, upstream], cwd=CHECKOUT, timeout=120)
            click.echo(f"{name}: {'as it should be' if ended.returncode == 0 else 'FAILED'}")
            failed += [name] if ended.returncode else []
    sys.exit(bool(failed))


main()
