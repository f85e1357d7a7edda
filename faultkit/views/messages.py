"""What clients said, and what a pasted message is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from faultkit.views import candidates, report, table
from faultkit.views.console import paragraph, whole
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from faultkit.clients.known import Known
    from faultkit.clients.play import Seen
    from faultkit.clients.program import Client
    from faultkit.clients.reading import Reading
    from faultkit.stage import Stage

_ENDINGS = {"fault": "", "limit": " (the client's own limit ends it)", "kernel": " (the kernel's timers end it)"}


def show(
    console: Console, stage: Stage, versions: Mapping[str, str], missing: Sequence[Client], seen: Sequence[Seen]
) -> None:
    """A table for each fault."""
    paragraph(console, report.setting(stage))
    paragraph(console, ", ".join(f"{name} {version}" for name, version in versions.items()))
    for client in missing:
        paragraph(console, f"{client.name} is not here: {client.package}")
    parts = [
        (partial(_heading, console, *key), [(one.client, _exit(one), _connects(one), _said(one)) for one in rows])
        for key, rows in itertools.groupby(seen, key=lambda one: one.key)
    ]
    columns = [Column(), Column(), Column(), Column(prose=True)]
    table.groups(console, columns, parts, indent=1, gap=1)
    if not stage.namespace:
        console.print()
        paragraph(console, "The kernel's timers (ETIMEDOUT) are not waited for on a host: they take minutes there.")


def _heading(console: Console, fault: str, ending: str, method: str) -> None:
    console.print()
    told = f"{fault}{' to a POST' if method == 'POST' else ''}{_ENDINGS[ending]}"
    paragraph(console, told, drawn={fault: "cyan"})


def _exit(one: Seen) -> str:
    return "" if one.code is None else f"exit {one.code}"


def _connects(one: Seen) -> str:
    if not one.connections:
        return "not counted"
    return "connects once" if one.connections == (1,) else f"connects {' or '.join(map(str, one.connections))} times"


def _said(one: Seen) -> Text:
    from rich.text import Text

    if not one.met:
        return Text("does not meet it", "red")
    if one.answered:
        return Text("\n".join([*one.lines, "(has its answer)"]))
    return Text("\n".join(one.lines) or ("(waits)" if one.code is None else "(nothing)"))


def explain(console: Console, reading: Reading) -> None:
    """What was pasted, and the causes behind it."""
    if not reading.known:
        nearest = reading.match.nearest and f"; the nearest is: {reading.match.nearest}"
        paragraph(console, f"No message that is known is in it{nearest}")
        return
    if reading.match.words:
        sentence = f'No message that is known is in it, but what many programs say: "{reading.match.words}"'
        paragraph(console, sentence)
    else:
        sources = list(dict.fromkeys(_source(one, reading.match.whole) for one in reading.match.known))
        for source in sources[:3]:
            paragraph(console, source)
        if len(sources) > 3:
            paragraph(console, f"and {len(sources) - 3} more")
    names = whole("faultkit serve ") + ", ".join(map(whole, reading.testers)) if reading.testers else ""
    late = {"stall", "slow"} & {fault.partition(" ")[0] for fault in reading.testers}
    console.print()
    if late:
        paragraph(console, f"Most often the server has just not answered yet: {names}")
    if late and reading.found:
        console.print()
    if reading.found:
        candidates.show(console, reading.found, reading.ways)
    if names and not late:
        what = "Or a server" if reading.found else "A server"
        paragraph(console, f"{what} that does no more than this: {names}")


def _source(one: Known, whole: bool) -> str:
    says = "says" if whole else "says, with more around it"
    if one.place:
        return f"{one.program} {one.version} {says} this, by its source: {one.place}"
    return f"{one.program} {one.version} was seen to say {'this' if whole else 'this, with more around it'}"


def document(reading: Reading) -> dict[str, Any]:
    """For machines."""
    return {
        "messages": [
            {
                "program": one.program,
                "version": one.version,
                "message": one.text,
                "place": one.place or None,
                "whole": reading.match.whole,
            }
            for one in reading.match.known
        ],
        "causes": [{**told, "how": reading.ways[told["cause"]]} for told in candidates.document(reading.found)],
        "faults": list(reading.testers),
        "nearest": reading.match.nearest or None,
        "words": reading.match.words or None,
    }
