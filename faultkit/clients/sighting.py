"""Which causes fit what a person saw. Drawn from the causes' own promises: there is no second table."""

from __future__ import annotations

import difflib
import errno
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from faultkit.acting.play import rehearsal
from faultkit.cause import FAMILIES, Cause, Options, checked, typed
from faultkit.errors import Misuse
from faultkit.evidence.verdict import TELLING_CALLS, Promise

ERRNOS = frozenset(errno.errorcode.values())

# Errnos that Linux gives to no connection, in its own terms. Windows gives WSAECONNABORTED where its stack gave the connection
# up after its retransmissions, or where a RST had come before a call; WSAENETRESET where keepalive gave up.
ALIKE = {
    "ECONNABORTED": ("EPIPE", "ECONNRESET", "ETIMEDOUT"),
    "ENETRESET": ("ETIMEDOUT",),
    "EHOSTDOWN": ("EHOSTUNREACH",),
    "ENETDOWN": ("ENETUNREACH",),
    "ESHUTDOWN": ("EPIPE",),
    "EIO": ("ECONNRESET", "EPIPE"),
    "EPROTO": ("ECONNRESET",),
}


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a person knows of a failure. What is False or None is not known."""

    told: tuple[str, ...]  # "recv ECONNRESET", as in a promise
    after_idle: bool = False
    first_request: bool = False
    rst_from: str | None = None  # a role


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cause, by one of its variants, that fits a sighting."""

    cause: Cause
    options: Options
    promise: Promise
    roles: tuple[str, ...]  # who is told what was seen

    @property
    def command(self) -> str:
        """The command that shows it."""
        return f"faultkit {typed(self.cause, self.options)}"


def parse(told: str) -> str:
    """ "recv ECONNRESET" as a promise has it. Raises `Misuse` for what no promise can say."""
    words = told.split()
    if len(words) != 2 or words[0] not in TELLING_CALLS:
        raise Misuse(
            f"--saw {told!r} is not a call and what it gave: write it as 'recv ECONNRESET' ({', '.join(sorted(TELLING_CALLS))})"
        )
    if words[1] not in ERRNOS and not re.fullmatch(r"ok|n|\d+|EOF", words[1]):
        near = words[1].startswith("E") and difflib.get_close_matches(words[1].upper(), sorted(ERRNOS), n=1)
        hint = (
            f"did you mean '{words[0]} {near[0]}'?"
            if near
            else "write it as 'recv ECONNRESET', 'recv EOF' or 'connect ok'"
        )
        raise Misuse(f"--saw {told!r} ends in no errno name: {hint}")
    return " ".join(words)


def _fits(promise: Promise, sighting: Sighting) -> tuple[str, ...]:
    """The roles that are told all that was seen, in that order; none where something else is known to differ."""
    if sighting.rst_from is not None and sighting.rst_from not in {rst.by for rst in promise.resets or ()}:
        return ()
    found = []
    for role, calls in promise.calls.items():
        plain = [re.sub(r" [*+]$", "", call) for call in calls]
        if not _in_order(sighting.told, plain):
            continue
        before = itertools.takewhile(lambda call: not _same(sighting.told[0], call), plain)
        if not (sighting.first_request and any(_same("recv n", call) for call in before)):
            found.append(role)
    return tuple(found)


def _in_order(wanted: Iterable[str], calls: Sequence[str]) -> bool:
    rest = iter(calls)
    return all(any(_same(want, call) for call in rest) for want in wanted)


def _same(want: str, call: str) -> bool:
    """A size is a size: "send 5" was seen where "send 41" is promised."""
    name, _, told = want.partition(" ")
    if told in ALIKE and want != call:
        return call in [f"{name} {alike}" for alike in ALIKE[told]]
    return re.sub(r" (n|\d+)$", " n", want) == re.sub(r" (n|\d+)$", " n", call)


def candidates(causes: Iterable[Cause], sighting: Sighting) -> list[Candidate]:
    """The causes that fit, most likely first: those whose client sees it before those whose server does, what is
    hardly ever met after the others, the plain run before its variants, and a program's own close before a middlebox, in the
    order of the families. Raises `Misuse` for a RST from an end that no cause knows."""
    found: list[tuple[tuple[int, ...], Candidate]] = []
    families, ends = list(FAMILIES), set[str]()
    for cause in causes:
        for variant in cause.variants if sighting.rst_from else ():
            options = checked(cause, dict(variant))
            ends.update(rst.by for rst in cause.promise(options, rehearsal(cause.name, options)).resets or ())
        if sighting.after_idle and not cause.after_idle:
            continue
        own: list[tuple[tuple[int, ...], Candidate]] = []
        for number, variant in enumerate(cause.variants):
            options = checked(cause, dict(variant))
            promise = cause.promise(options, rehearsal(cause.name, options))
            roles = _fits(promise, sighting)
            if roles:
                rank = (int("client" not in roles), cause.seldom, number and 1, families.index(cause.family), number)
                own.append((rank, Candidate(cause, options, promise, roles)))
        found += sorted(own, key=lambda pair: pair[0])[:1]
    if sighting.rst_from is not None and sighting.rst_from not in ends:
        raise Misuse(
            f"which: --rst-from {sighting.rst_from} is no end of a connection: it is one of {', '.join(sorted(ends))}"
        )
    return [candidate for _, candidate in sorted(found, key=lambda pair: (pair[0], pair[1].cause.name))]


def tell(candidate: Candidate, others: Sequence[Candidate]) -> str:
    """The one observation that would tell it from the others: in its own words if it has any, else what only it promises."""
    near = {other.cause.name for other in others} - {candidate.cause.name}
    for name, tells in candidate.cause.lookalikes.items():
        if name in near:
            return f"not {name}: {tells}"
    for name in candidate.promise.counters or ():
        if all(name not in (other.promise.counters or ()) for other in others if other is not candidate):
            return f"only here {name} moves"
    for rst in candidate.promise.resets or ():
        if rst.reason and all(rst not in (other.promise.resets or ()) for other in others if other is not candidate):
            return f"only here the kernel's reset reason is {rst.reason}, from the {rst.by}"
    return "the calls alone do not tell it from the others: compare the packets with --packets"
