"""What this machine can do, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from faultkit.views import table
from faultkit.views.console import paragraph
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.playing.doctor import Finding


def show(console: Console, findings: Sequence[Finding]) -> None:
    """One row for each thing that was tried, and what follows from it."""
    from rich.text import Text

    marks = {True: Text("✔", "green"), False: Text("✘", "red")}
    columns = (Column(), Column(), Column(prose=True))
    table.show(console, columns, [(marks[finding.works], finding.name, finding.said) for finding in findings])
    if not next(finding.works for finding in findings if finding.name == "namespace"):
        console.print()
        paragraph(
            console,
            "Without a namespace causes play on the host's loopback, with black holes at the sockets, no firewall.",
        )
