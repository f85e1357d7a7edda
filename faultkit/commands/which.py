"""`faultkit which`: from what was seen back to the causes."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

import click

from faultkit.commands.line import completion
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.streams import size
from faultkit.commands.line.values import json_flag
from faultkit.errors import Misuse

if TYPE_CHECKING:
    from faultkit.messages.answering import Known


@click.command("which", short_help="the causes that fit what you saw")
@click.option(
    "--saw", "told", multiple=True, metavar="CALL", help="'recv ECONNRESET', 'send EPIPE' ...; in order, if several"
)
@click.option("--message", metavar="TEXT", help="or: what a program said, a line or a stack trace; '-' reads it")
@click.option(
    "--log",
    "log",
    shell_complete=completion.file,
    metavar="FILE",
    help="or: what failed in a log, or several; gzip, zstd; '-' reads it",
)
@click.argument("more", nargs=-1, metavar="[FILE ...]")
@click.option("--after-idle", is_flag=True, help="the connection had been idle")
@click.option("--first-request", is_flag=True, help="it was the connection's first request")
@click.option("--rst-from", metavar="END", help="whose address the RST carries: client, server ...")
@click.option("--every", type=float, metavar="SECONDS", help="it comes at this interval, or after such a pause")
@click.option("--since", metavar="WHAT", help="since what: 'the deploy', 'the new firewall' ...")
@json_flag
def command(
    told: tuple[str, ...],
    message: str | None,
    log: str | None,
    more: tuple[str, ...],
    after_idle: bool,
    first_request: bool,
    rst_from: str | None,
    every: float | None,
    since: str | None,
    as_json: bool,
) -> int:
    """Name the causes that fit what was seen, most likely first, and what tells each from the others."""
    if more and log is None:
        raise Misuse(f"which: {more[0]} is not asked for: write --log {more[0]} to read a log")
    if (bool(told), message is not None, log is not None).count(True) > 1:
        raise Misuse("which: --saw, --message and --log each say what was seen: take one of them")
    if every is not None and not 0 < every < 1e6:
        raise Misuse(f"which: --every {every:g} is no interval: it takes seconds, above 0")
    _check_end(rst_from)
    if log is not None:
        if after_idle or first_request or rst_from is not None or every is not None or since is not None:
            raise Misuse(
                "which: --log reads from the times what it can: leave the other flags out, or paste one line of it"
            )
        return _log((log, *more), as_json)
    if message is not None:
        from faultkit.messages.answering import Known

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


def _log(names: tuple[str, ...], as_json: bool) -> int:
    from faultkit.messages.log import Log, begins
    from faultkit.views import log as view
    from faultkit.views import progress
    from faultkit.views.console import console, emit

    with contextlib.ExitStack() as files:
        streams = [(name, files.enter_context(_opened(name))) for name in by_age(names)]
        if len(streams) > 1:
            began = {name: begins(stream) for name, stream in streams}
            if None not in began.values():
                streams.sort(key=lambda one: began[one[0]] or 0)
        sizes = [size(stream) for _, stream in streams]
        total = None if None in sizes else sum(one or 0 for one in sizes)
        with progress.amount("which", total) as step:
            read = Log(step)
            for name, stream in streams:
                read.read(stream, name)
    if as_json:
        emit(view.document(read))
    else:
        view.show(console(), read)
    return PRODUCED


def by_age(names: Sequence[str]) -> list[str]:
    """Rotated logs, the oldest first: `log.2.gz`, `log.1`, `log`. The others as they were named."""

    def key(name: str) -> tuple[int, int]:
        rotated = re.fullmatch(r"(.+?)\.(\d{1,5})(?:\.(?:gz|zst))?", name)
        base = rotated[1] if rotated else name
        return bases.setdefault(base, len(bases)), -int(rotated[2]) if rotated else 0

    bases: dict[str, int] = {}
    return sorted(dict.fromkeys(names), key=key)


def _opened(name: str) -> IO[bytes]:
    if name == "-":
        return sys.stdin.buffer
    try:
        return open(name, "rb")  # by the caller's stack
    except OSError as error:
        raise Misuse(f"which: {name} cannot be read ({error.strerror}): name a log, or - for standard input") from error
