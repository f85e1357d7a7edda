"""Which fault was armed and not met, in a sentence. Pure: it reads what a server has written down."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.serving.faults import OK
from faultkit.serving.plan import Plan
from faultkit.serving.record import Connection, size


def sentence(plan: Plan, port: int, seen: Sequence[Connection], *, shut: bool, turned_away: bool) -> str | None:
    """None where every fault was met, or by chance there was none. Shut: the fault of the door has set in."""
    where = f"on port {port}"
    if door := plan.door:
        if not shut:
            return f"{door.name} {where} was to set in at fire(), which was never called"
        return None if turned_away else f"{door.name} {where} was never met: no client tried to connect"
    for number, fault in enumerate(plan.listed, 1):
        if fault and number > len(seen):
            return f"{fault.name} {where} was never met: it was planned for connection {number}, and {came(len(seen))}"
        if fault and not (record := seen[number - 1]).fired:
            return f"{fault.name} {where} was never met: it was planned {fault.when} of connection {number}, {_told(record)}"
    every = plan.fault or plan.waiting
    if not every and plan.seed is None:
        return None
    if not seen:
        return f"{every.name if every else 'a random fault'} {where} was never met: no connection came"
    if every and all(record.fault == OK for record in seen):
        return f"{every.name} {where} was never met: it was healed before {came(len(seen))}"
    drawn = [record for record in seen if record.fault != OK]
    if drawn and not any(record.fired for record in drawn):
        when = f" {every.when}" if every else ""
        return (
            f"{drawn[0].fault} {where} was never met: it was to set in{when}, and {came(len(seen))}: {_told(drawn[-1])}"
        )
    return None


def came(count: int) -> str:
    """How many connections came."""
    return {0: "no connection came", 1: "1 connection came"}.get(count, f"{count} connections came")


def _told(record: Connection) -> str:
    return (
        f"connection {record.number} had {size(record.received)} in, {record.sent} out, {record.ended or 'and is open'}"
    )
