"""A stack as its command tells of it in JSON."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from faultkit.playing import stack
from faultkit.playing.stack import Stack
from tests.shell import faultkit


def document(name: str, *typed: str, user: str = "") -> dict[str, Any]:
    """Played once, as promised."""
    ended = faultkit("stack", name, "--json", *typed, user=user)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    return told


def requests(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Each with what came of it."""
    return [(one["request"], one["outcome"]) for one in told["transcript"]["exchanges"]]


def lines(told: dict[str, Any], program: str) -> list[str]:
    """What that program printed."""
    return [line["text"] for line in told["transcript"]["lines"] if line["program"] == program]


def resets(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Who resets whom, with the flags of the segment."""
    roles = told["transcript"]["roles"]
    return [
        (packet["from"], roles[packet["destination"]], ",".join(packet["flags"]))
        for packet in told["transcript"]["packets"]
        if "RST" in packet["flags"]
    ]


def edited(directory: Path, name: str, file: str, old: str, new: str) -> Stack:
    """That stack with one text of its file, and of the fixed one, replaced by another."""
    found = stack.load(name)
    folder = directory / name
    shutil.copytree(found.folder, folder)
    changed = 0
    for path in (folder / file, folder / "fixed" / file):
        if path.exists() and old in (text := path.read_text()):
            path.write_text(text.replace(old, new))
            changed += 1
    assert changed, f"{old!r} is nowhere in {file}"
    return replace(found, folder=folder)
