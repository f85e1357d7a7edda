"""Several faults in order on one connection, in one notation for Python and the command line.

`slow:100@accept + linger@sent=500`: the second is armed when the first has set in. Counts are those of the whole connection. A
fault without a trigger of its own sets in with the one before it; the first has the one that it has alone. `ok@...` heals.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from faultkit.cause import Served
from faultkit.errors import Misuse
from faultkit.serving import faults
from faultkit.serving.faults import OK, Fault
from faultkit.trigger import Trigger, noted

WITH = Trigger("with")
HEAL = Served(lambda conn: conn.heal(), goes_on=True)


def fault(text: str, when: Trigger | None = None, *, tls: bool = False) -> Fault:
    """The fault, or the first of several, at its own trigger or at this one. Raises `Misuse` and `Unable`, as `faults.fault`."""
    if not isinstance(text, str):
        return faults.fault(text, when, tls=tls)
    written = [" ".join(part.split()) for part in text.split("+")]
    chain = [_step(part, when if number == 0 else WITH, number, tls) for number, part in enumerate(written)]
    for (earlier, one), (later, other) in pairwise(zip(written, chain, strict=True)):
        _check(text, earlier, one, later, other)
    found: Fault | None = None
    for number in reversed(range(len(chain))):
        found = replace(chain[number], then=found, title=" + ".join(written[number:]))
    assert found
    return found


def _step(part: str, when: Trigger | None, number: int, tls: bool) -> Fault:
    name, own, moment = (piece.strip() for piece in part.partition("@"))
    if own:
        if when not in (None, WITH):
            raise Misuse(f"{part} has a trigger of its own, and `{when}` is another: leave one of them out")
        when = noted(moment)
        if when.kind in ("client-hello", "handshake") and not tls:
            raise Misuse(f"{part} never comes without TLS: add tls=True")
        if number and when.kind == "accept":
            raise Misuse(f"{part}: it comes after another, when the connection was accepted: take another trigger")
    if number and name == OK:
        if when is WITH:
            raise Misuse(
                f"{name} heals what comes before it, and at once that would be nothing: say when, as in ok@requests=2"
            )
        assert when
        return Fault(name, HEAL, when)
    return faults.fault(name, when, tls=tls)


def _check(text: str, earlier: str, one: Fault, later: str, other: Fault) -> None:
    for step, found in ((earlier, one), (later, other)):
        if found.served.door:
            raise Misuse(
                f"{text}: {step} is done to the listening socket, before there is a connection: it stands alone"
            )
    if not (one.served.hangs or one.served.goes_on):
        raise Misuse(f"{text}: {earlier} ends the connection, so {later} never comes: let it be the last")
    if one.when.kind == other.when.kind and one.when.amount > other.when.amount:
        raise Misuse(f"{text}: {later} comes before {earlier}: counts are of the whole connection; let them grow")
