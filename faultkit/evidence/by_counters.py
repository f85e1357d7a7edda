"""What the kernels' counters leave of the explanations of all the RSTs of a run. Pure.

A kernel counts each RST that it sends (TcpOutRsts), and some reasons have a counter of their own. So between two readings
the counters of a namespace have to add up: every choice of one explanation for each RST that does not is none. Counters
that others move too, on the host, can only be too high.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faultkit.evidence.by_calls import listening, recorded
from faultkit.evidence.by_packets import EMBRYONIC, MIDDLEBOX, Explanation
from faultkit.evidence.segments import form
from faultkit.evidence.transcript import Count, Packet, Transcript

SENT = "TcpOutRsts"
# Moved by nothing but a RST that is sent (__tcp_close(), tcp_rcv_state_process()). The others are moved by a timeout that
# sends none (TCPAbortOnTimeout), by a RST that is received (EmbryonicRsts), or by close() in a state that needs none.
_ALWAYS_SENT = ("TcpExtTCPAbortOnClose", "TcpExtTCPAbortOnLinger", "TcpExtTCPAbortOnMemory")
_ON_DATA = "TcpExtTCPAbortOnData"
_KEPT = (SENT, *_ALWAYS_SENT, _ON_DATA, "TcpExtTCPAbortOnTimeout", EMBRYONIC, "TcpExtPAWSActive")
_USED = (*_KEPT, "TCP_ABORT_ON_DATA", "INVALID_SYN")  # of each of these a choice uses so many
_MANY = 40  # RSTs between two readings; arbitrary: more are asked one by one, which leaves out less
_MARGIN_NS = 1_000_000  # arbitrary: a socket's abort is counted some microseconds before it is captured


@dataclass(frozen=True, slots=True)
class Span:
    """The RSTs of one namespace between two readings of its counters, by their places, and what moved meanwhile."""

    rsts: tuple[int, ...]
    moved: Counter[str]
    # Where every end's calls are known: what may have moved EmbryonicRsts (a RST received where somebody listens) and
    # TCPAbortOnData (a close with SO_LINGER {on, 0}) without a RST of that reason.
    embryonic: int | None
    lingering: int | None
    whole: bool  # every RST that was sent was captured
    alone: bool  # nobody else moves the counters


Found = list[list[Explanation]]


def left(found: Found, rsts: Sequence[Packet], transcript: Transcript) -> Found:
    """For each RST those with which the counters add up."""
    kept = [list(each) for each in found]
    for span in _spans(rsts, transcript):
        those = _adding_up([found[number] for number in span.rsts], span)
        for number, each in zip(span.rsts, those, strict=True):
            kept[number] = each
    return kept


def _spans(rsts: Sequence[Packet], transcript: Transcript) -> Iterator[Span]:
    """Between readings that no RST came near to."""
    for name in dict.fromkeys(place(rst, transcript) for rst in rsts):
        numbers = [number for number, rst in enumerate(rsts) if place(rst, transcript) == name]
        before, since = Counter[str](), transcript.began_ns
        for count in _readings(name, [rsts[number] for number in numbers], transcript):
            within = tuple(number for number in numbers if rsts[number].time_ns <= count.passed_ns)
            numbers = numbers[len(within) :]
            moved = Counter({name: count.moved.get(name, 0) - before[name] for name in _KEPT})
            before = Counter(count.moved)
            if within:
                lingering = _lingering(since, count.ended_ns, transcript)
                embryonic = _embryonic([rsts[number] for number in within], transcript)
                yield Span(within, moved, embryonic, lingering, not transcript.strangers, transcript.alone)
            since = count.passed_ns


def sent(rst: Packet, transcript: Transcript) -> tuple[str, int]:
    """The namespace of a RST's sender, and how many that one has counted as its own in the whole run."""
    name = place(rst, transcript)
    counts = [count.moved for count in transcript.counts if count.place == name] or [transcript.counted]
    return name, counts[-1].get(SENT, 0)


def place(rst: Packet, transcript: Transcript) -> str:
    """The namespace of its sender, as in `Count`."""
    return transcript.places.get(rst.source.host, "")


def _readings(name: str, rsts: Sequence[Packet], transcript: Transcript) -> Iterator[Count]:
    counts = [count for count in transcript.counts if count.place == name]
    for count in counts:
        following = next((rst for rst in rsts if rst.time_ns > count.passed_ns), None)
        margin = _MARGIN_NS if following and form(following) == "active" else 0
        if count is counts[-1] or following is None or following.time_ns > count.ended_ns + margin:
            yield count
    if not counts and rsts:  # one sum for all of it
        yield Count(name, rsts[-1].time_ns, rsts[-1].time_ns, transcript.counted)


def _lingering(since: int, until: int, transcript: Transcript) -> int | None:
    if not all(recorded(role, transcript) for role in transcript.roles.values()):
        return None
    sockets = {(call.role, call.socket) for call in transcript.calls if call.argument == "SO_LINGER {1, 0}"}
    closes = [call for call in transcript.calls if call.name == "close" and (call.role, call.socket) in sockets]
    return sum(since <= call.ended_ns and call.began_ns <= until for call in closes)


def _embryonic(rsts: Sequence[Packet], transcript: Transcript) -> int | None:
    if not all(recorded(role, transcript) for role in transcript.roles.values()):
        return None
    return sum(listening(rst.destination, rst.time_ns, transcript) is not False for rst in rsts)


def _adding_up(each: Found, span: Span) -> Found:
    """For each RST the explanations that are part of a choice with which it adds up; all of them where none does."""
    possible = [[one for one in those if _affordable(one, span)] for those in each]
    if len(each) > _MANY:
        return [those or old for those, old in zip(possible, each, strict=True)]
    ways: list[set[tuple[int, ...]]] = [{(0,) * len(_USED)}]
    for those in possible:
        ways.append({_added(way, one) for way in ways[-1] for one in those if _fits(_added(way, one), span)})
    good = {way for way in ways[-1] if _adds_up(way, span)} or ways[-1]
    if not good:
        return each
    found: Found = []
    for those, before in zip(reversed(possible), reversed(ways[:-1]), strict=True):
        found.append([one for one in those if any(_added(way, one) in good for way in before)])
        good = {way for way in before for one in those if _added(way, one) in good}
    return found[::-1]


def _affordable(one: Explanation, span: Span) -> bool:
    return one.by == MIDDLEBOX or (span.moved[SENT] > 0 and (not one.moves or span.moved[one.moves] > 0))


def _added(way: tuple[int, ...], one: Explanation) -> tuple[int, ...]:
    if one.by == MIDDLEBOX:
        return way
    return tuple(n + (name in (SENT, one.moves, one.reason)) for name, n in zip(_USED, way, strict=True))


def _fits(way: tuple[int, ...], span: Span) -> bool:
    return all(n <= span.moved[name] for name, n in zip(_KEPT, way, strict=False))


def _adds_up(way: tuple[int, ...], span: Span) -> bool:
    """Not only not too much, but all of it: which is asked only of counters that nobody else moves."""
    used = dict(zip(_USED, way, strict=True))
    if not span.alone or not span.whole or used[SENT] != span.moved[SENT]:
        return False
    if span.lingering is not None and used["TCP_ABORT_ON_DATA"] + span.lingering < span.moved[_ON_DATA]:
        return False
    if span.embryonic is not None and used["INVALID_SYN"] + span.embryonic < span.moved[EMBRYONIC]:
        return False
    return all(used[name] == span.moved[name] for name in _ALWAYS_SENT)
