"""The signs that are not ASCII, and what stands for them where the output cannot say them."""

from __future__ import annotations

import codecs
from typing import TextIO

# What keeps columns apart (arrows and lines) has one letter for one, so that nothing moves.
SIGNS = {
    "✔": "ok",
    "✘": "not ok",
    "→": "->",
    "≮": "not <",
    "▶": ">",
    "◀": "<",
    "─": "-",
    "┄": "-",
    "×": "x",
    "–": "-",
    "…": "...",
    "│": "|",
    # A chart's bars.
    "▁": ".",
    "▂": ".",
    "▃": ":",
    "▄": ":",
    "▅": "|",
    "▆": "|",
    "▇": "#",
    "█": "#",
}
IN_WORDS, ESCAPED = "faultkit.in-words", "faultkit.escaped"


def plain(text: str, encoding: str) -> str:
    """The text as an output of that encoding says it. Ask before columns are made: it may be longer."""
    return text.encode(encoding, IN_WORDS).decode(encoding)


def in_words(stream: TextIO) -> None:
    """Let the stream say signs in words, and escape what else it cannot say."""
    _teach(stream, IN_WORDS)


def escaped(stream: TextIO) -> None:
    """Let the stream write what it cannot say as JSON does: a document stays what it is."""
    _teach(stream, ESCAPED)


def _teach(stream: TextIO, errors: str) -> None:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=errors)


def _escape(letter: str) -> str:
    """JSON's escape (RFC 8259, 7): two for what is beyond the Basic Multilingual Plane."""
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _say_in_words(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    refused = error.object[error.start : error.end]
    return "".join(SIGNS.get(letter) or _escape(letter) for letter in refused), error.end


def _say_escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


codecs.register_error(IN_WORDS, _say_in_words)
codecs.register_error(ESCAPED, _say_escaped)
