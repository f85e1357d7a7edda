"""Imports go downwards: every module keeps to the rooms and their order as docs/architecture.md has them, for types too."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "faultkit"

# What evidence/ may not even name: it is pure.
IMPURE = ("socket", "trio", "subprocess", "asyncio", "select", "multiprocessing", "ctypes")


def rooms() -> list[list[str]]:
    """The rows of the page's table, top first: "views/", "cause.py"."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = page.split("|---|---|\n")[1].split("\n\n")[0]
    return [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in table.splitlines()]


def modules(package: Path) -> dict[str, Path]:
    """Every module by its name: "faultkit.stage" for stage/__init__.py."""
    found = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(file: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """The line and the module of each import in it, wherever it stands: at the top, in a function, under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{file}:{node.lineno}: relative imports are not read here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in known else node.module


def floor(file: Path, package: Path, rows: list[list[str]]) -> int:
    """The row of a module: 0 is the top one."""
    path = file.relative_to(package)
    name = path.parts[0] + "/" if len(path.parts) > 1 else path.name
    found = [number for number, row in enumerate(rows) if name in row]
    assert len(found) == 1, f"{path} is in {len(found)} rooms of docs/architecture.md: name each once"
    return found[0]


def upwards(package: Path, rows: list[list[str]]) -> list[str]:
    """The imports that go up, as sentences."""
    known = modules(package)
    wrong = []
    for file in known.values():
        here = floor(file, package, rows)
        for line, name in imports(file, known):
            if name in known and floor(known[name], package, rows) < here:
                wrong.append(f"{file.relative_to(package)}:{line} imports {name}")
    return wrong


def test_imports_go_downwards() -> None:
    assert upwards(PACKAGE, rooms()) == []


def test_every_room_of_the_page_is_there() -> None:
    for name in (name for row in rooms() for name in row):
        assert (PACKAGE / name).exists(), name


@pytest.mark.parametrize(
    "text",
    [
        "from faultkit.above import thing",
        "import faultkit.above.thing",
        "from faultkit import above",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from faultkit.above.thing import Thing",
        "def late():\n    from faultkit.above import thing",
    ],
)
def test_one_that_goes_up_is_found(tmp_path: Path, text: str) -> None:
    package = tmp_path / "faultkit"
    for name, inside in {"above/__init__": "", "above/thing": "from faultkit.below import it", "below": text}.items():
        file = package / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(inside)
    rows = [["above/"], ["below.py"]]
    assert [sentence.split(" imports ")[0] for sentence in upwards(package, rows)] == [
        f"below.py:{text.count(chr(10)) + 1}"
    ]


def test_evidence_is_pure() -> None:
    known = modules(PACKAGE)
    impure = [
        f"{file.name}:{line} imports {name}"
        for file in (PACKAGE / "evidence").glob("*.py")
        for line, name in imports(file, known)
        if name.split(".")[0] in IMPURE or name.split(".")[0] not in {*sys.stdlib_module_names, "faultkit"}
    ]
    assert impure == []
