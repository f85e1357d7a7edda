"""Which causes can have told a program that: by the promises of the catalogue, without a list of their own."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faultkit import causes
from faultkit.acting.play import rehearsal
from faultkit.cause import Cause, Options, Promise, checked
from faultkit.clients.sighting import ALIKE
from faultkit.serving.faults import TESTERS

# What either end can do to the other, though the catalogue plays it from one side: a server that was told it by its client was
# told what the cause promises the client. The others take a server: a listener, an idle timer, an answer to an upload.
MIRRORED = frozenset(
    {
        "linger",
        "unread",
        "crash",
        "late-write",
        "disconnect",
        "fin-wait-timeout",
        "half-open",
        "keepalive-timeout",
        "retransmit-timeout",
        "zero-window",
        "injected",
        "bad-segment",
        "time-wait",
    }
)

# Where somebody else has been told before, or has closed.
_ALIKE = {**ALIKE, "ENOTCONN": ("ECONNRESET", "EOF")}

# Of the faults that are no causes, those that tell a client that.
_TESTERS = {
    "EOF": ("accept-then-close", "half-close", "truncate"),
    "closed or reset": ("accept-then-reset", "accept-then-close", "half-close", "truncate"),
    "bad gateway": ("accept-then-reset", "accept-then-close", "garbage"),
    "EOF before any answer": ("accept-then-close", "half-close", "accept-then-reset", "garbage"),
    "EOF in the body": ("truncate",),
    "bad answer": ("garbage",),
    "own timer: handshake": ("stall",),
    "own timer: first byte": ("stall", "slow"),
    "own timer: between bytes": ("stall", "slow"),
    "own timer: request": ("stall", "slow"),
    "own timer: total": ("stall", "slow"),
    "own timer: pool": ("stall", "slow"),
}

# The writer's own timer ends what the kernel's would have ended later: these calls, of which it would have been told. The
# second are those of a writer that was still sending, which the line does not say.
_SILENT, _SENDING, _CONNECTING = r"recv (ETIMEDOUT|cancelled)", r"send ETIMEDOUT", r"connect (ETIMEDOUT|cancelled)"
_TIMERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "own timer: connect": ((_CONNECTING,), ()),
    "own timer: handshake": ((_SILENT,), ()),
    "own timer: first byte": ((_SILENT,), (_SENDING,)),
    "own timer: between bytes": ((_SILENT,), (_SENDING,)),
    "own timer: request": ((_SILENT,), ()),
    "own timer: send": ((_SENDING, _SILENT), ()),
    "own timer: idle": ((_SILENT, _SENDING), ()),
    "own timer: total": ((_SILENT, _CONNECTING), (_SENDING,)),
    "own timer: pool": ((_CONNECTING,), ()),
    "probes unanswered": ((_SILENT, _SENDING), ()),
    "packets dropped here": ((_SILENT, _SENDING, _CONNECTING), ()),
}


@dataclass(frozen=True)
class Fit:
    """A cause, or another fault that can be served, that tells what was told."""

    name: str
    strong: bool  # False: only if something else came first that the line does not say
    call: str  # what its promise has; "" of a fault that is no cause
    variant: int = 0
    late: bool = False  # it takes a pause, for which the line leaves little room

    @property
    def tester(self) -> bool:
        return self.name in TESTERS


@functools.cache
def _rehearsed(name: str) -> tuple[tuple[Options, Promise], ...]:
    cause = causes.load(name)
    made = [checked(cause, dict(variant)) for variant in cause.variants]
    return tuple((options, cause.promise(options, rehearsal(name, options))) for options in made)


def variant(name: str, number: int) -> tuple[Cause, Options, Promise]:
    """A cause with its options of that number."""
    return causes.load(name), *_rehearsed(name)[number]


@functools.cache
def ends() -> frozenset[str]:
    """Who sends a RST, in any promise."""
    every = (promise for cause in causes.by_family() for _, promise in _rehearsed(cause.name))
    return frozenset(rst.by for promise in every for rst in promise.resets or ())


def _roles(name: str, promise: Promise, server: bool, rst_from: str | None) -> Iterator[Sequence[str]]:
    """The calls of whoever may have written it. Where it is the other end's part, so is the end that sends the RST."""
    senders = {rst.by for rst in promise.resets or ()}
    for role, calls in promise.calls.items():
        mine = role == "server" or (name in MIRRORED and role != "balancer") if server else role != "server"
        mirrored = server and role != "server"
        sender = {"client": "server", "server": "client"}.get(rst_from or "", rst_from) if mirrored else rst_from
        if mine and role != "balancer" and (sender is None or sender in senders):
            yield [re.sub(r" [*+]$", "", call) for call in calls]


def _bad(calls: Sequence[str]) -> tuple[str, str]:
    """The first call that was told something bad, and the one before it."""
    before = ""
    for call in calls:
        if re.search(r" (E[A-Z]+|cancelled)$", call):
            return call, before
        before = call
    return "", before


def _told(told: str, calls: Sequence[str], counters: Sequence[str]) -> tuple[str, bool] | None:
    """The call of a promise that tells it, and whether nothing else was told before."""
    first, before = _bad(calls)
    if told.startswith("counter "):
        return ("", True) if told.removeprefix("counter ") in counters else None
    if told == "accept backlog":
        return ("", True) if any("Listen" in name for name in counters) else None
    if told in ("SYN queue", "SYNs dropped"):
        if any("Listen" in name for name in counters):
            return "", told == "SYNs dropped"
        return next(((call, True) for call in calls if call in ("connect ETIMEDOUT", "connect cancelled")), None)
    if told in ("connect failed", "unavailable"):
        return (first, True) if first.startswith("connect ") else None
    if told == "bad gateway" and first.startswith("connect "):
        return first, True
    if told in ("closed or reset", "bad gateway"):
        if first in ("recv EOF", "send EPIPE", "recv ECONNRESET", "send ECONNRESET"):
            return first, True
        return (first, True) if first in ("recv ETIMEDOUT", "send ETIMEDOUT") else None
    if told.startswith("EOF"):
        if "recv EOF" not in calls:
            return None
        if first != "recv EOF":
            return "recv EOF", first == "send EPIPE"
        return ("recv EOF", True) if told == "EOF" or before.startswith("send") else None
    if told in _TIMERS:
        for wanted, strong in zip(_TIMERS[told], (True, False), strict=True):
            for call in calls:
                if any(re.fullmatch(one, call) for one in wanted):
                    return call, strong
        return None
    call, _, outcome = told.rpartition(" ")
    if call == "connect" and outcome in _ALIKE:
        return (first, True) if first.startswith("connect ") else None
    if call == "connect" and outcome in ("ECONNRESET", "EPIPE"):
        call = "recv or send"  # wrappers say "connect" until their own greeting is over
    if call == "recv" and outcome == "EPIPE":
        call = "send"  # no recv() is told that: a library named the call before, as TLS does, which writes to read
    names = {"recv or send": ("recv", "send"), "any": ("connect", "recv", "send")}.get(call, (call,))
    for alike in _ALIKE.get(outcome, (outcome,)):
        for name in names:
            if f"{name} {alike}" in calls:
                strong = first == f"{name} {alike}" or (alike == "EPIPE" and first == "recv EOF")
                return f"{name} {alike}", strong
        # Who only writes is told by send() what another would be told by recv(), and the other way round.
        if alike != "EPIPE" and names != ("connect",):
            for name in ("recv", "send"):
                if f"{name} {alike}" in calls and first == f"{name} {alike}":
                    return f"{name} {alike}", True
    return None


def _testers(told: str) -> tuple[str, ...]:
    if told.endswith("ECONNRESET"):
        return ("accept-then-reset",)
    return _TESTERS.get(told, ())


@functools.cache
def fitting(
    told: str, server: bool, after_idle: bool = False, first_request: bool = False, rst_from: str | None = None
) -> tuple[Fit, ...]:
    """Every cause that can tell that to a client, or to a server, in the order of the catalogue; then the other faults."""
    found = []
    for cause in causes.by_family():
        if after_idle and not cause.after_idle:
            continue
        best: Fit | None = None
        for number, (_, promise) in enumerate(_rehearsed(cause.name)):
            for calls in _roles(cause.name, promise, server, rst_from):
                fits = _told(told, calls, list(promise.counters or ()))
                if fits is None:
                    continue
                earlier = itertools.takewhile(fits[0].__ne__, calls)
                if first_request and any(re.fullmatch(r"recv (n|\d+)", call) for call in earlier):
                    continue
                if best is None or (fits[1] and not best.strong):
                    best = Fit(cause.name, fits[1], fits[0], number)
        if told == "own timer: idle" and cause.name == "load-balancer-idle" and not first_request and rst_from is None:
            best = Fit(cause.name, True, "")  # who writes so is the balancer itself
        if best is not None:
            found.append(best)
    if not after_idle and rst_from is None:
        found += [Fit(name, True, "") for name in _testers(told)]
    return tuple(found)
