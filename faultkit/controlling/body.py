"""JSON as the API's clients know it from Go: one value, and what follows it does not matter; names of fields in any case; null
leaves what is the default; a wrong type is said in Go's words."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from faultkit.controlling.refusal import Refusal, bad_body

SPACE = re.compile(r"[ \t\r\n]*")
WORDS = {"t": "true", "f": "false", "n": "null"}

# What Python's decoder complains of, and what Go says there.
LOOKING: Sequence[tuple[str, str]] = (
    ("Expecting property name", "looking for beginning of object key string"),
    ("Illegal trailing comma before end of object", "looking for beginning of object key string"),
    ("Illegal trailing comma before end of array", "looking for beginning of value"),
    ("Expecting ':'", "after object key"),
    ("Invalid control character", "in string literal"),
    ("Invalid \\", "in string escape code"),
)


def decoded(body: bytes) -> Any:
    """The first value in it. Raises `Refusal` where there is none."""
    text = body.decode("utf-8", "replace")
    begin = _after_space(text, 0)
    if begin == len(text):
        raise bad_body("EOF")
    try:
        value, _ = DECODER.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        raise bad_body(_complaint(text, error)) from None
    except RecursionError:
        raise bad_body("exceeded max depth") from None
    except ValueError:  # of a number with thousands of digits
        raise bad_body("json: cannot unmarshal a number of so many digits") from None
    return value


def _constant(name: str) -> Any:
    raise bad_body(f"invalid character {name[:1]!r} looking for beginning of value")


class Written(float):
    """A number with a point or an exponent, and how it was written."""

    def __new__(cls, text: str) -> Written:
        self = super().__new__(cls, text)
        self.text = text
        return self

    text: str


DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=Written)


def _complaint(text: str, error: json.JSONDecodeError) -> str:
    if error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    at = _after_space(text, error.pos)
    if at < len(text) and error.msg.startswith("Illegal trailing comma"):
        at = _after_space(text, at + 1)  # what follows the comma
    if at >= len(text):
        return "unexpected EOF"
    word = WORDS.get(text[at])
    if error.msg.startswith("Expecting value") and word:
        for number, letter in enumerate(word):
            if at + number == len(text):
                return "unexpected EOF"
            if text[at + number] != letter:
                return f"invalid character {_quoted(text[at + number])} in literal {word} (expecting {letter!r})"
    if error.msg.startswith("Expecting ','"):
        return f"invalid character {_quoted(text[at])} after {_inside(text, at)}"
    where = next((said for begins, said in LOOKING if error.msg.startswith(begins)), "looking for beginning of value")
    return f"invalid character {_quoted(text[at])} {where}"


def _inside(text: str, at: int) -> str:
    """What ends at that place: strings are left out, and what is closed again."""
    opened = re.sub(r'"(?:[^"\\]|\\.)*"', "", text[:at], flags=re.DOTALL)
    depth = 0
    for letter in reversed(opened):
        if letter in "]}":
            depth += 1
        elif letter in "[{":
            if not depth:
                return "array element" if letter == "[" else "object key:value pair"
            depth -= 1
    return "top-level value"


def _after_space(text: str, at: int) -> int:
    space = SPACE.match(text, at)
    assert space
    return space.end()


def _quoted(letter: str) -> str:
    return "'\\''" if letter == "'" else f"'{letter}'" if letter.isprintable() else ascii(letter)


def kind(value: object) -> str:
    """What Go's messages call it."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case Written(text=text):
            return f"number {text}"
        case int() | float():
            return "number"
        case list():
            return "array"
        case _:
            return "object"


def mistyped(value: object, where: str, wanted: str) -> Refusal:
    """It is another type than it is to be."""
    place = f"Go struct field {where}" if "." in where else "Go value"
    return bad_body(f"json: cannot unmarshal {kind(value)} into {place} of type {wanted}")


def fields(value: object, where: str) -> dict[str, Any]:
    """An object's fields by their names in lower case, without those that are null; null is an empty object.

    Raises `Refusal` for what is no object. `where` is its type, or the field that it stands in.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise mistyped(value, where, "map[string]interface {}" if "." in where else f"toxiproxy.{where}")
    return {name.lower(): one for name, one in value.items() if one is not None}


def text(given: Mapping[str, Any], name: str, where: str, default: str) -> str:
    """A field that is text."""
    value = given.get(name, default)
    if not isinstance(value, str):
        raise mistyped(value, f"{where}.{name}", "string")
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a pair is no letter


def truth(given: Mapping[str, Any], name: str, where: str) -> bool | None:
    """A field that is true or false; None where it is left out."""
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise mistyped(value, f"{where}.{name}", "bool")
    return value


def single(given: Mapping[str, Any], name: str, where: str) -> float | None:
    """A field that is a number of 32 bits; None where it is left out."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mistyped(value, f"{where}.{name}", "float32")
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise mistyped(value, f"{where}.{name}", "float32") from None
    return rounded


def shortest(value: float) -> int | float:
    """A number of 32 bits with no more digits than tell it from its neighbours: 0.2, and 1 without a point."""
    told = value
    for digits in range(1, 10):
        told = float(f"{value:.{digits}g}")
        if struct.pack("<f", told) == struct.pack("<f", value):
            break
    return int(told) if told.is_integer() and abs(told) < 1e21 else told


def encoded(value: object) -> bytes:
    """As the API answers it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":  # as Go's encoder has it, for who puts it into a page
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace")
