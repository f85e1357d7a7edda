"""A message as it is kept: what differs from run to run and from host to host is a word in angle brackets."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

# What stands for what, and what it may be where the message is met.
PLACES = {
    "<url>": r"\S+",
    "<path>": r"\S+",
    "<host>": r"[^\s'\"/]+?",
    "<port>": r"\d+",
    "<number>": r"\d+(?:\.\d+)?",
    "<id>": r"\w+",
    "<address>": r"[^\s>]+?",
    "<name>": r"[^\s\"',]+",
    "<any>": r".*?",
}

_PASSING = (
    (re.compile(r"<host>:\d+"), "<host>:<port>"),
    (re.compile(r"(?<=port=)\d+|(?<=port )\d+"), "<port>"),
    (re.compile(r"https?://<host>:<port>/?"), "<url>"),
    (re.compile(r"(?<=with url: )/\S*"), "<path>"),
    (re.compile(r"0x[0-9a-f]{6,}"), "<id>"),
    (re.compile(r"\d+(?:\.\d+)?(?= ?(?:milliseconds|ms\b|seconds|bytes|out of))"), "<number>"),
    (re.compile(r"(?<=out of )\d+"), "<number>"),
    (re.compile(r"(?<=timeout[=:])[\d.]+|(?<=timeout[=:] )[\d.]+"), "<number>"),
    (re.compile(r"\d+(?= bytes| more expected)|(?<=expected )\d+|(?<=received )\d+|(?<=at byte )\d+"), "<number>"),
    (re.compile(r"[^\x20-\x7e]+|(?:\\x[0-9a-f]{2})+"), "<any>"),
)


# What Chromium, Go and Node put before a message, and programs that pass it on do not, or otherwise.
_PREFIXES = ("net::", '<name> "<url>": ', "Error: ")
# Characters; arbitrary. Shorter ones are a message only behind a colon or a quote, or at the beginning of a line.
_SHORT = 15


def general(line: str, host: str, ports: tuple[int, ...]) -> str:
    """A line that a client said, without what belongs to this run."""
    line = re.sub(r"(?<![\d.])" + re.escape(host) + r"(?![\d.])", "<host>", " ".join(line.split()))
    for port in ports:
        line = re.sub(rf"(?<![\d.]){port}(?![\d.])", "<port>", line)
    for passing, instead in _PASSING:
        line = passing.sub(instead, line)
    return line


@dataclass(frozen=True)
class Line:
    """One line of a message, to be looked for in what a person pastes."""

    text: str

    def span(self, pasted: str) -> tuple[int, int] | None:
        """From where to where it is in there."""
        found = _pattern(self.text).search(pasted)
        return found.span() if found else None


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    # Also as a person has it who leaves a prefix out, quotes otherwise, or speaks TLS.
    prefix = next((known for known in _PREFIXES if text.startswith(known)), "")
    text = text.removeprefix(prefix)
    begin = r"(?<!\w)" if re.match(r"\w", text) else ""
    end = r"(?!\w)" if re.search(r"\w$|>$", text) else ""
    if len(text) < _SHORT:
        begin, end = r"(?:^|(?<=[:='\"] )|(?<=[:='\"]))", r"(?=$|['\")]|\s[(\[])"
    # HAProxy's SD and sD are not the same.
    return re.compile(f"(?:{_written(prefix)})?{begin}{_written(text)}{end}", re.MULTILINE)


def _written(text: str) -> str:
    parts = re.split("(" + "|".join(map(re.escape, PLACES)) + ")", text)
    return "".join(PLACES.get(part) or _literally(part) for part in parts)


def _literally(text: str) -> str:
    plain = re.escape(text).replace(r"\ ", r"\s+").replace("'", "['\"]?")
    return plain.replace("HTTPConnection", "HTTPS?Connection")
