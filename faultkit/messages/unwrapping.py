"""A line without what other programs put around it: escapes, quotes, colours, entities, a terminal's line breaks."""

from __future__ import annotations

import html
import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|\x9b[0-?]*[ -/]*[@-~]")
# Escape sequences whose ESC was lost on the way, as logs of containers and tickets show them.
_LOST = re.compile(r"(?:\\u001b|\\x1b|\\033|\\e|\^\[|#033)\[[\d;]*m|(?<![\w\[])\[\d{1,2}(?:;\d{1,2})*m")
_QUOTES = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"',
    "\u2033": '"', "\u00ab": '"', "\u00bb": '"', "\u00a0": " ", "\u202f": " ", "\u200b": None, "\ufeff": None,
    "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-", "\u2192": "->", "\u2026": "...", "\x00": None,
})  # fmt: skip
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "r": "\n", "t": "\t", "b": "", "f": " "}


SAMPLE = 4096  # bytes by which an encoding is known; arbitrary


def encoding(beginning: bytes) -> str:
    """How a text is encoded that begins so: UTF-16 or UTF-32, marked or as they look where much is ASCII; else UTF-8."""
    for mark, name in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if beginning.startswith(mark):
            return name
    zeros = [beginning[place:SAMPLE:4].count(0) for place in range(4)]
    letters = len(beginning[:SAMPLE]) // 4
    if letters < 2:
        return "utf-8"
    for name, (first, second, third, fourth) in (("utf-32-le", zeros), ("utf-32-be", zeros[::-1])):
        if fourth >= letters and min(second, third) >= 0.5 * letters and first <= 0.1 * letters:
            return name
    # Zeros that fill a file, or end its strings, are at even and at odd places.
    for name, none, some in (("utf-16-le", (0, 2), (1, 3)), ("utf-16-be", (1, 3), (0, 2))):
        many = sum(zeros[place] for place in some)
        if many >= 0.5 * letters and sum(zeros[place] for place in none) <= 0.1 * many:
            return name
    return "utf-8"


def decoded(data: bytes) -> str:
    """Bytes as text; what is none is replaced."""
    return data.decode(encoding(data), "replace")


def _unescaped(text: str) -> str:
    """One level of backslashes less, as JSON and most languages write them."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else _NAMED.get(found[2], found[2]), text)


def _unquoted(text: str) -> str:
    lines = text.split("\n")
    quoted = sum(bool(re.match(r"\s*(?:>|&gt;|\|) ?", line)) for line in lines if line.strip())
    if quoted and quoted == sum(bool(line.strip()) for line in lines):
        return "\n".join(re.sub(r"^\s*(?:(?:>|&gt;|\|) ?)+", "", line) for line in lines)
    return text


def _joined(text: str) -> str:
    """A line that a terminal broke at its width: every line but the last is equally long."""
    lines = text.rstrip("\n").split("\n")
    if (
        len(lines) > 1
        and len(lines[0]) >= 40
        and len({len(line) for line in lines[:-1]}) == 1 >= len(lines[-1]) // max(1, len(lines[0]))
    ):
        return "".join(lines)
    return text


def plain(text: str) -> str:
    """Without colours and entities, with straight quotes and one kind of line end."""
    text = _LOST.sub("", _ANSI.sub("", text)).replace("\r\n", "\n").replace("\r", "\n").translate(_QUOTES)
    if re.search(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d+|#x[0-9a-fA-F]+);", text):
        text = html.unescape(html.unescape(text)).translate(_QUOTES)
    return _unquoted(text)


# journalctl -o json writes a message that is not all text as its bytes.
_BYTES = re.compile(r'"MESSAGE" ?: ?\[((?: ?\d{1,3} ?,){1,20000} ?\d{1,3}) ?\]')


def _from_bytes(found: re.Match[str]) -> str:
    return bytes(number for number in map(int, found[1].split(",")) if number < 256).decode("utf-8", "replace")


# What users wrote, or servers call their pages: where a request asks for it, no connection has failed by it.
_ASKED = re.compile(
    r"\b(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|PROPFIND|REPORT|CONNECT) (?P<request>/\S{1,4000})"
    r"|\b[a-z][a-z0-9+.-]{1,15}://[^\s/\"'?#<>]{1,255}(?P<page>[/?#][^\s\"'<>)\]},]{1,4000})"
    r"|\" \d{3} (?:\d{1,15}|-) \"(?P<referrer>[^\"\n]{0,4000})\" \"(?P<agent>[^\"\n]{0,4000})\""
    r"|\b(?:request_?)?(?:uri|url|path|query(?:_?string)?|args|search(?:_?term)?|keywords?|(?:http_)?user[-_]?agent"
    r"|(?:http_)?refere?rr?er|referer|title|subject|comment)\"?(?:=|: ?)\[?\"(?P<value>[^\"\n]{1,4000})\"",
    re.IGNORECASE,
)


def _filled(found: re.Match[str]) -> str:
    """The same, as long, with letters that say nothing instead of what was asked for."""
    whole = found[0]
    for name, value in found.groupdict().items():
        if value:
            at = found.start(name) - found.start()
            whole = whole[:at] + re.sub(r"\w", "x", value) + whole[at + len(value) :]
    return whole


def unasked(text: str) -> str:
    """The same, as long, without the words of what was asked for: addresses of pages, search terms, who asked."""
    return _ASKED.sub(_filled, text)


def layers(text: str) -> list[str]:
    """The text as it may be meant: as it is, and with each level of escapes less, at most three."""
    found = [plain(_BYTES.sub(_from_bytes, text))]
    if (joined := _joined(found[0])) != found[0]:
        found.append(joined)
    inner = found[0]
    for _ in range(3):
        if "\\" not in inner:
            break
        inner = plain(_unescaped(inner))
        found.append(inner)
    return list(dict.fromkeys(found))
