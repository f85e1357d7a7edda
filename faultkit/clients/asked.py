"""The clients of this machine, and what they say to the faults that can be served."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from faultkit.clients.play import Seen, directory_for, merged, play
from faultkit.clients.program import Client
from faultkit.clients.rows import clients
from faultkit.clients.scene import Scene, scenes
from faultkit.errors import Misuse, Unable
from faultkit.playing.run import raise_first
from faultkit.stage import Stage


@dataclass(frozen=True, slots=True)
class Wanted:
    """The clients that were asked for."""

    there: tuple[Client, ...]
    versions: dict[str, str]  # of those that are there, by their names
    missing: tuple[Client, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What they said, in the order of the scenes and of the clients."""

    stage: Stage
    versions: dict[str, str]
    missing: tuple[Client, ...]
    seen: list[Seen]

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "kernel": platform.release(),
            "stage": self.stage.where,
            "versions": self.versions,
            "missing": {client.name: client.package for client in self.missing},
            "seen": [one.document() for one in self.seen],
        }


def wanted(names: Sequence[str]) -> Wanted:
    """Those clients, all without a name. Raises `Misuse` for an unknown name and `Unable` where none of them is here."""
    known = {client.name.casefold(): client for client in clients()}
    for name in names:
        if name.casefold() not in known:
            every = ", ".join(client.name for client in clients())
            raise Misuse(f"clients: there is no client {name!r}: it is one of {every}")
    asked = [known[name.casefold()] for name in names] or list(known.values())
    there = tuple(client for client in asked if client.there)
    missing = tuple(client for client in asked if not client.there)
    if not there:
        raise Unable(f"clients: {'; '.join(f'{one.name} is not installed: {one.package}' for one in missing)}")
    return Wanted(there, {client.name: client.version() for client in there}, missing)


def chosen(stage: Stage, faults: Sequence[str]) -> list[Scene]:
    """The scenes of those faults, all without a name. Raises `Misuse` for a fault that is not played there."""
    every = list(scenes(own_kernel=stage.namespace is not None))
    for name in faults:
        if name not in {scene.typed for scene in every}:
            raise Misuse(f"clients: {name!r} is no fault that is played here: it is one of those of `faultkit serve`")
    return [scene for scene in every if not faults or scene.typed in faults]


def ask(stage: Stage, asked: Wanted, played: Sequence[Scene], repeat: int, step: Callable[[str], None]) -> Told:
    """Play each scene so often for each client, saying what has just been played. Ctrl-C is `KeyboardInterrupt`."""
    seen: list[Seen] = []

    def tell(one: Seen) -> None:
        step(f"{one.client}: {one.fault}")
        seen.append(one)

    try:
        # Ctrl-C comes where something waits: it leaves neither clients nor their directory behind.
        run = partial(_play, stage, asked.there, [*played] * repeat, tell)
        trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        raise_first(group)
    order = {client.name: number for number, client in enumerate(clients())}
    places = {scene.key: number for number, scene in enumerate(played)}
    told = sorted(merged(seen), key=lambda one: (places[one.key], order[one.client], one.lines))
    return Told(stage, asked.versions, asked.missing, told)


async def _play(stage: Stage, found: Sequence[Client], played: list[Scene], tell: Callable[[Seen], None]) -> None:
    with directory_for(stage) as made:
        await play(stage, made, found, played, tell)
