"""`faultkit proxy --api`: toxiproxy's server. Its flags are those of toxiproxy, with one dash or two."""

from __future__ import annotations

from typing import Any

import click

from faultkit.commands.line.status import PRODUCED
from faultkit.commands.line.values import whole
from faultkit.errors import Misuse


class GoFlags(click.Command):
    """Takes its options as Go's flag package does too: with one dash, and `=true` or `=false` behind a switch."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {option.opts[0]: isinstance(option, click.Option) and option.is_flag for option in self.params}
        read: list[str] = []
        for written in args:
            dashed = f"-{written}" if written.startswith("-") and not written.startswith("--") else written
            name, equals, value = dashed.partition("=")
            if name not in switches:
                read.append(written)
            elif not (switches[name] and equals):
                read.append(dashed)
            elif value.lower() in ("1", "t", "true"):
                read.append(name)
            elif value.lower() not in ("0", "f", "false"):
                raise click.BadParameter(f"{value} is neither true nor false", ctx, param_hint=f"'{name}'")
        return super().parse_args(ctx, read)


@click.command("proxy --api", cls=GoFlags, short_help="toxiproxy's server, for its clients")
@click.option("--host", default="localhost", metavar="ADDRESS", help="where the API listens  [default: localhost]")
@click.option("--port", type=whole, default=8474, metavar="N", help="its port  [default: 8474; 0: a free one]")
@click.option("--config", metavar="FILE", help="proxies to begin with: the body of POST /populate")
@click.option("--seed", type=int, metavar="N", help="repeats lots, jitter and slices exactly")
@click.option("--proxy-metrics", is_flag=True, help="GET /metrics with what each proxy passed")
@click.option("--runtime-metrics", is_flag=True, help="GET /metrics with what the process takes")
@click.option("--version", is_flag=True, help="the version of toxiproxy whose API this is")
@click.option("--ui", is_flag=True, help="a page at / to see connections and switch toxics by hand")
@click.option(
    "--token", envvar="FAULTKIT_TOKEN", metavar="TEXT", help="asked of everybody  [environment: FAULTKIT_TOKEN]"
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="what clients may call it beside localhost and addresses"
)
@click.option(
    "--beyond-loopback",
    is_flag=True,
    help="services outside the own network, and listen on all addresses where none is named",
)
@click.option(
    "--upstream-down",
    type=click.Choice(["close", "reset", "refuse", "hang"]),
    default="close",
    help="what a client sees of a service that is down  [default: close]",
)
def command(version: bool, **options: Any) -> int:
    """Serve toxiproxy's HTTP API until Ctrl-C or SIGTERM, with every fault of faultkit serve as a toxic besides."""
    from faultkit.serving.optional import needed

    for library in ("starlette", "hypercorn"):
        needed(library, "proxy --api")
    from faultkit.controlling.routes import CONTRACT
    from faultkit.controlling.server import Options, run

    if version:
        click.echo(f"toxiproxy-server version {CONTRACT}")
        return PRODUCED
    if not 0 <= options["port"] <= 65535:
        raise Misuse(f"proxy: --port {options['port']} is none: it is 0 to 65535")
    if options["token"] == "":
        raise Misuse("proxy: --token is empty, which lets everybody in: leave it out, or give one")
    from faultkit.commands.line import streams

    run(Options(**options), streams.write)
    return PRODUCED
