"""`faultkit which`: from what was seen back to the causes."""

from __future__ import annotations

import sys

import click

from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import json_flag
from faultkit.errors import Misuse


@click.command("which", short_help="the causes that fit what you saw")
@click.option(
    "--saw", "told", multiple=True, metavar="CALL", help="'recv ECONNRESET', 'send EPIPE' ...; in order, if several"
)
@click.option("--after-idle", is_flag=True, help="the connection had been idle")
@click.option("--first-request", is_flag=True, help="it was the connection's first request")
@click.option("--rst-from", metavar="END", help="whose address the RST carries: client, server ...")
@click.option("--message", metavar="TEXT", help="instead: what a client, a proxy or a log said; '-' reads it")
@json_flag
def command(
    told: tuple[str, ...],
    after_idle: bool,
    first_request: bool,
    rst_from: str | None,
    message: str | None,
    as_json: bool,
) -> int:
    """Name the causes that fit what was seen, most likely first, and what tells each from the others."""
    if message is not None:
        if told:
            raise Misuse("which: --message says what was seen: leave --saw out")
        return _message(message, after_idle, first_request, rst_from, as_json)
    if not told:
        raise Misuse(
            "which: nothing was seen: say what a call gave, such as --saw 'recv ECONNRESET', or paste a --message"
        )
    from faultkit import causes
    from faultkit.clients import sighting
    from faultkit.views import candidates
    from faultkit.views.console import console, emit

    seen = sighting.Sighting(tuple(map(sighting.parse, told)), after_idle, first_request, rst_from)
    found = sighting.candidates(causes.by_family(), seen)
    if as_json:
        emit(candidates.document(found))
    else:
        candidates.show(console(), found)
    return PRODUCED if found else OTHERWISE


def _message(message: str, after_idle: bool, first_request: bool, rst_from: str | None, as_json: bool) -> int:
    from faultkit.messages import reading, unwrapping
    from faultkit.views import reading as view
    from faultkit.views.console import console, emit

    if message == "-":
        message = unwrapping.decoded(sys.stdin.buffer.read(reading.MOST * 4 + 1))
    if not message.strip():
        raise Misuse("which: --message is empty: paste the line that was printed")
    read = reading.read(message, reading.Known(after_idle, first_request, rst_from))
    if as_json:
        emit(view.document(read))
    else:
        view.show(console(), read)
    return PRODUCED if read.known else OTHERWISE
