"""The gallery of real libraries' bugs: what the head of each file in tests/bugs/ says.

A head is a block of TOML in comments, as inline script metadata are (PEP 723), of the type `bug`.
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
BUGS = ROOT / "tests/bugs"
HEAD = re.compile(r"^# /// bug\n((?:#(?: .*)?\n)+?)# ///\n", re.MULTILINE)


@dataclass(frozen=True)
class Bug:
    """One bug of one library: the file that shows it, and what its head says.

    library        the name of the package
    buggy, fixed   a version that has the bug, and one that has it no more
    report         the bug's number: "owner/repository#1"
    seen           what the failure says on the buggy version: a test that fails of something else shows nothing
    field          the protocol under which it is listed
    registry       where the package comes from
    beside         what else it takes, as requirements of the same registry
    """

    file: Path
    summary: str
    library: str
    buggy: str
    fixed: str
    report: str
    seen: str
    field: str
    registry: Literal["PyPI", "npm"] = "PyPI"
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def address(self) -> str:
        """Where people speak of it."""
        repository, _, number = self.report.partition("#")
        return f"https://github.com/{repository}/issues/{number}"


def read(file: Path) -> Bug:
    """The head of that file and the first line of its docstring. Raises `ValueError` where one is missing or not whole."""
    text = file.read_text()
    found = HEAD.search(text)
    summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    if not found or not summary:
        raise ValueError(f"{file.name} has no head, or no docstring: begin it with # /// bug, as its neighbours do")
    told = tomllib.loads(re.sub(r"^# ?", "", found[1], flags=re.MULTILINE))
    try:
        return Bug(file, summary, **{**told, "beside": tuple(told.get("beside", ()))})
    except TypeError as error:
        raise ValueError(f"{file.name}: its head is not whole, or says too much: {error}") from error


def known() -> list[Bug]:
    """All of them, by field and name."""
    bugs = [read(file) for file in BUGS.glob("*.py") if file.name != "__init__.py"]
    return sorted(bugs, key=lambda bug: (bug.field.lower(), bug.name))


def table(bugs: list[Bug]) -> str:
    """What docs/bugs.md has of them."""
    rows = [
        "| | what happens | its failure says | library | has it | has it no more | test |",
        "|---|---|---|---|---|---|---|",
    ]
    for bug in bugs:
        library = f"{bug.library} [#{bug.report.partition('#')[2]}]({bug.address})"
        test = f"[{bug.name}](../tests/bugs/{bug.file.name})"
        rows.append(f"| {bug.field} | {bug.summary} | `{bug.seen}` | {library} | {bug.buggy} | {bug.fixed} | {test} |")
    return "\n".join(rows)
