"""Where text goes: colour and the width of a terminal, plain in a pipe; a document for machines.

Words are never broken, nor commands that are to be copied.
"""

from __future__ import annotations

import contextlib
import select
import sys
import textwrap
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, cast

from faultkit.views import signs

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console

PATIENCE = 0.5  # seconds for a line on standard error to be taken; arbitrary
_GLUE = "\x01"  # no space to anybody; a program that says it is shown a space


def console(stream: IO[str] | None = None) -> Console:
    """A console on that stream; without one on standard output. It says signs in words where the stream has none."""
    from rich.console import Console

    stream = stream or sys.stdout
    signs.in_words(cast("TextIO", stream))
    return Console(file=stream, highlight=False, emoji=False, markup=True)


def emit(document: Any) -> None:
    """One JSON document on standard output."""
    import json

    print(json.dumps(document, indent=2, ensure_ascii=False))


def remark(line: str) -> None:
    """A line on standard error, not waited for where nobody reads it: the exit status says it too."""
    with contextlib.suppress(OSError):
        if _taken(sys.stderr):
            print(line, file=sys.stderr)


def _taken(stream: IO[str]) -> bool:
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return True  # it is no file
    return bool(select.select([], [number], [], PATIENCE)[1])


def room(console: Console) -> int | None:
    """How wide a table may be there: in a pipe as wide as it needs, because a name that is folded is found by nobody."""
    return console.width if console.file.isatty() else None


def whole(command: str) -> str:
    """The words as one: a command that is to be copied."""
    return command.replace(" ", _GLUE)


def folded(text: str, width: int | None, first: str = "", rest: str = "") -> list[str]:
    """Lines of that width at most, broken between words alone. A word that is longer has a line of its own, for the
    terminal to fold: it is copied from there in one piece."""
    if width is None:
        return [(first + text).replace(_GLUE, " ")]
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_GLUE, " ") for line in lines or [first.rstrip()]]


def longest(text: str) -> int:
    """The letters of the longest word."""
    return max(map(len, text.split()), default=0)


def paragraph(
    console: Console,
    text: str,
    first: str = "",
    rest: str = "",
    style: str = "",
    drawn: Mapping[str, str] | None = None,
) -> None:
    """A paragraph with a hanging indent, and nothing after the last letter of a line. It is no markup; `drawn` has colours
    for words of it, each where it stands first."""
    from rich.text import Text

    lines = folded(signs.plain(text, console.encoding), console.width, first, rest)
    shown = Text("\n".join(lines), style)
    for word, colour in (drawn or {}).items():
        told = signs.plain(word, console.encoding)
        begins = shown.plain.find(told)
        shown.stylize(colour, max(begins, 0), begins + len(told))
    console.print(shown, soft_wrap=True)
