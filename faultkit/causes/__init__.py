"""The catalogue: one file per cause, the file name is the cause. Nothing is listed by hand."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from faultkit.errors import Misuse

if TYPE_CHECKING:
    from faultkit.cause import Cause  # and all that a promise is held against, which names() and remedy() do without


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
    cause: Cause = importlib.import_module(f"faultkit.causes.{name.replace('-', '_')}").CAUSE
    assert cause.name == name
    return cause


def remedy(name: str) -> tuple[str, ...]:
    """What ends it, in the cause's own words: read from its file, so that who plays nothing loads nothing that plays."""
    text = Path(__file__).with_name(f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    description = ast.parse(text[text.rindex("\nCAUSE = ") :])
    words = next(node.value for node in ast.walk(description) if isinstance(node, ast.keyword) and node.arg == "remedy")
    return tuple(ast.literal_eval(words))


def by_family() -> list[Cause]:
    """The whole catalogue, in the order of the families, then of names."""
    from faultkit.cause import FAMILIES

    families = list(FAMILIES)
    return sorted((load(name) for name in names()), key=lambda cause: (families.index(cause.family), cause.name))
