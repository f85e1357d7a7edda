"""`faultkit recipe`: firewall rules for a person to apply."""

from __future__ import annotations

from typing import Any

import click

from faultkit.commands.line import completion
from faultkit.commands.line.values import whole


@click.command("recipe", short_help="a firewall recipe, filled in for this host, to apply by hand")
@click.argument("name", required=False, shell_complete=completion.recipe)
@click.option("--port", type=whole, default=7654, metavar="N", help="the port it is about  [default: 7654]")
@click.option("--ipv6", is_flag=True, help="for IPv6")
@click.option("--as", "tool", type=click.Choice(["iptables", "nft"]), default="iptables", help="[default: iptables]")
def command(name: str | None, port: int, ipv6: bool, tool: Any) -> None:
    """Print a firewall recipe filled in for this host: apply, watch, undo, what to expect. Nothing is changed."""
    if name is None:
        from faultkit.stage import recipe
        from faultkit.views import table
        from faultkit.views.console import console

        table.names(console(), [(known, recipe.load(known).title.partition(": ")[2]) for known in recipe.names()])
    else:
        from faultkit.stage.host import filled

        click.echo(filled(name, port=port, ipv6=ipv6, tool=tool))
