"""The `faultkit` command itself, which finds all others."""

from __future__ import annotations

from typing import Any

import click

from faultkit import causes, commands
from faultkit.version import VERSION

ABOUT = "faultkit makes TCP connections fail on real sockets, on purpose, and proves what happened."


class Interior(Exception):
    """Carries an error out of a command past click, which takes BrokenPipeError and EOFError for what they are not."""


class Catalogue(click.Group):
    """The group whose commands are the causes and the commands beside them. Only the one that runs is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*causes.names(), *commands.names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in commands.names():
            return commands.load(cmd_name)
        if cmd_name not in causes.names():
            return None
        from faultkit.commands.line.played import of_cause

        return of_cause(causes.load(cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            causes.load(args[0], beside=commands.names())  # raises, with the nearest name
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The causes by family, and the commands beside them."""
        from faultkit.cause import FAMILIES

        rows = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        room = formatter.width - 6 - max(len(name) for name, _ in rows)
        told = {name: command.get_short_help_str(room) for name, command in rows}
        known = causes.by_family()
        for family, about in FAMILIES.items():
            with formatter.section(f"{family}: {about}"):
                formatter.write_dl([(one.name, told[one.name]) for one in known if one.family == family])
        with formatter.section("Commands"):
            formatter.write_dl([(name, told[name]) for name in commands.names()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OSError, EOFError) as error:
            raise Interior from error


@click.group(cls=Catalogue, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="faultkit %(version)s")
@click.pass_context
def faultkit(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        from faultkit.views import catalogue, table
        from faultkit.views.console import console, paragraph

        out = console()
        paragraph(out, ABOUT)
        out.print()
        catalogue.show(out, causes.by_family())
        out.print()
        examples = (
            ("faultkit linger", "play a cause and see it explained"),
            ("faultkit linger --help", "its options"),
            ("faultkit doctor", "what this machine can do"),
            ("faultkit recipe idle-firewall", "firewall rules to apply by hand"),
        )
        table.names(out, examples, indent=2)


faultkit.help = ABOUT
