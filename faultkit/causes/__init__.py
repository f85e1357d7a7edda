"""The catalogue: one file per cause, the file name is the cause. Nothing is listed by hand."""

from __future__ import annotations

import difflib
import functools
import importlib
from pathlib import Path

from faultkit.cause import FAMILIES, Cause
from faultkit.errors import Misuse


@functools.cache  # a served fault is looked up in each test
def names() -> tuple[str, ...]:
    """Every cause's name, from the files, none of them imported."""
    files = Path(__file__).parent.glob("[a-z]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


def load(name: str, beside: tuple[str, ...] = ()) -> Cause:
    """One cause by its name. Raises `Misuse` with the nearest name for an unknown one, `beside` being near ones too."""
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *beside], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "faultkit list names them all"
        raise Misuse(f"there is no cause {name!r}: {hint}")
    cause = importlib.import_module(f"faultkit.causes.{name.replace('-', '_')}").CAUSE
    assert isinstance(cause, Cause)
    assert cause.name == name
    return cause


def by_family() -> list[Cause]:
    """The whole catalogue, in the order of the families, then of names."""
    families = list(FAMILIES)
    return sorted((load(name) for name in names()), key=lambda cause: (families.index(cause.family), cause.name))
