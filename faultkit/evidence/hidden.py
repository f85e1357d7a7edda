"""Attribution against the kernel's own account: the same run with the kernel's reasons hidden. Pure.

What is inferred must hold what the kernel said. It may be more than one answer only where the evidence is the same for
all of them, and then it is in `NOT_TOLD`, which is also the table of docs/attribution.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from faultkit.evidence.attribution import attribute
from faultkit.evidence.by_packets import MIDDLEBOX
from faultkit.evidence.transcript import Transcript
from faultkit.evidence.verdict import Promise

Pair = tuple[str, str]  # who, and the kernel's reason


@dataclass(frozen=True, slots=True)
class Compared:
    """The RSTs of one run, in order: all that each may be, without the kernel's reasons; and what they are."""

    inferred: tuple[tuple[Pair, ...], ...]
    known: tuple[Pair, ...] | None  # None: nobody saw the kernel's reasons, or its packets
    promised: tuple[Pair, ...]  # in the promise's order, each once however often it is promised


@dataclass(frozen=True, slots=True)
class NotTold:
    """Answers between which nothing tells but the kernel's own reason, and why. None among `reasons` is a middlebox."""

    where: str
    reasons: tuple[str | None, ...]
    why: str
    alone: bool  # it happens in a namespace of our own too


ANY = "any reason"
_ANSWERS = ("NO_SOCKET", "TCP_FLAGS", "TCP_TIMEWAIT_SOCKET", "TCP_ABORT_ON_DATA", "INVALID_SYN")
_ABORTS = (
    "TCP_STATE",
    "TCP_DISCONNECT_WITH_DATA",
    "TCP_ABORT_ON_CLOSE",
    "TCP_ABORT_ON_LINGER",
    "TCP_ABORT_ON_MEMORY",
    "TCP_KEEPALIVE_TIMEOUT",
)
NOT_TOLD: tuple[NotTold, ...] = (
    NotTold(
        "two sockets abort between two readings of the counters",
        ("TCP_STATE", "TCP_ABORT_ON_CLOSE"),
        "one of each moved TCPAbortOnData and TCPAbortOnClose, the packets are alike, and which socket was which is not counted",
        alone=True,
    ),
    NotTold(
        "on the host",
        (ANY, None),
        "TcpOutRsts moved: others move it too, so it may have been theirs",
        alone=False,
    ),
    NotTold(
        "on the host",
        _ANSWERS,
        "an answer of the stack, where TCPAbortOnData or EmbryonicRsts moved: others move them too",
        alone=False,
    ),
    NotTold(
        "on the host",
        _ABORTS,
        "a socket's abort, where several of the TCPAbortOn counters moved: others move them too",
        alone=False,
    ),
)


def compared(transcript: Transcript, promise: Promise) -> Compared:
    """Infer everything once more, without the kernel's reasons."""
    hidden = replace(transcript, traced=[], absent={**transcript.absent, "reasons": "hidden"})
    inferred = tuple(one.one_of for one in attribute(hidden))
    promised = tuple((rst.by, rst.reason) if rst.reason else (MIDDLEBOX, "") for rst in promise.resets or ())
    if transcript.packets is None or transcript.resets is None:
        return Compared(inferred, None, promised)
    return Compared(inferred, tuple(one.one_of[0] for one in attribute(transcript)), promised)


def wrong(inferred: Sequence[Sequence[Pair]], known: Sequence[Pair]) -> str:
    """The first RST that is not among what it was taken for; "" where there is none.

    `known` may be another run's, which has more of them where it has retransmitted: then each must be one of those.
    """
    for number, one_of in enumerate(inferred):
        may_be = [known[number]] if len(inferred) == len(known) else known
        # Of a RST that nobody saw it is known who sent it, and no more.
        if not any(pair in one_of or (pair[0], "") in one_of for pair in may_be):
            return f"RST {number + 1}: {' or '.join(map(str, one_of))}, and it was {' or '.join(map(str, may_be))}"
    return ""


def explained(one_of: Sequence[Pair], *, alone: bool) -> bool:
    """Is it one answer, or between answers of a row of `NOT_TOLD`?"""
    named = {None if by == MIDDLEBOX else reason for by, reason in one_of}
    rows = [{*row.reasons} for row in NOT_TOLD if row.alone or not alone]
    if {ANY, None} in rows:
        named.discard(None)
    return len(named) == 1 or any(named <= row for row in rows)


def table() -> str:
    """`NOT_TOLD` as Markdown."""
    rows = [f"| {row.where} | {', '.join(map(_word, row.reasons))} | {row.why} |" for row in NOT_TOLD]
    return "\n".join(["| where | one of | why |", "|---|---|---|", *rows])


def _word(reason: str | None) -> str:
    return "a middlebox" if reason is None else reason if reason == ANY else f"`{reason}`"
