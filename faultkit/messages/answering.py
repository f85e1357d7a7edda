"""From what was told, and what else is known, to the answers: the likeliest first, and what to ask next."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from faultkit import causes
from faultkit.messages import asking, elsewhere, fitting, likely
from faultkit.messages.peers import NOBODY, Peers
from faultkit.messages.table import Entry, Found
from faultkit.serving.faults import TESTERS

if TYPE_CHECKING:
    from faultkit.explaining.diagnosis import Diagnosis

_FRESH = frozenset({"first request", "connecting", "at login", "tls handshake", "in the answer"})
_USED = frozenset({"reused", "idle", "in the answer", "between requests", "in a transaction", "uploading"})
_PEERS = {"server": "the client", "downstream": "the client", "upstream": "the server", "client": "the server"}


@dataclass(frozen=True)
class Known:
    """What is known besides the line."""

    after_idle: bool = False
    first_request: bool = False
    rst_from: str | None = None
    every: float | None = None  # seconds
    since: str | None = None  # what happened then


@dataclass(frozen=True)
class Told:
    """What the line says: which call was told what, to whom."""

    program: str
    told: str
    writer: str
    pool: str
    when: tuple[str, ...]
    peers: Peers = NOBODY
    idle: str = ""  # for how long, as the line has it
    unix: bool = False  # over a Unix socket


@dataclass(frozen=True)
class Reading:
    """A pasted message, read."""

    found: tuple[Found, ...] = ()  # the deciding one first
    told: Told | None = None
    answers: tuple[likely.Answer, ...] = ()  # the likeliest first
    prior: likely.Prior | None = None
    words: str = ""  # where all that is known is an errno: how the text names it
    not_tcp: tuple[str, ...] = ()
    nearest: Entry | None = None
    settings: tuple[str, ...] = ()
    questions: tuple[asking.Question, ...] = ()
    dropped: tuple[str, ...] = ()  # what is known besides, and fits no cause of the line
    hints: tuple[str, ...] = ()  # what is known besides says so
    packets: tuple[Diagnosis, ...] = ()  # the connections of which it holds rows

    @property
    def known(self) -> bool:
        return bool(self.answers or self.not_tcp or self.packets)


def answered(reading: Reading, known: Known) -> Reading:
    """The same with its answers."""
    told = reading.told
    assert told is not None
    when = [*told.when, *(["idle"] if known.after_idle else []), *(["first request"] if known.first_request else [])]
    # Who says only that it was told, and the RST has the client's address: then it is the server.
    server = told.writer in ("server", "downstream") or (not told.writer and known.rst_from == "client")
    found, dropped = _fitting(told, server, known)
    if "--after-idle" in dropped:
        when.remove("idle")
    if not _FRESH.isdisjoint(when) and "idle" not in when:
        found = tuple(replace(fit, late=True) if _idle(fit.name) else fit for fit in found)
    if not _USED.isdisjoint(when):
        found = tuple(fit for fit in found if fit.name != "accept-then-reset")
    prior = likely.prior(told.program, told.pool, told.writer, told.told, when)
    answers = likely.answers(found, prior, _PEERS.get(told.writer, "the other end"))
    if told.unix:
        answers, prior = elsewhere.unix_answers(answers, told.told, _PEERS.get(told.writer, "the other end"))
    named, hints = likely.hinted(known.every, known.since)
    if known.since is None and {answer.name for answer in answers if answer.likely}.isdisjoint(
        likely.timed(known.every) or named
    ):
        hints = ()  # it comes so often for another reason
    answers = likely.first(answers, named)
    asked = asking.questions(
        [answer.name for answer in answers], told.pool, told.peers.of(told.writer), told.told, told.unix
    )
    return replace(
        reading, answers=tuple(answers), prior=prior, dropped=tuple(dropped), hints=hints, questions=tuple(asked)
    )


def _fitting(told: Told, server: bool, known: Known) -> tuple[tuple[fitting.Fit, ...], list[str]]:
    """What fits it and as much as may be of what else is known; and what of that was left out."""
    names = {"--after-idle": known.after_idle, "--first-request": known.first_request, "--rst-from": known.rst_from}
    # What the line itself says of a connection that was at work is surer than what is remembered.
    fresh = not {*told.when, *(["in the answer"] * (told.told == "EOF in the body"))}.isdisjoint(_FRESH)
    out = ["--after-idle"] if known.after_idle and fresh and "idle" not in told.when else []
    given = [name for name, value in names.items() if value and name not in out]
    for number in range(len(given) + 1):
        for less in itertools.combinations(given[::-1], number):
            wanted = (value if name in given and name not in less else None for name, value in names.items())
            idle, first, end = wanted
            if found := fitting.fitting(
                told.told, server, bool(idle), bool(first), end if isinstance(end, str) else None
            ):
                left = [*out, *less]
                return found, [
                    f"{name} {known.rst_from}" if name == "--rst-from" else name for name in names if name in left
                ]
    return (), []


def _idle(name: str) -> bool:
    return name not in TESTERS and causes.load(name).after_idle
