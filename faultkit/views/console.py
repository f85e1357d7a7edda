"""Where text goes: colour on a terminal, plain in a pipe; a document for machines."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console(stream: IO[str] | None = None) -> Console:
    """A console on that stream; without one on standard output."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, emoji=False, markup=True)


def emit(document: Any) -> None:
    """One JSON document on standard output."""
    import json

    print(json.dumps(document, indent=2, ensure_ascii=False))
