"""Which causes make a program say what a person pasted."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faultkit import causes
from faultkit.cause import FAMILIES, Cause, checked
from faultkit.clients.known import Known, Match, errnos, known, match
from faultkit.play import rehearsal
from faultkit.serving.faults import TESTERS
from faultkit.which import Candidate


@dataclass(frozen=True)
class Reading:
    """A pasted message, read."""

    match: Match
    found: tuple[Candidate, ...]  # most likely first
    ways: Mapping[str, str]  # by the cause's name: how it is known to make that message
    testers: tuple[str, ...]  # faults that are no causes


def read(pasted: str, among: Sequence[Known] | None = None) -> Reading:
    """Those that were seen to end so, those that always do first; then those that no server can play, but that promise the
    same errno. Within these, a program's own close before a middlebox, in the order of the families."""
    matched = match(pasted, known() if among is None else among)
    faults = list(dict.fromkeys(fault for one in matched.known for fault in one.faults))
    always = {fault for one in matched.known for fault in one.always}
    served: dict[str, list[str]] = {}
    for fault in faults:
        if plain(fault) not in TESTERS:
            served.setdefault(plain(fault), []).append(fault)
    ranked: list[tuple[tuple[int, ...], Candidate]] = []
    ways: dict[str, str] = {}
    families = list(FAMILIES)
    taken = Counter(like.cause for cause in causes.by_family() for like in cause.lookalikes)
    wanted = {name for one in matched.known for name in _calls(one.text)}
    for number, cause in enumerate(causes.by_family()):
        family = families.index(cause.family)
        if mine := served.get(cause.name):
            variants = {fault.partition(" ")[0] for fault in mine}
            every = all(fault in always for fault in mine) and len(variants) == len(cause.served)
            ranked.append(((0, not every, family, -taken[cause.name], number), _candidate(cause.name)))
            ways[cause.name] = f"seen: faultkit serve {', '.join(mine)}"
        elif matched.known and not cause.served and (call := _promised(cause, wanted)):
            ranked.append(((1, 0, family, -taken[cause.name], number), _candidate(cause.name)))
            ways[cause.name] = f"cannot be served, but promises the client `{call}`"
    found = tuple(candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0]))
    return Reading(matched, found, ways, tuple(fault for fault in faults if plain(fault) in TESTERS))


def plain(fault: str) -> str:
    """The cause, or the tester's fault, without variant and flags: "linger" of "linger --at mid-body"."""
    return fault.partition(" ")[0].partition(":")[0]


@functools.cache
def _candidate(name: str) -> Candidate:
    cause = causes.load(name)
    options = checked(cause, dict(cause.variants[0]))
    return Candidate(cause, options, cause.promise(options, rehearsal(cause, options)), ("client",))


def _calls(text: str) -> list[str]:
    """The calls that may have had the errnos that a message names."""
    connecting = re.search(r"\bconnect(?:ing)?\b|establish", text, re.IGNORECASE)
    calls = ("connect",) if connecting else ("recv", "send")
    return [f"{call} {name}" for name in errnos(text) for call in calls]


def _promised(cause: Cause, wanted: set[str]) -> str:
    for variant in cause.variants:
        options = checked(cause, dict(variant))
        for call in cause.promise(options, rehearsal(cause, options)).calls.get("client", ()):
            if re.sub(r" [*+]$", "", call) in wanted:
                return call
    return ""
