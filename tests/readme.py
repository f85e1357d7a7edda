"""Writes the README's generated parts anew, from the catalogue and from tests/examples/: `python -m tests.readme`.

A part stands between `<!-- NAME -->` and `<!-- end -->`. NAME is `causes`, `flags`, `stacks`, or an example's file name.
The output that it shows is taken anew too: as root, because only root sees the reset reasons.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from faultkit import causes, stack
from faultkit.cause import Cause, Options, flag, spec, written
from faultkit.stack import Stack, StackOptions
from faultkit.views import catalogue

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
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


def part(name: str) -> str:
    """What belongs between the marks of that name."""
    if name == "causes":
        return catalogue.markdown(causes.by_family()) + "\n"
    if name == "flags":
        return flags(causes.by_family()) + "\n"
    if name == "stacks":
        return stacks([stack.load(name) for name in stack.names()]) + "\n"
    file = EXAMPLES / name
    return f"```{LANGUAGES[file.suffix]}\n{file.read_text()}```\n"


def written_anew(text: str) -> str:
    return PART.sub(lambda found: f"<!-- {found['name']} -->\n{part(found['name'])}<!-- end -->\n", text)


def names(text: str) -> list[str]:
    """The parts there are."""
    return [found["name"] for found in PART.finditer(text)]


if __name__ == "__main__":
    shown = subprocess.run(
        [sys.executable, "-m", "faultkit", "linger"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        check=True,
    )
    (EXAMPLES / "linger.txt").write_bytes(shown.stdout)
    README.write_text(written_anew(README.read_text()))
