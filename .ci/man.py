"""Manual pages of faultkit and of each of its commands, causes and stacks: `.venv/bin/python .ci/man.py DIRECTORY`.

`man faultkit-linger` finds them in ~/.local/share/man/man1 or /usr/local/share/man/man1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from faultkit.commands.line.group import ABOUT, faultkit
from faultkit.version import VERSION


def loaded(group: click.Group) -> click.Group:
    """The group with its commands in it, which are loaded when they are asked for otherwise."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        group.add_command(loaded(command) if isinstance(command, click.Group) else command)
    return group


def main(directory: str) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)
    faultkit.short_help = ABOUT
    write_man_pages("faultkit", loaded(faultkit), version=VERSION, target_dir=directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
