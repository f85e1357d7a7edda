"""What clients said, and what a pasted message is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from faultkit.views import candidates, report

if TYPE_CHECKING:
    from rich.console import Console

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
    from rich.table import Table

    console.print(report.setting(stage), highlight=False, markup=False)
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()), highlight=False, markup=False)
    for client in missing:
        console.print(f"{client.name} is not here: {client.package}", highlight=False, markup=False)
    for (fault, ending, method), rows in itertools.groupby(seen, key=lambda one: one.key):
        console.print()
        console.print(f"[cyan]{fault}[/]{' to a POST' if method == 'POST' else ''}{_ENDINGS[ending]}", highlight=False)
        table = Table("", "client", "exit", "connects", "says", box=None, pad_edge=False, show_header=False)
        table.columns[-1].overflow = "fold"
        for one in rows:
            table.add_row("", one.client, _exit(one), _connects(one), _said(one))
        console.print(table, markup=False)
    if not stage.namespace:
        console.print("\nThe kernel's timers (ETIMEDOUT) are not waited for on a host: they take minutes there.")


def _exit(one: Seen) -> str:
    return "" if one.code is None else f"exit {one.code}"


def _connects(one: Seen) -> str:
    if not one.connections:
        return "not counted"
    return "connects once" if one.connections == (1,) else f"connects {' or '.join(map(str, one.connections))} times"


def _said(one: Seen) -> Any:
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
        console.print(f"No message that is known is in it{nearest}", highlight=False, markup=False, soft_wrap=True)
        return
    if reading.match.words:
        sentence = f'No message that is known is in it, but what many programs say: "{reading.match.words}"'
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    else:
        sources = list(dict.fromkeys(_source(one, reading.match.whole) for one in reading.match.known))
        for source in sources[:3]:
            console.print(source, highlight=False, markup=False, soft_wrap=True)
        if len(sources) > 3:
            console.print(f"and {len(sources) - 3} more", highlight=False)
    names = ", ".join(reading.testers)
    late = {"stall", "slow"} & {fault.partition(" ")[0] for fault in reading.testers}
    console.print()
    if late:
        sentence = f"Most often the server has just not answered yet: faultkit serve {names}"
        console.print(sentence, highlight=False, soft_wrap=True)
    if late and reading.found:
        console.print()
    if reading.found:
        candidates.show(console, reading.found, reading.ways)
    if names and not late:
        what = "Or a server" if reading.found else "A server"
        console.print(f"{what} that does no more than this: faultkit serve {names}", highlight=False, soft_wrap=True)


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
