"""What clients said to each fault."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from faultkit.views import report, table
from faultkit.views.console import paragraph
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from faultkit.clients.play import Seen
    from faultkit.clients.program import Client
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
