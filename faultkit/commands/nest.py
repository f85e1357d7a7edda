"""`faultkit nest`: do the timeouts of a chain nest."""

from __future__ import annotations

import click

from faultkit.commands.line import completion
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import json_flag
from faultkit.errors import Misuse


@click.command("nest", short_help="do the timeouts of a chain nest, and which two race")
@click.argument("timeouts", nargs=-1, metavar="[[NAME=]TIMEOUT]...")
@click.option(
    "--file",
    shell_complete=completion.file,
    metavar="FILE",
    help="the chain as a file, a [hop] each; - is standard input",
)
@click.option("--requests", is_flag=True, help="the TIMEOUTs are request timeouts, not idle timeouts")
@click.option("--margin", default="1s", metavar="TIMEOUT", help="how far apart they must be  [default: 1s]")
@json_flag
def command(timeouts: tuple[str, ...], file: str | None, requests: bool, margin: str, as_json: bool) -> int:
    """Check timeouts that must nest, from the client to the server: `faultkit nest 30 60 65`.

    Idle timeouts of connections that are kept: each hop must give a connection up before the next one closes it. A proxy
    with two is NAME=DOWNSTREAM/UPSTREAM: `client=30 nginx=75/60 gunicorn=65`. What forgets silent connections has the name
    of its cause: `pool=600 nat-expiry=350 db=900`. A TIMEOUT is seconds, or 500ms, 2m, never, off.

    A file says more: a section for each hop, with `idle`, `idle-downstream`, `idle-upstream`, `request`, `tcp-keepalive`,
    `heartbeat` = TIMEOUT.
    """
    from faultkit.nesting import chain, nest
    from faultkit.views import nesting
    from faultkit.views.console import console, emit

    try:
        hops, apart = chain.read(timeouts, file, requests=requests), chain.duration(margin, "--margin")
        pairs, unchecked = nest.check(hops, margin=apart), nest.unchecked(hops)
    except Misuse as error:
        raise Misuse(f"nest: {error}") from None
    if as_json:
        emit(nesting.document(pairs, unchecked, apart))
    else:
        nesting.show(console(), pairs, unchecked)
    return PRODUCED if all(pair.nests for pair in pairs) else OTHERWISE
