"""`faultkit explain`: why did the connections in this capture die?"""

from __future__ import annotations

import gc
import os
import stat
import sys
from typing import IO, TYPE_CHECKING

import click

from faultkit.commands.line import completion
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.streams import size
from faultkit.commands.line.values import json_flag, whole
from faultkit.errors import Misuse

if TYPE_CHECKING:
    from faultkit.explaining.diagnosis import Diagnosis

GARBAGE = 200_000  # objects made until cycles are looked for; arbitrary


@click.command("explain", short_help="why the connections in a capture died")
@click.argument("capture", shell_complete=completion.file)
@click.option("--connection", type=whole, metavar="N", help="this one alone, whole")
@click.option(
    "--html", shell_complete=completion.file, metavar="FILE", help="a page of it, in one file; - is standard output"
)
@click.option(
    "--svg", shell_complete=completion.file, metavar="FILE", help="the ladder of the --connection as a picture"
)
@json_flag
def command(capture: str, connection: int | None, html: str | None, svg: str | None, as_json: bool) -> int:
    """What died in a capture (pcap, pcapng, gzip or zstd; or rows of tcpdump, tshark or Wireshark), why, and who did it.

    CAPTURE is a file, or - for standard input. Exit status 1 where the capture is damaged or cut.
    """
    gc.set_threshold(GARBAGE)  # packets are no cycles: looking through them for some takes a tenth of the time
    from faultkit.explaining.explain import Explaining
    from faultkit.views import diagnoses, progress
    from faultkit.views.console import remark

    if svg is not None and connection is None:
        raise Misuse("explain: --svg draws one connection: say which with --connection N")
    if html == "-" and as_json:
        raise Misuse("explain: --html - and --json would both be written to standard output: give --html a file")
    with _opened(capture) as stream:
        told = not as_json and html is None and svg is None and connection is None and is_pipe(stream)
        with progress.amount("explain", size(stream)) as step:
            work = Explaining(stream, step, live=told, wanted=connection)
            found = work.all(_tell if told else None)
    chosen = [d for d in found if connection in (None, d.connection.number)]
    if not chosen and connection is not None:
        raise Misuse(f"explain: there is no connection {connection}: it takes 1 to {len(found)}")
    if html is not None or svg is not None:
        from faultkit.views import page

        if html == "-":
            click.echo(page.diagnoses(chosen, work.seen, capture), nl=False)
        elif html is not None:
            page.write(html, page.diagnoses(chosen, work.seen, capture))
        if svg is not None:
            page.write(svg, page.ladder_file(chosen[0]))
    if as_json:
        for piece in diagnoses.written(chosen, work.seen):
            click.echo(piece, nl=False)
    elif html is None and svg is None:
        width = _width()
        lines = (
            diagnoses.report(chosen, work.seen, width)
            if connection is None
            else diagnoses.explained(chosen[0], 1, width, full=True)
        )
        for line in lines:
            click.echo(line)
    if work.seen.ended:
        remark(f"faultkit: explain: {work.seen.ended}; what comes before it is explained")
        return OTHERWISE
    return PRODUCED


def _tell(diagnosis: Diagnosis) -> None:
    """One connection, as soon as it is over: whoever captures now waits for it."""
    from faultkit.views import diagnoses

    click.echo(diagnoses.line(diagnosis))
    sys.stdout.flush()


def is_pipe(stream: IO[bytes]) -> bool:
    """Does it come from a program that is still writing, perhaps?"""
    return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)


def _width() -> int:
    import shutil

    return max(shutil.get_terminal_size().columns, 40) if sys.stdout.isatty() else 100


def _opened(capture: str) -> IO[bytes]:
    if capture == "-":
        return sys.stdin.buffer
    try:
        return open(capture, "rb")  # by the caller's with
    except OSError as error:
        raise Misuse(
            f"explain: {capture} cannot be read ({error.strerror}): name a capture, or - for standard input"
        ) from error
