"""Which causes make a program say what a person pasted."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faultkit import causes
from faultkit.acting.play import rehearsal
from faultkit.cause import FAMILIES, Cause, checked
from faultkit.clients.known import Known, Match, errnos, known, match
from faultkit.clients.sighting import Candidate
from faultkit.errors import Misuse
from faultkit.serving.faults import TESTERS

MOST = 1 << 16  # characters; arbitrary: more is a log, not a message


@dataclass(frozen=True)
class Reading:
    """A pasted message, read."""

    match: Match
    found: tuple[Candidate, ...]  # most likely first
    ways: Mapping[str, str]  # by the cause's name: how it is known to make that message
    testers: tuple[str, ...]  # faults that are no causes

    @property
    def known(self) -> bool:
        return bool(self.match.known or self.match.words)


def read(pasted: str, among: Sequence[Known] | None = None) -> Reading:
    """Those that were seen to end so, those that always do first; then those that no server can play, but that promise the
    same errno. Within these, what is hardly ever met last, and a program's own close before a middlebox, in the order of the
    families. Where only an errno is known, all that promise it. Raises `Misuse` for more than a message."""
    if len(pasted) > MOST:
        raise Misuse(
            f"which: --message has {len(pasted)} characters: paste the lines of one failure, {MOST} characters at most"
        )
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
    taken = Counter(taken for cause in causes.by_family() for taken in cause.lookalikes)
    texts = [pasted] if matched.words else [one.text for one in matched.known]
    wanted = {name for text in texts for name in _calls(text)}
    for number, cause in enumerate(causes.by_family()):
        rank = (cause.seldom, families.index(cause.family), -taken[cause.name], number)
        if mine := served.get(cause.name):
            variants = [fault.partition(" ")[0].partition(":")[2] for fault in mine]
            every = all(fault in always for fault in mine) and len({*variants}) == len(cause.served)
            ranked.append(((0, cause.seldom, not every, *rank), _candidate(cause.name, variants[0])))
            ways[cause.name] = f"seen: faultkit serve {', '.join(mine)}"
        elif (matched.words or not cause.served) and (call := _promised(cause, wanted)):
            ranked.append(((1, *rank), _candidate(cause.name, "")))
            how = "promises" if matched.words else "cannot be served, but promises"
            ways[cause.name] = f"{how} the client `{call}`"
    found = tuple(candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0]))
    return Reading(matched, found, ways, tuple(fault for fault in faults if plain(fault) in TESTERS))


def plain(fault: str) -> str:
    """The cause, or the tester's fault, without variant and flags: "linger" of "linger --at mid-body"."""
    return fault.partition(" ")[0].partition(":")[0]


@functools.cache
def _candidate(name: str, variant: str) -> Candidate:
    """The cause, with the options that play that variant of its fault."""
    cause = causes.load(name)
    chosen = next((options for options in cause.variants if variant in options.values()), cause.variants[0])
    options = checked(cause, dict(chosen))
    return Candidate(cause, options, cause.promise(options, rehearsal(cause.name, options)), ("client",))


def _calls(text: str) -> list[str]:
    """The calls that may have had the errnos that a message names."""
    connecting = re.search(r"\bconnect(?:ing)?\b|establish", text, re.IGNORECASE)
    calls = ("connect",) if connecting else ("recv", "send")
    return [f"{call} {name}" for name in errnos(text) for call in calls]


def _promised(cause: Cause, wanted: set[str]) -> str:
    for variant in cause.variants:
        options = checked(cause, dict(variant))
        for call in cause.promise(options, rehearsal(cause.name, options)).calls.get("client", ()):
            if re.sub(r" [*+]$", "", call) in wanted:
                return call
    return ""
