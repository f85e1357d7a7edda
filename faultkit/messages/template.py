"""The templates of the table: literal text with places in braces. Each becomes a regular expression that takes time linear in
what it is held against: every place is bounded, ends at the literal behind it and is never tried again (atomic groups).

    {any}            up to 300 characters of one line, as few as will do
    {word}           characters other than white space
    {number}         digits, a point, a comma or a minus sign among them
    {errno}          what names an errno: "104: Connection reset by peer", "ECONNRESET", "os error 54"
    {peer}           host and port, or an address: what the other end is called
    {upstream}       the same, of a proxy's server
    {idle}           a number: for how long the connection had been idle
    {flags}          up to four capitals or dashes
    {text}           like {any}, over several lines
    {a|b|c}          one of these literals
    {?literal}       that literal, or nothing

A space is any white space, so that a line may be wrapped anywhere. Capitals count only where the entry says so. "{{" is a brace.
"""

from __future__ import annotations

import functools
import itertools
import math
import re

from faultkit.errors import Misuse

PLACES = {
    "any": r"[^\n]{0,300}",
    "text": r"[\s\S]{0,600}",
    "word": r"[^\s]{1,200}",
    "flags": r"[-A-Z]{0,4}",
    "number": r"[-\d.,]{1,30}",
    "errno": r"[\s\S]{1,160}",
    "peer": r"[^\s'\"<>|]{1,255}",
    "upstream": r"[^\s'\"<>|]{1,255}",
    "idle": r"[\d.,]{1,20}",
}
NAMED = frozenset({"errno", "peer", "upstream", "idle"})
_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}")
_SPACE = r"\s{1,60}+"


def parts(template: str) -> list[tuple[str, str]]:
    """("literal", text), ("place", name), ("either", "a|b") and ("maybe", text), in order. Raises `Misuse`."""
    found: list[tuple[str, str]] = []

    def literal(text: str) -> None:
        if text and found and found[-1][0] == "literal":
            found[-1] = ("literal", found[-1][1] + text)
        elif text:
            found.append(("literal", text))

    at = 0
    for token in _TOKEN.finditer(template):
        literal(template[at : token.start()])
        at, inside = token.end(), token[0][1:-1]
        if token[0] in ("{{", "}}"):
            literal(token[0][0])
        elif inside.startswith("?"):
            found.append(("maybe", inside[1:]))
        elif "|" in inside:
            found.append(("either", inside))
        elif inside in PLACES:
            if not found or found[-1][0] in ("place", "maybe"):
                raise Misuse(f"{template!r}: {{{inside}}} has no literal before it: two places must not touch")
            found.append(("place", inside))
        else:
            raise Misuse(f"{template!r}: {{{inside}}} is no place: it takes {', '.join(PLACES)}, {{a|b}} or {{?a}}")
    literal(template[at:])
    if not any(kind in ("literal", "either") for kind, _ in found) or found[0][0] == "place":
        raise Misuse(f"{template!r} begins with a place: what is looked for must begin with a literal")
    return found


def _literal(text: str) -> str:
    pieces = [re.escape(piece) for piece in re.split(r"\s+", text)]
    return _SPACE.join(pieces)


@functools.cache
def pattern(template: str, case: bool = False) -> re.Pattern[str]:
    """What finds it. A place of `NAMED` is a group of that name."""
    out, seen, listed = [], set[str](), parts(template)
    first, last = listed[0], listed[-1]
    if first[0] == "literal" and re.match(r"\w", first[1]):
        out.append(r"(?<!\w)")
    number = 0
    while number < len(listed):
        kind, text = listed[number]
        if kind == "literal":
            out.append(_literal(text))
        elif kind == "either":
            out.append(f"(?:{'|'.join(map(_literal, text.split('|')))})")
        elif kind == "maybe":
            out.append(f"(?:{_literal(text)})?")
        else:
            group = f"(?P<{text}>" if text in NAMED and text not in seen else "(?:"
            seen.add(text)
            follows = ""
            # up to the literal behind it, which may come after optional ones
            while number + 1 < len(listed) and listed[number + 1][0] != "place":
                number += 1
                kind, more = listed[number]
                if kind == "maybe":
                    follows += f"(?:{_literal(more)})?"
                    continue
                follows += _literal(more) if kind == "literal" else f"(?:{'|'.join(map(_literal, more.split('|')))})"
                break
            inside = PLACES[text]
            out.append(f"(?>{group}{inside}?){follows})" if follows else f"{group}{inside}+)")
        number += 1
    if last[0] == "literal" and re.search(r"\w$", last[1]):
        out.append(r"(?!\w)")
    return re.compile("".join(out), 0 if case else re.IGNORECASE)


LONG = 8  # letters of a literal that is looked for alone; arbitrary
MANY = 64  # literals that are looked for instead; arbitrary


def anchors(template: str) -> tuple[str, ...]:
    """Literals of which one is in every text that it matches: the longest, or, where that is short, all that stands side by side,
    with each of its alternatives."""
    runs: list[list[tuple[str, ...]]] = [[]]
    for kind, text in parts(template):
        if kind in ("literal", "either"):
            runs[-1].append(tuple(text.split("|")) if kind == "either" else (text,))
        else:
            runs.append([])
    single = [one for run in runs for one in run]
    longest = max((one for one in single if len(one) == 1), key=lambda one: len(one[0]), default=("",))
    if len(longest[0]) >= LONG:
        return longest
    whole = [tuple(map("".join, itertools.product(*run))) for run in runs if math.prod(map(len, run)) <= MANY and run]
    return max([longest, *single, *whole], key=lambda one: min(map(len, one)))
