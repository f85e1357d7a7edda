"""Every cause once, on one stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from faultkit import causes
from faultkit.cause import Cause, checked
from faultkit.errors import Misuse, Unable
from faultkit.playing.run import Outcome, repeat
from faultkit.stage import Stage
from faultkit.witness import Witnesses

Visit: TypeAlias = tuple[Cause, Outcome | Unable]


def tour(stage: Stage, seeing: Witnesses, step: Callable[[str], None]) -> list[Visit]:
    """Play the catalogue, saying which is next. What this machine cannot play is there with the reason, and no failure."""
    visits: list[Visit] = []
    for cause in causes.by_family():
        step(cause.name)
        outcomes: list[Outcome] = []
        try:
            repeat(cause, checked(cause, dict(cause.variants[0])), stage, seeing, 1, outcomes.append)
        except Unable as error:
            visits.append((cause, error))
        except Misuse as error:  # nobody chose its options: something of this machine stands in their way
            visits.append((cause, Unable(str(error))))
        else:
            visits.append((cause, outcomes[0]))
    step("")
    return visits


def as_promised(visits: Iterable[Visit]) -> bool:
    """Was every cause produced that could be played here?"""
    return all(isinstance(end, Unable) or end.verdict.produced for _, end in visits)
