"""A toxic as the API reads and answers it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from faultkit.controlling import body, refusal
from faultkit.errors import Misuse
from faultkit.proxying.toxics import TYPES, WHEN, Toxic, UnknownStream, UnknownType, made

Document = dict[str, Any]
OWN = {"shared", *WHEN}  # attributes that toxiproxy has not: its clients see them where they are not 0


def toxics_of(told: Document) -> list[Toxic]:
    """Those in the body of a proxy. Raises `Refusal`."""
    given = told["toxics"]
    if not isinstance(given, list):
        raise body.mistyped(given, "Proxy.toxics", "[]Toxic")
    found: dict[str, Toxic] = {}
    for one in given:
        toxic = read_toxic(one, found.keys())
        found[toxic.name] = toxic
    return list(found.values())


def read_toxic(given: Any, taken: Container[str]) -> Toxic:
    """A body's, whose name is not taken. Raises `Refusal`."""
    told = body.fields(given, "ToxicWrapper")
    name, type = (body.text(told, field, "ToxicWrapper", "") for field in ("name", "type"))
    stream = body.text(told, "stream", "ToxicWrapper", "downstream")
    toxicity = body.single(told, "toxicity", "ToxicWrapper")
    attributes = told.pop("attributes", None)
    try:
        made(type, stream=stream, attributes=None)
    except UnknownStream:
        raise refusal.bad_stream() from None
    except UnknownType:
        raise refusal.bad_type() from None
    except Misuse as error:
        raise refusal.bad_body(str(error)) from None
    if (name or f"{type}_{stream}") in taken:
        raise refusal.toxic_exists()
    try:
        return made(
            type,
            name=name or None,
            stream=stream,
            toxicity=toxicity,
            attributes=attributes_of({"attributes": attributes}, type),
        )
    except Misuse as error:
        raise refusal.bad_body(str(error)) from None


def attributes_of(told: Document, type: str) -> Document:
    """Its attributes by their names in lower case, whose types are right. Raises `Refusal`."""
    attributes = told.get("attributes")
    if attributes is not None and not isinstance(attributes, dict):
        raise body.mistyped(attributes, ".attributes", "map[string]interface {}")
    known = {**(TYPES[type][1] if type in TYPES else {}), **WHEN}
    given = body.fields(attributes, ".attributes")
    for key, value in given.items():
        if key in known and (
            isinstance(value, bool) or not isinstance(value, int if known[key].whole else int | float)
        ):
            raise body.mistyped(value, f".attributes.{key}", "int64" if known[key].whole else "float64")
    return given


def of_toxic(toxic: Toxic) -> Document:
    """As the API answers it."""
    return {
        "attributes": {key: value for key, value in toxic.attributes.items() if value or key not in OWN},
        "name": toxic.name,
        "type": toxic.type,
        "stream": toxic.stream_as_given or toxic.stream,
        "toxicity": body.shortest(toxic.toxicity),
    }
