"""`faultkit which`: from what was seen back to the causes."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import json_flag
from faultkit.errors import Misuse

if TYPE_CHECKING:
    from faultkit.messages.reading import Known


@click.command("which", short_help="the causes that fit what you saw")
@click.option(
    "--saw", "told", multiple=True, metavar="CALL", help="'recv ECONNRESET', 'send EPIPE' ...; in order, if several"
)
@click.option("--message", metavar="TEXT", help="or: what a program said, a line or a stack trace; '-' reads it")
@click.option("--after-idle", is_flag=True, help="the connection had been idle")
@click.option("--first-request", is_flag=True, help="it was the connection's first request")
@click.option("--rst-from", metavar="END", help="whose address the RST carries: client, server ...")
@click.option("--every", type=float, metavar="SECONDS", help="it comes at this interval, or after such a pause")
@click.option("--since", metavar="WHAT", help="since what: 'the deploy', 'the new firewall' ...")
@json_flag
def command(
    told: tuple[str, ...],
    message: str | None,
    after_idle: bool,
    first_request: bool,
    rst_from: str | None,
    every: float | None,
    since: str | None,
    as_json: bool,
) -> int:
    """Name the causes that fit what was seen, most likely first, and what tells each from the others."""
    if told and message is not None:
        raise Misuse("which: --message says what was seen: leave --saw out")
    if every is not None and not 0 < every < 1e6:
        raise Misuse(f"which: --every {every:g} is no interval: it takes seconds, above 0")
    _check_end(rst_from)
    if message is not None:
        from faultkit.messages.reading import Known

        return _message(message, Known(after_idle, first_request, rst_from, every, since), as_json)
    if not told:
        raise Misuse(
            "which: nothing was seen: say what a call gave, such as --saw 'recv ECONNRESET', or paste a --message"
        )
    from faultkit import causes
    from faultkit.clients import sighting
    from faultkit.messages import likely
    from faultkit.views import candidates
    from faultkit.views.console import console, emit

    seen = sighting.Sighting(tuple(sighting.parse(_named(one)) for one in told), after_idle, first_request, rst_from)
    found = sighting.candidates(causes.by_family(), seen)
    speaks = likely.causes_of(likely.hinted(every, since)[0])
    found.sort(key=lambda candidate: candidate.cause.name not in speaks)
    if as_json:
        emit(candidates.document(found))
    else:
        candidates.show(console(), found)
    return PRODUCED if found else OTHERWISE


def _named(told: str) -> str:
    """An errno by its name, where its number was typed. Numbers that only BSD has are sizes as well: that is said."""
    from faultkit.messages import errnos
    from faultkit.views.console import remark

    call, _, number = told.strip().rpartition(" ")
    if not re.fullmatch(r"-?\d+", number) or not (name := errnos.by_number(int(number))):
        return told
    if abs(int(number)) > 100:
        remark(f"faultkit: which: {number} is taken for the errno {name}, not for bytes; for bytes say '{call} n'")
        return f"{call} {name}"
    remark(f"faultkit: which: {number} is taken for bytes; for the errno say '{call} {name}'")
    return told


def _check_end(rst_from: str | None) -> None:
    if rst_from is None:
        return
    from faultkit.messages import fitting

    if rst_from not in (ends := fitting.ends()):
        raise Misuse(f"which: --rst-from {rst_from} is no end of a connection: it is one of {', '.join(sorted(ends))}")


def _message(message: str, known: Known, as_json: bool) -> int:
    from faultkit.messages import reading, unwrapping
    from faultkit.views import reading as view
    from faultkit.views.console import console, emit

    if message == "-":
        # No more than that is read, whatever comes; UTF-16 and UTF-8 take up to four bytes for a character.
        message = unwrapping.decoded(sys.stdin.buffer.read(reading.MOST * 4 + 1))
    if not message.strip():
        raise Misuse("which: --message is empty: paste the line that was printed")
    read = reading.read(message, known)
    if as_json:
        emit(view.document(read))
    else:
        view.show(console(), read)
    return PRODUCED if read.known else OTHERWISE
