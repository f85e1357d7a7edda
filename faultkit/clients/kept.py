"""What clients said, kept in a file from one time to the next."""

from __future__ import annotations

import json
import os
import stat
from typing import Any, BinaryIO

from faultkit.clients.rows import clients
from faultkit.clients.scene import scenes
from faultkit.errors import Misuse, Unable, exhausted

LARGEST = 16 << 20  # bytes of a file; arbitrary: all clients at all faults take a hundredth


def opened(file: str) -> BinaryIO:
    """The file to keep it in. Raises `Misuse` where it cannot be written, or holds something else."""
    try:
        opened = open(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")  # noqa: SIM115 -- by who saves
    except OSError as error:
        raise unwritable(file, error) from error
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise Misuse(f"clients: --save {file} is no file that keeps anything: name another")
    try:
        _before(opened)
    except ValueError as error:
        opened.close()
        raise Misuse(f"clients: --save {file} holds something else, which stays as it is: name another file") from error
    return opened


def unwritable(file: str, error: OSError) -> Misuse | Unable:
    """What stands in the way of writing it."""
    return exhausted(error) or Misuse(f"clients: --save {file} cannot be written ({error.strerror}): name another file")


def _before(file: BinaryIO) -> dict[str, Any]:
    """What it holds. Raises `ValueError` where that is something else, and `OSError`."""
    file.seek(0)
    told = file.read(LARGEST + 1)
    if len(told) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    before = json.loads(told or "{}")
    if not isinstance(before, dict):
        raise ValueError("no object")
    return before


def keep(file: BinaryIO, document: dict[str, Any]) -> None:
    """Raises `OSError`, and leaves the file as it was then.

    What was not played this time stays: clients that are not here, faults that were not asked for. What the same version of
    a client has said before stays too: what is told by chance is not told each time."""
    before = _before(file)
    versions = before.get("versions", {})
    played = {_key(row) for row in document["seen"]}
    renewed = {client for client, version in document["versions"].items() if versions.get(client) != version}
    stay = [row for row in before.get("seen", ()) if row["client"] not in renewed or _key(row) not in played]
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in [*stay, *document["seen"]]:
        told = (*_key(row), row["message"], row["code"], row["answered"], row["met"])
        connections = {*kept.get(told, row)["connections"], *row["connections"]}
        kept[told] = row | {"connections": sorted(connections)}
    names, keys = [client.name for client in clients()], [scene.key for scene in scenes(own_kernel=True)]
    rows = sorted(
        kept.values(), key=lambda row: (keys.index(_key(row)[1:]), names.index(row["client"]), row["message"])
    )
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    head = {"kernel": document["kernel"], "versions": {**versions, **document["versions"]}}
    text = (json.dumps(head, indent=1)[:-2] + f',\n "seen": [\n  {lines}\n ]\n}}\n').encode()
    size = file.seek(0, os.SEEK_END)
    try:
        os.posix_fallocate(file.fileno(), 0, len(text))  # a disk that is full says so before anything is lost
    except OSError:
        file.truncate(size)
        raise
    file.seek(0)
    file.write(text)
    file.truncate(len(text))


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["client"], row["fault"], row["ending"], row["method"]
