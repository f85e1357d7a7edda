"""Which fault was armed and not met, in a sentence. Pure: it reads what a server has written down."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.serving.faults import OK, Fault
from faultkit.serving.plan import Plan
from faultkit.serving.record import Connection, size


def sentence(
    plan: Plan, port: int | str, seen: Sequence[Connection], *, shut: bool, turned_away: bool, own: bool
) -> str | None:
    """None where every fault was met, or by chance there was none. Shut: the fault of the door has set in. Own: the handler is
    the test's."""
    where = _at(port)
    if door := plan.door:
        if not shut:
            return f"{door.name} {where} was to set in at fire(), which was never called"
        return None if turned_away else f"{door.name} {where} was never met: no client tried to connect"
    for number, fault in enumerate(plan.listed, 1):
        if fault and number > len(seen):
            return f"{fault.name} {where} was never met: it was planned for connection {number}, and {came(len(seen))}"
        if fault and not _met(record := seen[number - 1]):
            fault = _pending(fault, record)
            return (
                f"{fault.name} {where} was never met: it was planned {fault.when} of connection {number}, {_told(record)}"
                + _in_clear(record)
                + (_never_counted(fault, record) if own else "")
            )
    every = plan.fault or plan.waiting
    if not every and plan.seed is None:
        return None
    if not seen:
        return f"{every.name if every else 'a random fault'} {where} was never met: no connection came"
    if every and all(record.fault == OK for record in seen):
        return f"{every.name} {where} was never met: it was healed before {came(len(seen))}"
    drawn = [record for record in seen if record.fault != OK]
    if drawn and not any(map(_met, drawn)):
        every = every and _pending(every, drawn[-1])
        name, when = (every.name, f" {every.when}") if every else (drawn[0].fault, "")
        return f"{name} {where} was never met: it was to set in{when}, and {came(len(seen))}: {_told(drawn[-1])}" + (
            _in_clear(drawn[-1]) + (_never_counted(every, *drawn) if own and every else "")
        )
    return None


def nobody_meant(plan: Plan, port: int | str, count: int) -> str:
    """No connection was the one that the fault is for."""
    fault = plan.fault or next((one for one in plan.listed if one), None)
    name = fault.name if fault else "a random fault"
    return f"{name} {_at(port)} was never met: {came(count)}, and `when` chose none"


def _at(place: int | str) -> str:
    return f"on port {place}" if isinstance(place, int) else f"at {place}"


def came(count: int) -> str:
    """How many connections came."""
    return {0: "no connection came", 1: "1 connection came"}.get(count, f"{count} connections came")


def _met(record: Connection) -> bool:
    """Has its fault set in, and those after it?"""
    return record.fired and record.pending is None


def _pending(fault: Fault, record: Connection) -> Fault:
    """Of several in order, the one that did not set in."""
    while fault.then and fault.title != record.pending:
        fault = fault.then
    return fault


def _in_clear(record: Connection) -> str:
    """That its moment came too early."""
    return "; it is said in TLS, and there was no handshake" if record.waits_for_tls else ""


def _never_counted(fault: Fault, *seen: Connection) -> str:
    """What a handler left out, where nothing was ever counted that the fault waits for."""
    if not any(record.received for record in seen):
        return ""
    if fault.when.kind == "requests" and not any(record.requests for record in seen):
        return "; its handler never said that a request was whole: `await conn.request()` does"
    if fault.when.kind in ("answers", "mid-body") and not any(record.answers for record in seen):
        return "; its handler never gave an answer whole: `await conn.answer(...)` does, send() is not counted"
    return ""


def _told(record: Connection) -> str:
    return (
        f"connection {record.number} had {size(record.received)} in, {record.sent} out, {record.ended or 'and is open'}"
    )
