"""What a shell offers for a value: `_FAULTKIT_COMPLETE=bash_source faultkit` gives it its side of it (click's)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
VARIABLE = "_FAULTKIT_COMPLETE"


def of(values: Callable[[], Iterable[tuple[str, str]]], *, separator: str = "") -> Completer:
    """One of these values, each with what it is; behind a separator another one of them."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, found, begun = incomplete.rpartition(separator) if separator else ("", "", incomplete)
        return [
            CompletionItem(before + found + value, help=told) for value, told in values() if value.startswith(begun)
        ]

    return complete


def choices(values: Iterable[str]) -> Completer:
    """One of these."""
    return of(lambda: [(value, "") for value in values])


def _faults() -> list[tuple[str, str]]:
    from faultkit.serving import faults

    return [("ok", "no fault"), *((name, summary) for name, summary, _ in faults.known())]


def _recipes() -> list[tuple[str, str]]:
    from faultkit.stage import recipe

    return [(name, recipe.load(name).title.partition(": ")[2]) for name in recipe.names()]


def _clients() -> list[tuple[str, str]]:
    from faultkit.clients.rows import clients

    return [(client.name, "") for client in clients()]


def file(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A file, which the shell finds."""
    return [CompletionItem(incomplete, type="file")]


fault = of(_faults)
plan = of(_faults, separator=",")
recipe = of(_recipes)
client = of(_clients)
