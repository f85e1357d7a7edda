"""What to ask next, by a command that answers it."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNOWN = Path(__file__).with_name("asking.toml")
MOST = 3


@dataclass(frozen=True)
class Question:
    """One of them."""

    asks: str
    command: str
    where: str
    answers: tuple[str, ...]  # that it tells from the others


@functools.cache
def _known() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads(KNOWN.read_text("utf-8"))


def questions(answers: Sequence[str], pool: str, peer: str, told: str = "", unix: bool = False) -> list[Question]:
    """One for each of the likeliest answers, then what else tells the first; at most `MOST`. `peer` is the other end, as host and
    port, where it is known."""
    host, port = _split(peer)
    words = {"host": host or "$host", "port": port or "$port", "url": f"http://{host or '$host'}:{port or '$port'}/"}
    fits = [row for row in _known()["unix" if unix else "question"] if "pool" not in row or pool in row["pool"]]
    firsts = [next((row for row in fits if name in row["answers"]), None) for name in answers[:MOST]]
    rows = [
        *(row for row in fits if told in row.get("told", ())),
        *filter(None, firsts),
        *(row for row in fits if not set(answers[:1]).isdisjoint(row["answers"])),
    ]
    asked: dict[str, Question] = {}
    for row in rows:
        where = row["where"].format(**words | {"host": host or "the other end"})
        command = row["command"].format(**words)
        asked.setdefault(command, Question(row["asks"], command, where, tuple(row["answers"])))
    return list(asked.values())[:MOST]


def _split(peer: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.+):(\d{1,5})", peer)
    if found and "/" not in peer:
        return found[1], found[2]
    return ("", "") if "/" in peer or peer.startswith("unix:") else (peer, "")
