"""`faultkit stack`: a cause played by real programs. Each folder of recipes/stacks is a command of it."""

from __future__ import annotations

import click

from faultkit.commands.line.played import of_stack
from faultkit.playing import stack


class Stacks(click.Group):
    """The group whose commands are the stacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return stack.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return of_stack(stack.load(cmd_name))


@click.group(
    "stack",
    cls=Stacks,
    invoke_without_command=True,
    subcommand_metavar="[NAME] [--fixed] [...]",
    short_help="a cause played by real programs, with the log lines that people meet",
)
@click.pass_context
def command(context: click.Context) -> None:
    """Play a cause with real programs in a private namespace: their log lines, the packets, the cause and the fix.

    Without a name: the stacks there are.
    """
    if context.invoked_subcommand is None:
        from faultkit.views import table
        from faultkit.views.console import console

        table.names(console(), [(name, stack.title(name)) for name in stack.names()])
