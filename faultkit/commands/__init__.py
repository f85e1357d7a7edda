"""The command line: one file per command, the file name is the command. Nothing is listed by hand.

A file has its options, and hands them to the rooms that do it: `command`, a `click.Command`, is all that is looked for in it.
What the commands share is in `faultkit.commands.line`. Every cause is a command besides, drawn from the catalogue.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


@functools.cache
def names() -> tuple[str, ...]:
    """Every command's name, from the files, none of them imported."""
    files = Path(__file__).parent.glob("[a-z]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


def load(name: str) -> click.Command:
    """One command by its name, which is one of `names()`."""
    command: click.Command = importlib.import_module(f"faultkit.commands.{name.replace('-', '_')}").command
    assert command.name == name
    return command
