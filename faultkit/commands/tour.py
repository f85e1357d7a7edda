"""`faultkit tour`: the whole catalogue once."""

from __future__ import annotations

from typing import Any

import click

from faultkit import causes
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import ipv6_flag, json_flag, on_option, quiet_flag


@click.command("tour", short_help="every cause that this machine allows, and one table")
@json_flag
@ipv6_flag
@on_option
@quiet_flag
def command(as_json: bool, ipv6: bool, on: Any, quiet: bool) -> int:
    """Play every cause once, scaled down, and show who sent the RST, what each end saw and the kernel's reason."""
    from faultkit.stage import open_stage
    from faultkit.views import itinerary, progress
    from faultkit.views.console import console, emit
    from faultkit.witness import watching

    stage = open_stage(on, ipv6=ipv6)
    with watching(stage) as seeing, progress.steps(len(causes.names()), quiet, "tour") as step:
        from faultkit.playing.tour import as_promised, tour  # trio takes a while, and the kernel as long for the trace

        visits = tour(stage, seeing, step)
    if as_json:
        emit(itinerary.document(stage, visits))
    else:
        itinerary.show(console(), stage, visits, quiet=quiet)
    return PRODUCED if as_promised(visits) else OTHERWISE
