"""What the server writes: a JSON document a line, with the fields of toxiproxy's."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable
from typing import Any

from faultkit.proxying.proxy import Event

ENCODER = json.JSONEncoder(separators=(",", ":"))
LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "panic")
ALIASES = {"warning": "warn"}

# What a proxy tells, by its kind; everything else is traced.
HOW_LOUD = {
    "enabled": "info",
    "disabled": "info",
    "upstream down": "warn",
    "trouble": "error",
    "toxic added": "info",
    "toxic changed": "info",
    "toxic removed": "info",
    "ended": "debug",
}


class Journal:
    """Takes lines of at least a level."""

    def __init__(self, write: Callable[[str], None], level: str | None = None) -> None:
        """`level`: of LOG_LEVEL; one that is none is said, and ignored."""
        self._write = write
        told = "debug" if level is None else level.lower()
        told = ALIASES.get(told, told)
        self._least = LEVELS.index(told) if told in LEVELS else LEVELS.index("debug")
        if told not in LEVELS:
            self.add("error", f'unknown LOG_LEVEL value: "{level}"')

    def add(self, level: str, message: str, **fields: Any) -> None:
        """A line. An empty message is left out, as a request's is."""
        if LEVELS.index(level) < self._least:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {"level": level, **fields, "time": now, **({"message": message} if message else {})}
        self._write(ENCODER.encode(told))

    def told(self, event: Event) -> None:
        """Something happened to a proxy."""
        level = HOW_LOUD.get(event.kind, "trace")
        if LEVELS.index(level) >= self._least:
            number = {} if event.connection is None else {"connection": event.connection}
            self.add(level, f"{event.kind}: {event.text}" if event.text else event.kind, proxy=event.proxy, **number)


class Handler(logging.Handler):
    """What a library logs, as lines of the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warn" if record.levelno >= logging.WARNING else "trace"
        error = {"error": repr(record.exc_info[1])} if record.exc_info else {}
        self._journal.add(level, record.getMessage(), **error)
