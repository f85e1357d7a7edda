"""What this machine can do, for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.playing.doctor import Finding


def show(console: Console, findings: Sequence[Finding]) -> None:
    """One line for each thing that was tried, and what follows from it."""
    from rich.markup import escape

    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        indent = " " * (width + 5)
        first, *rest = textwrap.wrap(finding.said, console.width - len(indent), break_on_hyphens=False) or [""]
        mark = "[green]✔[/]" if finding.works else "[red]✘[/]"
        console.print(f"{mark}  {finding.name:<{width}}  {escape(first)}", soft_wrap=True)
        for line in rest:
            console.print(indent + escape(line), soft_wrap=True)
    if not next(finding.works for finding in findings if finding.name == "namespace"):
        console.print()
        console.print("Without a namespace causes play on the host's loopback, with black holes at")
        console.print("the sockets, no firewall.")
