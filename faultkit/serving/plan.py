"""Which fault each connection gets: the same for all, one after the other, or drawn."""

from __future__ import annotations

import random as chance
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from faultkit.errors import Misuse
from faultkit.serving import faults, steps
from faultkit.serving.faults import OK, Fault
from faultkit.trigger import Trigger

SHORT = reprlib.Repr()  # of a plan in a sentence


@dataclass(frozen=True, slots=True)
class Plan:
    """`of(n)` is the fault of connection n, the first being 1; None where it is healthy."""

    of: Callable[[int], Fault | None]
    listed: tuple[Fault | None, ...] = ()  # in a plan: what each of the first connections gets
    door: Fault | None = None  # done to the listening socket
    waiting: Fault | None = None  # done to it when a connection waits
    seed: int | None = None  # what to give as seed= to have the same again
    fault: Fault | None = None  # every connection's
    drawn: tuple[Fault, ...] = ()  # what chance draws from, where it was named

    @property
    def named(self) -> list[Fault]:
        """Those that the plan names."""
        return [one for one in (self.fault, self.door, self.waiting, *self.drawn, *self.listed) if one]

    def __str__(self) -> str:
        if self.seed is not None:
            return f"faults by chance, seed={self.seed}"
        if self.listed:
            return ", ".join(fault.title if fault else OK for fault in self.listed)
        return next((fault.title for fault in self.named), OK)

    @property
    def gated(self) -> bool:
        """Does it turn some away before they are connected, one by one?"""
        return any(fault and fault.served.door for fault in self.listed)

    @property
    def armed(self) -> bool:
        """Is any fault to come?"""
        return bool(self.door or self.waiting or self.fault or self.seed is not None or any(self.listed))


def chosen(
    fault: str | None,
    plan: Sequence[str] | None,
    random: float | None,
    seed: int | None,
    when: Trigger | None,
    *,
    tls: bool = False,
) -> Plan:
    """The plan that these ask for. Raises `Misuse` for what does not go together, and as `faults.fault` does."""
    if fault is not None and plan is not None:
        raise Misuse(f"fault {fault!r} and a plan: the plan says what each connection gets; leave one of them out")
    if seed is not None and random is None:
        raise Misuse(f"seed={seed} decides nothing without random: add random=0.3, or leave it out")
    if random is not None:
        return _drawn(fault, plan, random, seed, when, tls)
    if plan is not None:
        return _listed(plan, when, tls)
    if fault is None or fault == OK:
        if when is not None:
            raise Misuse(f"`{when}` and no fault: name the fault that is to set in then")
        return Plan(lambda number: None)
    only = steps.fault(fault, when, tls=tls)
    if only.served.door is None:
        return Plan(lambda number: only, fault=only)
    if only.served.when.kind == "accept":
        return Plan(lambda number: only, waiting=only)
    return Plan(lambda number: None, door=only)


def check_list(plan: object, example: str) -> None:
    """Raise `Misuse` for what is no list of names."""
    if not isinstance(plan, list | tuple) or not plan:
        raise Misuse(f"plan={plan!r} is no list of faults, one at least: take one such as {example}")
    for one in plan:
        if not isinstance(one, str | list | tuple):
            raise Misuse(
                f"plan={SHORT.repr(plan)}: {SHORT.repr(one)} is not the name of a fault: take a list such as {example}"
            )


def check_spoken(plan: Plan, protocol: str, *, tls: bool) -> None:
    """Raise `Misuse` for a fault that is said in a protocol which the server does not speak."""
    has = {"", protocol, *(["tls"] if tls else [])}
    for first in plan.named:
        fault: Fault | None = first
        while fault:
            if fault.served.speaks not in has:
                needed = "tls=True" if fault.served.speaks == "tls" else f"answer={fault.served.speaks!r}"
                raise Misuse(f"{fault.name} is said in a protocol of its own: add {needed}")
            fault = fault.then


def _listed(plan: Sequence[str], when: Trigger | None, tls: bool) -> Plan:
    check_list(plan, "['linger', 'linger', 'ok']")
    for one in plan:
        if isinstance(one, list | tuple):
            raise Misuse(
                f"plan={SHORT.repr(plan)}: several in order on one connection are one text, 'slow:100 + linger@sent=500', "
                "and no list within the list"
            )
    listed = tuple(None if name == OK else _of_one(name, when, tls) for name in plan)

    def of(number: int) -> Fault | None:
        return listed[number - 1] if number <= len(listed) else None

    return Plan(of, listed)


def _drawn(
    fault: str | None, plan: Sequence[str] | None, random: float, seed: int | None, when: Trigger | None, tls: bool
) -> Plan:
    if plan is not None:
        raise Misuse(f"random={random} and a plan: the plan leaves nothing to chance; leave one of them out")
    if isinstance(random, bool) or not isinstance(random, int | float) or not 0 < random <= 1:
        raise Misuse(f"random={random!r} is not a probability: take more than 0, up to 1, such as 0.3")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise Misuse(f"seed={seed!r} is not a whole number")
    if fault is not None:
        choice: tuple[Fault, ...] = (_of_a_connection(fault, when, tls),)
    else:
        # Those that end a connection at once, each at its own trigger.
        choice = tuple(
            faults.fault(name, tls=tls)
            for name, _, served in faults.known()
            if served.act and not (served.hangs or served.needs_repair or served.holds_fin)
            if not (tls and served.speaks_plain)
        )
        if when is not None:
            raise Misuse(f"`{when}` with random and no fault: faults drawn from all set in at their own triggers")
    number = chance.SystemRandom().getrandbits(32) if seed is None else seed

    def of(connection: int) -> Fault | None:
        stream = chance.Random(f"{number}:{connection}")
        return stream.choice(choice) if stream.random() < random else None

    return Plan(of, seed=number, drawn=choice if fault is not None else ())


def _of_one(name: str, when: Trigger | None, tls: bool) -> Fault:
    """Of one in a plan: of a connection, or of an attempt to connect, which takes no trigger."""
    base = name.partition("@")[0].partition("+")[0].strip() if isinstance(name, str) else ""
    if base in faults.names() and faults.fault(base).served.when.kind == "listen":
        found = steps.fault(name, tls=tls)
        if found.when.kind != "listen":
            raise Misuse(f"{name}: in a plan it is met by whose turn it is: leave its trigger out")
        return found
    return _of_a_connection(name, when, tls)


def _of_a_connection(name: str, when: Trigger | None, tls: bool) -> Fault:
    found = steps.fault(name, when, tls=tls)
    if found.served.door:
        raise Misuse(
            f"{name} keeps clients from connecting at all, so no server can count them: serve it alone, and heal() it"
        )
    return found
