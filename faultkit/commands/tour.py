"""Every cause once, on one stage, and one table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faultkit import causes
from faultkit.cause import Cause, checked
from faultkit.errors import Unable
from faultkit.stage import Where, open_stage
from faultkit.witness import watching

if TYPE_CHECKING:
    from faultkit.playing.run import Outcome

Visit = tuple[Cause, "Outcome | Unable"]


def play(*, as_json: bool, ipv6: bool, on: Where | None, quiet: bool) -> int:
    """Play the catalogue. What this machine cannot play is in the table with the reason, and no failure."""
    from faultkit.playing.run import repeat
    from faultkit.views import itinerary, progress
    from faultkit.views.console import console, emit

    catalogue = causes.by_family()
    visits: list[Visit] = []
    stage = open_stage(on, ipv6=ipv6)
    with watching(stage) as seeing, progress.steps(len(catalogue), quiet, "tour") as step:
        for cause in catalogue:
            step(cause.name)
            outcomes: list[Outcome] = []
            try:
                repeat(cause, checked(cause, dict(cause.variants[0])), stage, seeing, 1, outcomes.append)
            except Unable as error:
                visits.append((cause, error))
            else:
                visits.append((cause, outcomes[0]))
        step("")
    if as_json:
        emit(itinerary.document(stage, visits))
    else:
        itinerary.show(console(), stage, visits, quiet=quiet)
    return 0 if all(isinstance(end, Unable) or end.verdict.produced for _, end in visits) else 1
