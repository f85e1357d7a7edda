"""What a cause promises, and whether the transcript holds it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from faultkit.evidence.attribution import paired
from faultkit.evidence.reasons import REASONS, Form
from faultkit.evidence.segments import Segment, form, is_pure_ack, read
from faultkit.evidence.transcript import Reset, Transcript

# The calls that a connection's fate is told by. Set-up (bind, listen, setsockopt ...) is recorded, not promised.
TELLING_CALLS = frozenset({"connect", "accept", "send", "recv", "shutdown", "disconnect", "close"})

# The counters that a reset or a timeout moves: one that a promise does not name must stand still.
TELLING_COUNTERS = (
    "TcpAttemptFails",
    "TcpEstabResets",
    "TcpOutRsts",
    "TcpExtTCPAbortOnData",
    "TcpExtTCPAbortOnClose",
    "TcpExtTCPAbortOnMemory",
    "TcpExtTCPAbortOnTimeout",
    "TcpExtTCPAbortOnLinger",
    "TcpExtTCPAbortFailed",
)


# Marks of segments that carry nothing that was not sent before.
NOTHING_NEW = frozenset(
    {"keep-alive", "keep-alive ACK", "window probe", "window probe ACK", "retransmission", "dup ACK"}
)


# The reason of a reset that no TCP sent: a firewall made it in that end's name (REJECT --reject-with tcp-reset).
FORGED = ""


@dataclass(frozen=True, slots=True)
class Rst:
    """One promised reset: whose end it comes from, and the kernel's reason (`enum sk_rst_reason`, without SK_RST_REASON_).

    `FORGED` for one that carries that end's address and was not sent by it: on the wire, and in no kernel's account.
    """

    by: str
    reason: str
    times: Literal["", " *", " +"] = ""  # as in a promise's sequences
    looks: Form | None = None  # where the kernel gives that reason to a RST of another form too

    @property
    def form(self) -> Form:
        """How it looks on the wire. A firewall has no socket to take a window from, so its own looks like the stack's."""
        if self.looks:
            return self.looks
        return REASONS[self.reason].form if self.reason != FORGED else "stack"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A counter that moves by n or more: retransmissions, for instance, depend on how long a run takes."""

    n: int

    def __str__(self) -> str:
        return f"{self.n} or more"


@dataclass(frozen=True, slots=True)
class Promise:
    """What each witness will see.

    `calls` gives each role's telling calls in order, and `packets` the segments in order without those that carry
    nothing (pure acknowledgements) or nothing new (retransmissions, keep-alives): "client SYN", "server PSH,ACK 5".
    An n for the size stands for any size, "this | that" for either; an item that ends in " *" stands for any number of
    itself, in " +" for one or more.
    None promises nothing of that kind.
    """

    calls: Mapping[str, Sequence[str]]
    packets: Sequence[str] | None = ()
    resets: Sequence[Rst] | None = ()
    counters: Mapping[str, int | AtLeast] | None = field(default_factory=dict)
    measurements: Sequence[str] = ()  # names of the durations that are predicted and measured
    exchanges: Sequence[str] | None = None  # requests to real programs and their outcomes: "POST /race 502"
    # Each program's, in order, as a promise's sequences; of each line a part is enough.
    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seconds: float = 0.1  # about how long the play takes


Witness = Literal["calls", "wire", "kernel", "clock", "program"]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of a promise with what a witness saw."""

    witness: Witness
    name: str
    expected: tuple[str, ...]
    seen: tuple[str, ...]
    agrees: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Produced as promised, or seen otherwise."""

    checks: tuple[Check, ...]

    @property
    def produced(self) -> bool:
        return all(check.agrees for check in self.checks)

    @property
    def differences(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.agrees)


def _pattern(item: str) -> str:
    """One item of a promise as a regular expression over lines."""
    many = item[-1] if item.endswith((" *", " +")) else ""
    either = "|".join(
        " ".join("[0-9]+" if word == "n" else re.escape(word) for word in words.split(" "))
        for words in item.removesuffix(" " + many).split(" | ")
    )
    return f"(?:(?:{either})\n){many}"


def _matches(expected: Sequence[str], seen: Sequence[str]) -> bool:
    return re.fullmatch("".join(map(_pattern, expected)), "".join(item + "\n" for item in seen)) is not None


def _sequence(witness: Witness, name: str, expected: Sequence[str], seen: Iterable[str]) -> Check:
    told = tuple(seen)
    return Check(witness, name, tuple(expected), told, _matches(expected, told))


def told(transcript: Transcript, role: str) -> list[str]:
    """That role's telling calls, in the words of a promise."""
    return [call.told for call in transcript.calls if call.role == role and call.name in TELLING_CALLS]


def shape(transcript: Transcript, segments: Sequence[Segment]) -> list[str]:
    """The segments that carry something new, in the words of a promise."""
    words = []
    for segment in segments:
        if is_pure_ack(segment) or segment.mark in NOTHING_NEW:
            continue
        packet = segment.packet
        size = f" {packet.payload}" if packet.payload else ""
        words.append(f"{transcript.role(packet.source)} {','.join(packet.flags)}{size}")
    return words


def judge(promise: Promise, transcript: Transcript) -> Verdict:
    """Hold the transcript against the promise. A witness that was not allowed here is not asked, and nothing is assumed of it."""
    checks = [_sequence("calls", role, expected, told(transcript, role)) for role, expected in promise.calls.items()]
    if transcript.overdue:
        waiting = tuple(f"{call.role} {call.name}" for call in transcript.calls if call.outcome == "cancelled")
        checks.append(Check("clock", "end", (f"within {promise.seconds:g} s",), ("still waiting", *waiting), False))
    if promise.exchanges is not None:
        checks.append(_sequence("program", "requests", promise.exchanges, (one.told for one in transcript.exchanges)))
    for program, parts in promise.lines.items():
        checks.append(_printed(program, parts, transcript))
    for name in promise.measurements:
        checks.append(_measured(name, transcript))
    if (packets := transcript.packets) is not None:
        if promise.packets is not None:
            checks.append(_sequence("wire", "packets", promise.packets, shape(transcript, read(packets))))
        if promise.resets is not None:
            seen = [f"{transcript.role(p.source)} {form(p)}" for p in packets if "RST" in p.flags]
            checks.append(
                _sequence("wire", "resets", [f"{rst.by} {rst.form}{rst.times}" for rst in promise.resets], seen)
            )
    if promise.counters is not None:
        checks += _counted(promise.counters, transcript)
    if promise.resets is not None and (resets := transcript.resets) is not None:
        sent = [reset for reset in resets if reset.direction == "sent"]
        checks.append(_reasons(promise.resets, sent, transcript))
    return Verdict(tuple(checks))


def _reasons(promised: Sequence[Rst], sent: list[Reset], transcript: Transcript) -> Check:
    """The reasons in the order of the packets. The trace's own is another (see `paired`), so without the packets no order
    is asked for."""
    whole = transcript.packets is not None
    events = _ordered(sent, transcript) if whole else sent
    seen = [f"{transcript.role(reset.source)} {reset.reason}" for reset in events]
    expected = [f"{rst.by} {rst.reason}{rst.times}" for rst in promised if rst.reason != FORGED]
    check = _sequence("kernel", "reset reasons", expected, seen)
    return check if whole else replace(check, agrees=_in_any_order(expected, seen))


def _ordered(sent: list[Reset], transcript: Transcript) -> list[Reset]:
    """The resets that were sent, in the order of their packets.

    The trace is the whole machine's, and a reset for a listening socket names no peer: one without a packet of ours is
    that of another namespace, whose listener has the same port.
    """
    events = paired(transcript)
    captured = [events[number] for number in sorted(events)]
    return captured + [event for event in sent if event not in captured and event.destination.port]


def _in_any_order(expected: Sequence[str], seen: Sequence[str]) -> bool:
    """Is each there as often as promised? Items as in a promise's sequences, without " | "."""
    least = Counter(item.removesuffix(" +") for item in expected if not item.endswith(" *"))
    repeated = {item[:-2] for item in expected if item.endswith((" *", " +"))}
    found = Counter(seen)
    return all(found[word] >= least[word] if word in repeated else found[word] == least[word] for word in found | least)


def _said(expected: Sequence[str], lines: Sequence[str]) -> bool:
    """Does each line have its part in it? All places of `expected` at which the next line may be are followed at once."""
    last = len(expected)
    at = _skipping(expected, {0})
    for line in lines:
        held = {n for n in at if n < last and any(part in line for part in _parts(expected[n]))}
        again = {n for n in held if expected[n].endswith((" *", " +"))}
        at = _skipping(expected, {n + 1 for n in held} | again)
    return last in at


def _skipping(expected: Sequence[str], places: set[int]) -> set[int]:
    """Those places, and the ones after them where an item stands for no line at all."""
    found = set()
    for place in places:
        found.add(place)
        while place < len(expected) and expected[place].endswith(" *"):
            place += 1
            found.add(place)
    return found


def _parts(item: str) -> list[str]:
    return item.removesuffix(" *").removesuffix(" +").split(" | ")


def _printed(program: str, expected: Sequence[str], transcript: Transcript) -> Check:
    seen = tuple(line.text for line in transcript.lines if line.program == program)
    agrees = _said(expected, seen)
    return Check("program", f"{program}'s log", tuple(expected), seen, agrees)


def _measured(name: str, transcript: Transcript) -> Check:
    for seen in transcript.measurements:
        if seen.name == name:
            expected = (f"{seen.predicted:.3f} s to {seen.latest:.3f} s",)
            return Check("clock", name, expected, (f"{seen.measured:.3f} s",), seen.agrees)
    return Check("clock", name, ("measured",), ("not measured",), False)


def _counted(promised: Mapping[str, int | AtLeast], transcript: Transcript) -> list[Check]:
    """Exact in a namespace of our own; on the host others move the counters too, so there only "at least" can be judged."""
    checks = []
    for name in dict.fromkeys((*promised, *TELLING_COUNTERS)):
        wanted = promised.get(name, 0)
        seen = transcript.counted.get(name, 0)
        least = wanted.n if isinstance(wanted, AtLeast) else wanted
        exact = isinstance(wanted, int) and transcript.counters is not None
        if seen or least:
            checks.append(
                Check("kernel", name, (str(wanted),), (str(seen),), seen == least if exact else seen >= least)
            )
    return checks
