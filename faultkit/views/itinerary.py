"""The table of a tour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from faultkit.errors import Unable
from faultkit.evidence.attribution import attribute
from faultkit.views import ladder, report, table
from faultkit.views.console import paragraph
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from faultkit.cause import Cause
    from faultkit.playing.run import Outcome
    from faultkit.playing.tour import Visit
    from faultkit.stage import Stage


def saw(outcome: Outcome, roles: list[str]) -> str:
    """The first bad news that side's programs were given: an errno, else EOF, else that they got none."""
    told = [call for call in outcome.transcript.calls if call.role in roles and call.outcome != "cancelled"]
    errors = [call.told for call in told if call.outcome.startswith("E") and call.outcome != "EOF"]
    ends = [call.told for call in told if call.outcome == "EOF"]
    return (errors + ends + ["no error"])[0]


def row(outcome: Outcome) -> dict[str, Any]:
    """What the table says of one run."""
    left, right = ladder.sides(outcome.transcript)
    resets = attribute(outcome.transcript)
    return {
        "rst_by": list(dict.fromkeys(one.by for one in resets)),
        "client": saw(outcome, left),
        "server": saw(outcome, right),
        "reasons": list(
            dict.fromkeys(one.reason + (" (inferred)" if one.inferred else "") for one in resets if one.reason)
        ),
        "seconds": outcome.transcript.duration,
        "produced": outcome.verdict.produced,
    }


def show(console: Console, stage: Stage, visits: Sequence[Visit], *, quiet: bool) -> None:
    """One line each; then what was not as promised."""
    if not quiet:
        paragraph(console, report.setting(stage))
        table.show(console, _COLUMNS, [_cells(cause, end) for cause, end in visits], gap=1, header=True)
        played = [end for _, end in visits if not isinstance(end, Unable)]
        produced = sum(end.verdict.produced for end in played)
        console.print(
            f"\n{produced} of {len(played)} as promised", style="bold green" if produced == len(played) else "bold red"
        )
    for cause, end in visits:
        if isinstance(end, Unable) and not quiet:
            paragraph(console, str(end))
        elif not isinstance(end, Unable) and not end.verdict.produced:
            console.print()
            console.print(cause.name, style="bold")
            report.verdict(console, end)


_COLUMNS = (
    Column(),
    Column("cause"),
    Column("RST by", prose=True),
    Column("client saw", prose=True),
    Column("server saw", prose=True),
    Column("kernel reason", prose=True, rank=2),
    Column("s", right=True, rank=1),
)


def _cells(cause: Cause, end: Outcome | Unable) -> list[str | Text]:
    from rich.text import Text

    if isinstance(end, Unable):
        return ["–", cause.name, "", "", "", "cannot be played here", ""]
    found = row(end)
    mark = Text("✔", "green") if found["produced"] else Text("✘", "red")
    resets, reasons = ", ".join(found["rst_by"]) or "nobody", ", ".join(found["reasons"])
    return [mark, cause.name, resets, found["client"], found["server"], reasons, f"{found['seconds']:.1f}"]


def document(stage: Stage, visits: Sequence[Visit]) -> dict[str, Any]:
    """For machines."""
    return {
        "stage": stage.where,
        "causes": [
            {"cause": cause.name} | ({"cannot": str(end)} if isinstance(end, Unable) else row(end))
            for cause, end in visits
        ],
    }
