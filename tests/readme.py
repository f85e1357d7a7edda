"""Writes the generated parts of the README and of docs/ anew, from the catalogue, from the code, from tests/examples/ and
from tests/bugs/: `python -m tests.readme`.

A part stands between `<!-- NAME -->` and `<!-- end -->`. NAME is one of `TABLES`, or the file name of an example or of a bug.
The output that the README shows is taken anew too: as root, because only root sees the reset reasons.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from faultkit import causes
from faultkit.cause import Cause, Options
from faultkit.options import flag, spec, written
from faultkit.playing import stack
from faultkit.playing.stack import Stack, StackOptions
from faultkit.serving.connection import Live
from faultkit.serving.server import Server
from faultkit.serving.verbs import End
from faultkit.views import catalogue
from faultkit.views.served import described
from tests.gallery import bug

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *(DOCS / f"{name}.md" for name in ("testing", "proxy", "bugs", "commands", "python", "witnesses"))]
EXAMPLES = ROOT / "tests/examples"

PART = re.compile(r"<!-- (?P<name>\S+) -->\n(?P<body>.*?)<!-- end -->\n", re.DOTALL)
LANGUAGES = {".sh": "sh", ".py": "python", ".txt": "text"}


def own(cause: Cause, beside: type[Options] = Options) -> str:
    """A cause's own flags with their defaults, without those that `beside` has too."""
    told = []
    for option in fields(cause.options):
        if option.name in {common.name for common in fields(beside)}:
            continue
        rule, default = spec(option), written(option, option.default)
        value = "" if option.default is False else " " + (rule.metavar or ("\\|".join(rule.choices) or "N"))
        value = value if not rule.unit else f" {rule.unit.upper()}"
        told.append(f"`{flag(option)}{value}`" + ("" if default is None or default is False else f" {default}"))
    return ", ".join(told) or "none"


def flags(catalogued: list[Cause]) -> str:
    """The causes' own flags with their defaults."""
    rows = ["| cause | its own flags, with their defaults |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{cause.name}` | {own(cause)} |" for cause in catalogued)])


def stacks(catalogued: list[Stack]) -> str:
    """The stacks, what each shows, and its own flags."""
    rows = ["| stack | what happens | its own flags, with their defaults |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| `{one.name}` | {one.summary} | {own(one, StackOptions)} |" for one in catalogued)])


def served() -> str:
    """Every fault that a server can have."""
    rows = ["| fault | sets in | |", "|---|---|---|"]
    rows += [f"| `{name}` | {when} | {about} |" for name, when, about in described()]
    return "\n".join(rows)


def taken(function: Callable[..., object]) -> list[str]:
    """What a method takes beside self."""
    _, *parameters = inspect.signature(function).parameters.values()
    return [f"{one.name}=..." if one.kind is one.KEYWORD_ONLY else one.name for one in parameters]


def members(name: str, *owners: tuple[type, str]) -> str:
    """What classes offer: their public members, in the order of their texts, each up to the one of that name, or all."""
    rows = [f"| `{name}` | |", "|---|---|"]
    for owner, before in owners:
        names = [*vars(owner)]
        for member in names[: names.index(before) if before else None]:
            if member.startswith("_"):
                continue
            thing = vars(owner)[member]
            arguments = "" if isinstance(thing, property) else f"({', '.join(taken(thing))})"
            wait = "await " if inspect.iscoroutinefunction(thing) else ""
            told = " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
            rows.append(f"| `{wait}{member}{arguments}` | {told} |")
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "causes": lambda: catalogue.markdown(causes.by_family()),
    "flags": lambda: flags(causes.by_family()),
    "stacks": lambda: stacks([stack.load(name) for name in stack.names()]),
    "faults": served,
    "verbs": lambda: members("conn", (Live, "armed"), (End, "_say_fin")),
    "server": lambda: members("server", (Server, "")),
    "bugs": lambda: bug.table(bug.known()),
}


def part(name: str) -> str:
    """What belongs between the marks of that name."""
    if name in TABLES:
        return TABLES[name]() + "\n"
    file = (bug.BUGS if (bug.BUGS / name).exists() else EXAMPLES) / name
    return f"```{LANGUAGES[file.suffix]}\n{file.read_text()}```\n"


def written_anew(text: str) -> str:
    return PART.sub(lambda found: f"<!-- {found['name']} -->\n{part(found['name'])}<!-- end -->\n", text)


def names(text: str) -> list[str]:
    """The parts there are."""
    return [found["name"] for found in PART.finditer(text)]


def beginning(printed: str) -> str:
    """What the README shows of a run: what happened, and not what is known about the cause."""
    return printed.partition("\nTaken for\n")[0]


if __name__ == "__main__":
    shown = subprocess.run(
        [sys.executable, "-m", "faultkit", "linger"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        check=True,
    )
    (EXAMPLES / "linger.txt").write_text(beginning(shown.stdout.decode()))
    for page in PAGES:
        page.write_text(written_anew(page.read_text()))
