"""Do the timeouts along a chain, from the client to the server, nest? Which two race, and why. Pure.

Two orders, and both are needed. Of an *idle* connection the one who reuses it must let go before the one who closes it:
client < proxy < server. Of a *request* the one who waits must wait longer than the one who works: client > proxy > server.
And between two hops something may count silence and forget the connection: the silence must end before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Final

from faultkit.errors import Misuse
from faultkit.nesting.settings import Place, moves_together, setting
from faultkit.nesting.timeouts import MIDDLEBOXES, NEVER, OFF, Chain, Hop, Kind, Middlebox, Pair, Timer, spelled

# The closer's clock starts when it sends the answer, the reuser's when the answer arrives, and the next request travels too:
# one round trip, well under a second. Beside that, many servers look at their clocks only once a second.
MARGIN: Final = Decimal(1)


def check(chain: Chain, *, margin: Decimal = MARGIN) -> list[Pair]:
    """Every pair of timeouts that must nest, from the client to the server.

    Raises `Misuse` where too little is said for a pair to be judged, or something that decides nothing.
    """
    _check_shape(chain)
    pairs = list(_pairs(chain, margin))
    if not pairs:
        raise Misuse("no two neighbours say a timeout of the same kind: give both an idle or a request timeout")
    return [pair if pair.nests else _explained(pair, chain, margin) for pair in pairs]


def unchecked(chain: Chain) -> list[str]:
    """The request timeouts that could not be compared: a neighbour may have none, and then that must be said."""
    told = []
    for outer, inner in pairwise(hop for hop in chain if isinstance(hop, Hop)):
        if (outer.request is None) != (inner.request is None):
            silent = outer if outer.request is None else inner
            told.append(f"the request timeouts of {outer.name} and {inner.name}: {silent.name} gives none")
    return told


def _check_shape(chain: Chain) -> None:
    hops = [hop for hop in chain if isinstance(hop, Hop)]
    if len(hops) < 2:
        raise Misuse("one timeout cannot nest: give two or more, from the client to the server, such as 30 60 65")
    names = [hop.name for hop in chain]
    odd = next((name for name in names if not name.isprintable() or name != name.strip() or not name), None)
    if odd is not None:
        raise Misuse(f"{odd!r} cannot name a hop: take printable letters, without spaces at the ends")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise Misuse(f"two hops are named {twice}: give each a name of its own, such as {twice}-2")
    for end in (chain[0], chain[-1]):
        if isinstance(end, Middlebox):
            raise Misuse(f"{end.name} is an end of the chain: put it between the two that speak through it")
    if len(hops) == len(chain):
        sides = [(hop.name, side) for hop in hops for side in (hop.downstream, hop.upstream)]
        idler = next(
            (name for name, side in sides if side.tcp_keepalive is not None or side.heartbeat is not None), None
        )
        if idler:
            raise Misuse(
                f"{idler} has a tcp-keepalive or a heartbeat, and nothing in the chain forgets a silent connection: add what "
                f"does ({', '.join(MIDDLEBOXES)}), or leave it out"
            )


def _pairs(chain: Chain, margin: Decimal) -> Iterator[Pair]:
    near: Hop | None = None
    between: list[Middlebox] = []
    for hop in chain:
        if isinstance(hop, Middlebox):
            between.append(hop)
            continue
        if near is not None:
            yield from _of_neighbours(near, hop, margin)
            for box in between:
                yield from _through(box, near, hop, margin)
        near, between = hop, []


def _timers(near: Hop, far: Hop) -> dict[Place, tuple[Timer | None, Timer | None]]:
    """What the two say of the connection between them: `near` opens it, reuses it, and waits; `far` answers and closes."""

    def timer(seconds: Decimal | None, hop: Hop, place: Place, other: Hop) -> Timer | None:
        return None if seconds is None else Timer(hop.name, seconds, place, setting(hop.name, place, other.name))

    return {
        "upstream": (
            timer(near.upstream.idle, near, "upstream", far),
            timer(far.downstream.idle, far, "downstream", near),
        ),
        "request": (timer(near.request, near, "request", far), timer(far.request, far, "request", near)),
    }


def _of_neighbours(near: Hop, far: Hop, margin: Decimal) -> Iterator[Pair]:
    reuser, closer = _timers(near, far)["upstream"]
    waiter, worker = _timers(near, far)["request"]
    if reuser and closer:
        yield _judged("keep-alive", reuser, closer, margin, "keepalive-race")
    elif reuser or closer:
        given, missing = (near, far) if reuser else (far, near)
        raise Misuse(
            f"{given.name} has an idle timeout towards {missing.name}, and {missing.name} says nothing of its own: add it, "
            "or never, if it keeps idle connections for ever"
        )
    if waiter and worker:
        yield _judged("request", worker, waiter, margin, "late-write")


def _through(box: Middlebox, near: Hop, far: Hop, margin: Decimal) -> Iterator[Pair]:
    """How long the two may be silent through the box: while the connection is idle, and while a request is worked on."""
    spoken = []
    for hop, side in ((near, near.upstream), (far, far.downstream)):
        if side.heartbeat is not None:
            spoken.append(Timer(hop.name, side.heartbeat, None, f"{hop.name}'s heartbeat"))
        if side.tcp_keepalive is not None and MIDDLEBOXES[box.cause]:
            spoken.append(Timer(hop.name, side.tcp_keepalive, None, f"{hop.name}'s TCP_KEEPIDLE"))
    said = {
        "idle": [timer for timer in _timers(near, far)["upstream"] if timer],
        "while a request is worked on": [timer for timer in _timers(near, far)["request"] if timer],
    }
    limit = Timer(box.name, box.forgets, None, f"the time after which {box.name} forgets")
    for when, ends in {when: ends for when, ends in said.items() if ends}.items() or (("idle", []),):
        if not ends + spoken:
            raise Misuse(
                f"nothing says how long {near.name} and {far.name} may be silent through {box.name}: give one of them an "
                "idle, request, tcp-keepalive or heartbeat"
            )
        first = min(ends + spoken, key=lambda timer: timer.seconds)
        pair = _judged("silence", first, limit, margin, box.cause)
        yield replace(pair, state=f"{when}, {pair.state}")


def _judged(kind: Kind, shorter: Timer, longer: Timer, margin: Decimal, cause: str) -> Pair:
    if OFF in (shorter.seconds, longer.seconds):
        nests, state = True, "no connection is kept, so none is idle"
    elif NEVER in (shorter.seconds, longer.seconds):
        nests = longer.seconds == NEVER
        state = "the longer one never ends" if nests else "not shorter"
    else:
        gap = longer.seconds - shorter.seconds
        nests = gap > 0 and gap >= margin
        if nests:
            state = f"{spelled(gap)} apart"
        elif gap > 0:
            state = f"only {spelled(gap)} apart, and the margin is {spelled(margin)}"
        else:
            state = f"{spelled(-gap)} longer, not shorter" if gap else "equal"
    return Pair(kind, shorter, longer, nests, state, cause)


def _explained(pair: Pair, chain: Chain, margin: Decimal) -> Pair:
    if pair.kind == "silence":
        box = next(hop for hop in chain if hop.name == pair.longer.hop)
        assert isinstance(box, Middlebox)
        return replace(pair, why=_why(pair), remedy=_broken_silence(pair, box, margin))
    return replace(pair, why=_why(pair), remedy=_moved(pair, chain, margin))


def _why(pair: Pair) -> str:
    one, other = pair.shorter, pair.longer
    if pair.kind == "silence":
        return (
            f"The connection may be silent for {_duration(one)} ({one.setting}), and {other.hop} forgets it after "
            f"{spelled(other.seconds)}: what is sent then is dropped or reset, and who only waits is told nothing."
        )
    apart = other.seconds - one.seconds
    if pair.kind == "request":
        if apart > 0:
            return f"{one.hop} may still answer when {other.hop} has just given up: {spelled(apart)} is soon used up."
        if not apart:
            return f"Chance decides whether {other.hop} gets the answer of {one.hop} or gives up first."
        return (
            f"{other.hop} gives up while {one.hop} still works: a 499 or a 504 in the logs, work for nobody, and an answer "
            "that meets a closed connection."
        )
    reset = f"a request of {one.hop} that crosses its FIN is reset (in a proxy: 502)"
    if apart > 0:
        return (
            f"{other.hop}'s clock starts earlier, by the way of the answer, and a request takes its time too: {reset}."
        )
    if not apart:
        return f"Both let go of an idle connection at the same moment, when {other.hop} closes: {reset}."
    return f"{other.hop} closes at {spelled(other.seconds)} of idleness what {one.hop} still means to reuse: {reset}."


def _duration(timer: Timer) -> str:
    return "ever" if timer.seconds == NEVER else spelled(timer.seconds)


def _broken_silence(pair: Pair, box: Middlebox, margin: Decimal) -> str:
    half = f"at most {spelled(box.forgets / 2)} (half, so that a lost one does no harm)"
    told = f"TCP keepalive at either end, TCP_KEEPIDLE {half}"
    if not MIDDLEBOXES[box.cause]:
        told = f"a heartbeat of the application {half}: TCP keepalive does not reach a proxy's timer"
    if pair.shorter.place == "upstream" and box.forgets > margin:
        told = f"{pair.shorter.setting} at most {spelled(box.forgets - margin)}, or {told}"
    return told


def _moved(pair: Pair, chain: Chain, margin: Decimal) -> str:
    """The one setting or the other, unless it would make another pair race: one setting may be two timeouts."""
    ways = []
    if pair.longer.seconds > margin:
        ways.append((pair.shorter, "at most", pair.longer.seconds - margin))
    if pair.shorter.seconds != NEVER:
        ways.append((pair.longer, "at least", pair.shorter.seconds + margin))
    racing = {(one.shorter.hop, one.longer.hop, one.kind) for one in _pairs(chain, margin) if not one.nests}
    safe = []
    for timer, bound, seconds in ways:
        after = [one for one in _pairs(_with(chain, timer, seconds), margin) if not one.nests]
        if {(one.shorter.hop, one.longer.hop, one.kind) for one in after} < racing:
            safe.append((timer, bound, seconds))
    told = ", or ".join(f"{timer.setting} {bound} {spelled(seconds)}" for timer, bound, seconds in safe or ways)
    if not ways:
        return f"{pair.shorter.setting} below {spelled(pair.longer.seconds)}"
    return told if safe else f"{told}; then the neighbour that this leaves behind"


def _with(chain: Chain, timer: Timer, seconds: Decimal) -> list[Hop | Middlebox]:
    """The chain with that setting changed, wherever it counts."""
    assert timer.place
    changed: list[Hop | Middlebox] = []
    for hop in chain:
        if isinstance(hop, Hop) and hop.name == timer.hop:
            for place in moves_together(hop.name, timer.place):
                if place == "request":
                    hop = replace(hop, request=seconds) if hop.request is not None else hop
                elif (side := getattr(hop, place)).idle is not None:
                    hop = replace(hop, **{place: replace(side, idle=seconds)})
        changed.append(hop)
    return changed
