"""Every message that was seen on real sockets: messages.json."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEEN = Path(__file__).with_name("messages.json")


@dataclass(frozen=True)
class Known:
    """One message of one program, and what makes it say that."""

    program: str
    version: str
    text: str  # what differs from run to run is a word in angle brackets, as in message.py
    faults: tuple[str, ...]  # in the order of the catalogue


def seen_document() -> dict[str, Any]:
    """What is kept of `faultkit clients`."""
    document: dict[str, Any] = json.loads(SEEN.read_text())
    return document


@functools.cache
def known() -> tuple[Known, ...]:
    """All of them."""
    document = seen_document()
    told: dict[tuple[str, str], dict[str, None]] = {}
    for row in document["seen"]:
        if row["message"]:
            told.setdefault((row["client"], row["message"]), {})[row["fault"]] = None
    return tuple(
        Known(client, document["versions"][client], message, tuple(faults))
        for (client, message), faults in told.items()
    )
