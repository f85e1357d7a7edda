"""`faultkit clients`: what the clients found on this machine say to each fault that can be served."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from functools import partial
from typing import Any, TextIO

import trio

from faultkit.clients.play import Seen, directory_for, merged, play
from faultkit.clients.program import Client, clients
from faultkit.clients.scene import scenes
from faultkit.errors import Misuse, Unable
from faultkit.playing.run import raise_first
from faultkit.stage import Where, open_stage
from faultkit.views import progress
from faultkit.views.console import console, emit


def _wanted(names: Sequence[str]) -> list[Client]:
    there = {client.name: client for client in clients()}
    plain = {name.casefold(): client for name, client in there.items()}
    for name in names:
        if name.casefold() not in plain:
            raise Misuse(f"clients: there is no client {name!r}: it is one of {', '.join(there)}")
    return [plain[name.casefold()] for name in names] or list(there.values())


def run(
    names: Sequence[str],
    *,
    faults: Sequence[str],
    repeat: int,
    as_json: bool,
    quiet: bool,
    save: str | None,
    on: Where | None,
) -> int:
    """Play, show, save. Gives the exit status."""
    wanted = _wanted(names)
    missing = [client for client in wanted if not client.there]
    if len(missing) == len(wanted):
        raise Unable(f"clients: {'; '.join(f'{one.name} is not installed: {one.package}' for one in missing)}")
    kept = _writable(save) if save is not None else None  # open from now on: what is /dev/shm then is not what it was
    found = [client for client in wanted if client.there]
    versions = {client.name: client.version() for client in found}
    stage = open_stage(on, ipv6=False)
    played = list(scenes(own_kernel=stage.namespace is not None))
    for name in faults:
        if name not in {scene.typed for scene in played}:
            raise Misuse(f"clients: {name!r} is no fault that is played here: it is one of those of `faultkit serve`")
    played = [scene for scene in played if not faults or scene.typed in faults]
    seen: list[Seen] = []
    with directory_for(stage) as made, progress.steps(len(found) * len(played) * repeat, quiet, "clients") as step:

        def tell(one: Seen) -> None:
            step(f"{one.client}: {one.fault}")
            seen.append(one)

        try:
            # Ctrl-C comes where something waits: it leaves neither clients nor their directory behind.
            run = partial(play, stage, made, found, played * repeat, tell)
            trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
        except BaseExceptionGroup as group:
            raise_first(group)
    order = {client.name: number for number, client in enumerate(clients())}
    places = {scene.key: number for number, scene in enumerate(played)}
    seen = sorted(merged(seen), key=lambda one: (places[one.key], order[one.client], one.lines))
    document = {
        "kernel": platform.release(),
        "stage": stage.where,
        "versions": versions,
        "missing": {client.name: client.package for client in missing},
        "seen": [one.document() for one in seen],
    }
    if kept is not None:
        with kept:
            _save(kept, document)
    if as_json:
        emit(document)
    else:
        from faultkit.views import messages

        messages.show(console(), stage, versions, missing, seen)
    return 0 if all(one.met for one in seen) else 1


def _writable(file: str) -> TextIO:
    try:
        opened = open(file, "a+")  # noqa: SIM115 -- by who saves
        opened.seek(0)
        before = json.loads(opened.read() or "{}")
    except OSError as error:
        raise Misuse(f"clients: --save {file} cannot be written ({error.strerror}): name another file") from error
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise Misuse(f"clients: --save {file} holds something else, which stays as it is: name another file")
    return opened


def _save(file: TextIO, document: dict[str, Any]) -> None:
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
