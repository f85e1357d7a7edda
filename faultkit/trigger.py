"""When a served fault sets in: at an event of the connection, never after a sleep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from faultkit.errors import Misuse

# Moments that are named; the counted ones are `after_...`.
At = Literal["accept", "client-hello", "handshake", "mid-body", "read", "fire"]
MOMENTS: tuple[At, ...] = get_args(At)

Kind = Literal[
    "listen",
    "accept",
    "client-hello",
    "handshake",
    "mid-body",
    "fire",
    "bytes",
    "sent",
    "read",
    "requests",
    "answers",
    "idle",
    "with",
]

_UNITS = {
    "bytes": "bytes received",
    "sent": "bytes sent",
    "read": "bytes read by the client",
    "requests": "requests",
    "answers": "answers",
    "idle": "s without a byte",
}


@dataclass(frozen=True, slots=True)
class Trigger:
    """What sets a fault off.

    listen         from the start, before there is a connection: for what is done to the listening socket
    accept         the connection is accepted; with TLS, before the handshake
    client-hello   TLS: the ClientHello is there
    handshake      TLS: the handshake is done
    bytes n        n bytes were received (with TLS: of the application)
    sent n         n bytes were sent, often in the middle of an answer
    mid-body       half of the body of an answer was sent
    read n         n bytes of what was sent were read by the client's program; 0: all that was sent was
    requests n     the n-th request is there; it gets the fault instead of an answer
    answers n      n requests were answered
    idle s         no byte came or went for s seconds, read or unread, whatever a handler does
    fire           nothing but `Server.fire()`, which works with every other trigger too
    with           in a sequence of faults: with the one before it
    """

    kind: Kind
    amount: float = 0

    def __str__(self) -> str:
        if self.kind == "with":
            return "with the one before it"
        if self.kind not in _UNITS or (self.kind == "read" and not self.amount):
            return f"at {self.kind}"
        unit, *rest = _UNITS[self.kind].split(" ")
        one = self.amount == 1 and self.kind != "idle"
        return f"after {self.amount:.15g} {' '.join([unit.removesuffix('s') if one else unit, *rest])}"


FIRST_BYTE = Trigger("bytes", 1)


def chosen(
    *,
    at: At | None = None,
    after_bytes: int | None = None,
    after_sent: int | None = None,
    after_read_bytes: int | None = None,
    after_requests: int | None = None,
    after_answers: int | None = None,
    after_idle_seconds: float | None = None,
) -> Trigger | None:
    """The trigger that these keywords ask for, None for none. Raises `Misuse` for two of them, and for what cannot come."""
    # With the least that can come; for a time it is a limit.
    counted: dict[Kind, tuple[str, float | None, int]] = {
        "bytes": ("after_bytes", after_bytes, 0),
        "sent": ("after_sent", after_sent, 1),
        "read": ("after_read_bytes", after_read_bytes, 1),
        "requests": ("after_requests", after_requests, 1),
        "answers": ("after_answers", after_answers, 1),
        "idle": ("after_idle_seconds", after_idle_seconds, 0),
    }
    given = [(kind, *rest) for kind, rest in counted.items() if rest[1] is not None]
    if len(given) + (at is not None) > 1:
        names = [*(["at"] if at is not None else []), *(name for _, name, _, _ in given)]
        raise Misuse(f"{' and '.join(names)}: a fault has one trigger: leave all but one out")
    if at is not None:
        if at not in MOMENTS:
            raise Misuse(f"at={at!r} is no moment of a connection: it is one of {', '.join(MOMENTS)}")
        return Trigger(at)
    for kind, name, value, least in given:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (kind == "idle" and isinstance(value, float))):
            raise Misuse(f"{name}={value!r} is not a {'number of seconds' if kind == 'idle' else 'whole number'}")
        assert value is not None
        if kind == "idle" and not 0 < value < 2**31:
            raise Misuse(f"{name}={value} never comes: take more than 0, and less than {2**31}")
        if value < least:
            raise Misuse(f"{name}={value} never comes: take {least} or more")
        if kind == "bytes" and value == 0:
            return Trigger("accept")
        return Trigger(kind, value)
    return None


# How a trigger is written behind a fault, the same in Python and on the command line: "linger@sent=500".
NOTED = {
    "bytes": "after_bytes",
    "sent": "after_sent",
    "read": "after_read_bytes",
    "requests": "after_requests",
    "answers": "after_answers",
    "idle": "after_idle_seconds",
}


def noted(text: str) -> Trigger:
    """The trigger that this notation names: a moment, or a count. An idle time is in seconds, or in ms: "idle=500ms".

    Raises `Misuse`.
    """
    name, equals, number = (part.strip() for part in text.partition("="))
    if not equals and name in MOMENTS:
        return chosen(at=name) or FIRST_BYTE
    if not equals or name not in NOTED:
        raise Misuse(
            f"@{text.strip()} is no trigger: it is one of {', '.join(MOMENTS)}, or a count, such as "
            f"{', '.join(f'{name}=N' for name in NOTED)}"
        )
    thousandths = name == "idle" and number.endswith("ms")
    digits = number[:-2] if thousandths else number.removesuffix("s") if name == "idle" else number
    try:
        value = float(digits) / (1000 if thousandths else 1) if name == "idle" else int(digits)
    except ValueError:
        raise Misuse(f"@{text.strip()}: {number!r} is no number of {_UNITS[name]}") from None
    keywords: dict[str, Any] = {NOTED[name]: value}
    try:
        found = chosen(**keywords)
    except Misuse as error:
        raise Misuse(f"@{text.strip()}: {error}") from None
    assert found
    return found
