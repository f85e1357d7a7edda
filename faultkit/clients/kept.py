"""What clients said, kept in a file from one time to the next."""

from __future__ import annotations

import json
from typing import Any, TextIO

from faultkit.clients.rows import clients
from faultkit.clients.scene import scenes
from faultkit.errors import Misuse, exhausted


def opened(file: str) -> TextIO:
    """The file to keep it in. Raises `Misuse` where it cannot be written, or holds something else."""
    try:
        opened = open(file, "a+")  # noqa: SIM115 -- by who saves
        opened.seek(0)
        before = json.loads(opened.read() or "{}")
    except OSError as error:
        raise exhausted(error) or Misuse(
            f"clients: --save {file} cannot be written ({error.strerror}): name another file"
        ) from error
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise Misuse(f"clients: --save {file} holds something else, which stays as it is: name another file")
    return opened


def keep(file: TextIO, document: dict[str, Any]) -> None:
    """What was not played this time stays: clients that are not here, faults that were not asked for. What the same version of
    a client has said before stays too: what is told by chance is not told each time."""
    file.seek(0)
    before = json.loads(file.read() or "{}")
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
    file.truncate(0)
    file.write(json.dumps(head, indent=1)[:-2] + f',\n "seen": [\n  {lines}\n ]\n}}\n')


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["client"], row["fault"], row["ending"], row["method"]
