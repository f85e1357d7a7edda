"""`faultkit clients`: what real clients say to each fault."""

from __future__ import annotations

from typing import Any

import click

from faultkit.commands.line import completion
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import json_flag, no_progress_flag, on_option, whole
from faultkit.errors import Misuse


@click.command("clients", short_help="what curl, Chromium, Node and others say to each fault")
@click.argument("names", nargs=-1, shell_complete=completion.client, metavar="[NAME]...")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    shell_complete=completion.fault,
    metavar="FAULT",
    help="only this one, as in faultkit serve",
)
@click.option("--repeat", type=whole, default=1, metavar="N", help="N times, for what is told by chance  [default: 1]")
@click.option("--save", shell_complete=completion.file, metavar="FILE", help="keep it, for faultkit which --message")
@on_option
@json_flag
@no_progress_flag
def command(
    names: tuple[str, ...], faults: tuple[str, ...], repeat: int, save: str | None, on: Any, as_json: bool, quiet: bool
) -> int:
    """Run the real clients that are here, or those named, against every fault that can be served: message, exit status,
    how often each connects.

    Exit status 1 where a client did not meet a fault.
    """
    if repeat < 1:
        raise Misuse(f"clients: --repeat {repeat} plays nothing: take 1 or more")
    from faultkit.clients import asked, kept
    from faultkit.stage import open_stage
    from faultkit.views import messages, progress
    from faultkit.views.console import console, emit

    wanted = asked.wanted(names)
    file = None if save is None else kept.opened(save)  # from now on: what is /dev/shm then is not what it was
    stage = open_stage(on, ipv6=False)
    scenes = asked.chosen(stage, faults)
    with progress.steps(len(wanted.there) * len(scenes) * repeat, quiet, "clients") as step:
        told = asked.ask(stage, wanted, scenes, repeat, step)
    if as_json:
        emit(told.document())
    else:
        messages.show(console(), stage, told.versions, told.missing, told.seen)
    if file is not None:
        assert save
        try:
            with file:
                kept.keep(file, told.document())
        except OSError as error:
            raise kept.unwritable(save, error) from error
    return PRODUCED if all(one.met for one in told.seen) else OTHERWISE
