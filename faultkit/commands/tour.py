"""Every cause once, on one stage, and one table at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from faultkit import causes
from faultkit.cause import checked
from faultkit.errors import Unable
from faultkit.stage import Where, open_stage
from faultkit.witness import watching

if TYPE_CHECKING:
    from faultkit.playing.run import Outcome
    from faultkit.views.itinerary import Visit


def play(*, as_json: bool, ipv6: bool, on: Where | None, quiet: bool) -> int:
    """Play the catalogue. What this machine cannot play is in the table with the reason, and no failure."""
    from faultkit.commands.session import console
    from faultkit.views import itinerary

    catalogue = causes.by_family()
    visits: list[Visit] = []
    stage = open_stage(on, ipv6=ipv6)
    with watching(stage) as seeing, progress(len(catalogue), quiet) as step:
        from faultkit.playing.run import repeat

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
        import json

        print(json.dumps(itinerary.document(stage, visits), indent=2, ensure_ascii=False))
    else:
        itinerary.show(console(sys.stdout), stage, visits, quiet=quiet)
    return 0 if all(isinstance(end, Unable) or end.verdict.produced for _, end in visits) else 1


@contextlib.contextmanager
def progress(total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal's standard error: call it with what is played next."""
    if quiet or not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from faultkit.commands.session import console

    columns: tuple[Any, ...] = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=total, completed=-1)

        def step(name: str) -> None:
            bar.update(task, advance=1, description=name)

        yield step
