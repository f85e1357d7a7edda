"""From what a program wrote to the causes."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from faultkit import causes
from faultkit.errors import Misuse
from faultkit.messages import errnos, fitting, likely, unwrapping
from faultkit.messages.table import Entry, Found, entries, found_in
from faultkit.serving.faults import TESTERS

MOST = 1 << 16  # characters; arbitrary: more is a log, not a message
NEAR = 0.75  # how alike two lines are that may be the same; arbitrary


@dataclass(frozen=True)
class Known:
    """What is known besides the line."""

    after_idle: bool = False
    first_request: bool = False
    rst_from: str | None = None


@dataclass(frozen=True)
class Told:
    """What the line says: which call was told what, to whom."""

    program: str
    told: str
    writer: str
    pool: str
    when: tuple[str, ...]
    peer: str = ""
    upstream: str = ""
    idle: str = ""


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
    dropped: tuple[str, ...] = field(default=())  # what is known besides, and fits no cause of the line

    @property
    def known(self) -> bool:
        return bool(self.answers or self.not_tcp)


def read(pasted: str, known: Known | None = None, among: Sequence[Entry] | None = None) -> Reading:
    """The causes behind a line, the likeliest first. Raises `Misuse` for more than a message."""
    if len(pasted) > MOST:
        raise Misuse(
            f"which: --message has more than {MOST} characters: paste the lines of one failure, or read the log with --log"
        )
    layers = unwrapping.layers(pasted)
    found = _deciding([one for layer in layers for one in found_in(layer, among)])
    known = known or Known()
    if not found:
        return _by_errno(layers, known, among)
    not_tcp = tuple(dict.fromkeys(one.entry.not_tcp for one in found if one.entry.not_tcp))
    failed = [one for one in found if one.entry.told]
    if not failed:
        return Reading(found, not_tcp=not_tcp)
    settings = tuple(dict.fromkeys(one.entry.setting for one in found if one.entry.setting))
    return answered(Reading(found, _told(failed), not_tcp=not_tcp, settings=settings), known)


# The more a line says, the more it decides.
_TELLS = (
    "recv ",
    "send ",
    "connect E",
    "accept ",
    "recv or send ",
    "EOF ",
    "any ",
    "EOF",
    "own timer",
    "connect failed",
)


def _rank(one: Found) -> tuple[bool, int]:
    told = one.told
    fits = [(len(word), number) for number, word in enumerate(_TELLS) if told.startswith(word)]
    return one.entry.part, max(fits, default=(0, len(_TELLS)))[1]


def _deciding(found: Sequence[Found]) -> tuple[Found, ...]:
    """Each entry once; the one that says most first, and of two that say as much the innermost."""
    once = {(one.entry, one.errno): one for one in found}
    return tuple(sorted(once.values(), key=lambda one: (*_rank(one), not one.entry.pool, -one.length)))


def _told(found: Sequence[Found]) -> Told:
    first = found[0]
    groups: dict[str, str] = {}
    for one in found:
        groups = {**one.groups, **groups}
    return Told(
        program=first.entry.program,
        told=first.told,
        writer=next((one.entry.writer for one in found if one.entry.writer), ""),
        pool=next((one.entry.pool for one in found if one.entry.pool), ""),
        when=tuple(dict.fromkeys(when for one in found for when in one.entry.when)),
        peer=groups.get("peer", ""),
        upstream=groups.get("upstream", ""),
        idle=groups.get("idle", ""),
    )


_FRESH = frozenset({"first request", "at login", "tls handshake", "in the answer"})
_PEERS = {"server": "the client", "downstream": "the client", "upstream": "the server", "client": "the server"}


def answered(reading: Reading, known: Known) -> Reading:
    """The same with its answers."""
    told = reading.told
    assert told is not None
    when = [*told.when, *(["idle"] if known.after_idle else []), *(["first request"] if known.first_request else [])]
    server = told.writer in ("server", "downstream")
    wanted = (known.after_idle, known.first_request, known.rst_from)
    dropped = []
    found = fitting.fitting(told.told, server, *wanted)
    if not found and any(wanted):
        dropped = [
            word
            for word, given in zip(
                ("--after-idle", "--first-request", f"--rst-from {known.rst_from}"), wanted, strict=True
            )
            if given
        ]
        found = fitting.fitting(told.told, server)
    if not _FRESH.isdisjoint(when) and "idle" not in when:
        found = tuple(replace(fit, strong=False) if _idle(fit.name) else fit for fit in found)
    if "tls handshake" not in when and "first request" not in when:
        found = tuple(fit for fit in found if fit.name != "accept-then-reset")
    prior = likely.prior(told.program, told.pool, told.writer, told.told, when)
    answers = likely.answers(found, prior, _PEERS.get(told.writer, "the other end"))
    return replace(reading, answers=tuple(answers), prior=prior, dropped=tuple(dropped))


def _idle(name: str) -> bool:
    return name not in TESTERS and causes.load(name).after_idle


_CONNECTING = re.compile(r"\b(?:connect(?:ing)?|dial|establish\w*|handshake)\b", re.IGNORECASE)
# Broken pipe is what a shell says, too, of a pipe between two processes.
_PIPES = re.compile(
    r"(?:^|\s)(?:write error|standard output|stdout|echo|printf|cat|yes|tee|grep|awk|sed|tar|gzip)\b", re.IGNORECASE
)


def _by_errno(layers: Sequence[str], known: Known, among: Sequence[Entry] | None) -> Reading:
    """All that can be said where only an errno is known; else the nearest line."""
    for layer in layers:
        mentions = errnos.mentions(layer)
        if not mentions:
            continue
        start, end, name = mentions[-1]
        around = layer[max(0, start - 60) : start]
        if name == "EPIPE" and _PIPES.search(around):
            return Reading(
                words=layer[start:end],
                not_tcp=(
                    "a program wrote to a pipe whose reader had gone, as `yes | head -1` does: no TCP connection",
                ),
            )
        calls = "connect" if _CONNECTING.search(around) or name == "ECONNREFUSED" else "recv or send"
        told = Told("", f"{calls} {name}", "", "", ())
        return answered(Reading(told=told, words=layer[start:end]), known)
    return Reading(nearest=_nearest(layers[0], entries() if among is None else among))


@functools.lru_cache(4)
def _nearest(text: str, among: tuple[Entry, ...]) -> Entry | None:
    if len(text) > 1000:
        return None
    examples = {example.casefold(): entry for entry in among for example in entry.examples}
    near = difflib.get_close_matches(" ".join(text.split()).casefold(), examples, n=1, cutoff=NEAR)
    return examples[near[0]] if near else None
