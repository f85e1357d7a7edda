"""Types random command lines, none of which means anything: `python -m tests.commands.lines SEED NUMBER SECONDS`.

Prints those that were not refused in one sentence on one line, as JSON. In a process of its own, because what is typed by
chance must not move a test's process into a namespace.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import time
from collections.abc import Iterator

import click

from faultkit import causes, commands
from faultkit.commands.line.group import faultkit
from faultkit.commands.line.main import run

# What a terminal obeys, what ends a line, what is no text, what is long.
HOSTILE = ["\r\n", "\n", "\x1b[31m", "\x1b]0;x\x07", "\x07", "\x85", "\u2028", "\u202e", "\udcff", "\t", "\ufeff", "%s"]
LONGEST = 400  # characters: some 300, and where to read on


def garbage(chance: random.Random) -> str:
    """A word that is no value of anything."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice("xyz?") * chance.choice([1000, 10_000])
    if kind == 1:
        return "?" + " word" * chance.choice([200, 2000])
    return "?" + "".join(chance.choice([*HOSTILE, "a", "7", "-", "="]) for _ in range(chance.randrange(1, 12)))


def lines(chance: random.Random) -> Iterator[list[str]]:
    """What is typed, for ever: one thing at least is wrong in each."""
    context = click.Context(faultkit)
    names = [*causes.names(), *(name for name in commands.names() if name not in ("sandbox", "stack"))]
    while True:
        word = garbage(chance)
        name = chance.choice(names)
        command = faultkit.get_command(context, name)
        assert command
        valued = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag]
        # Its value is judged before anything else happens.
        judged = [one for one in valued if one.name not in ("message", "body", "save", "rst_from")]
        match chance.randrange(6):
            case 0:
                yield [word, *chance.sample(names, chance.randrange(2))]
            case 1:
                yield [f"--{word}"]
            case 2:
                yield [name, f"--{word}"]
            case 3 if name not in ("nest", "clients", "recipe", "serve"):
                yield [name, word]
            case 3:
                yield [name, word, *(["60"] if name == "nest" else [])]
            case 4 if valued:
                yield [name, chance.choice(valued).opts[0]]
            case 5 if judged and name != "clients":
                option = chance.choice(judged)
                if option.name in ("pcap", "html", "svg"):
                    word = f"/nowhere/{word}"
                needed = ["30", "60"] if option.name == "margin" else []
                fault = ["linger"] if name == "serve" and option.name != "plan" else []
                yield [name, *fault, *needed, option.opts[0], word]
            case _:
                pass


def wrong(typed: list[str]) -> str:
    """What is wrong with how it was refused; "" where nothing is."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(typed)
    said = err.getvalue()
    if status != 2:
        return f"exit status {status}: {said[-300:]!r}"
    if out.getvalue():
        return "it was not refused alone"
    if not said.startswith("faultkit: ") or not said.endswith("\n") or not said[:-1].isprintable():
        return f"not one line of text: {said!r}"
    return f"{len(said)} characters" if len(said) > LONGEST else ""


def main(seed: int, number: int, seconds: float) -> None:
    found, typed, deadline = [], 0, time.monotonic() + seconds
    for line in lines(random.Random(seed)):
        if typed == number or time.monotonic() > deadline:
            break
        typed += 1
        if because := wrong(line):
            found.append({"line": [word[:80] for word in line], "wrong": because})
    json.dump({"typed": typed, "wrong": found}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
