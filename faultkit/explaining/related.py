"""What only several connections together tell: a scan, a refused address before another works, a connection seen on both
sides of a NAT or a balancer, what was left of the connection before."""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import replace

from faultkit.evidence.transcript import Address
from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story

_UNASKED = ("an unasked SYN,ACK was refused", "an unasked SYN,ACK", "a handshake that its own side cut short")
_SCAN = 6  # ports of one host tried by one client: more than a program has reason to; arbitrary
_NEXT = 3.0  # seconds within which a client that was refused at one address tries the next (RFC 8305 says 0.25)
_ADDRESSES = 4  # hosts of one port that one client tries, of more than which they are no one server's; arbitrary
_SECOND = 2.0  # seconds after a balancer's connection from its client in which that to its server begins; arbitrary
_NEAR = 100  # connections that are compared with one; arbitrary
_PASSED_NS = 10**9  # within which a SYN passes a box; arbitrary
_TOGETHER = 0.05  # seconds between a balancer's two ends of one event


def told(found: list[Diagnosis]) -> list[Diagnosis]:
    """The same diagnoses, in the light of each other."""
    by_number = {diagnosis.connection.number: diagnosis for diagnosis in found}
    found = [_after_another(diagnosis, by_number) for diagnosis in found]
    for look in (_moved, _scans, _next_address, _answered_elsewhere, _translated, _relayed):
        found = look(found)
    return found


def _time(packet: Packet) -> float | None:
    return None if packet.time_ns is None else packet.time_ns / 1e9


def _began(diagnosis: Diagnosis) -> float | None:
    began = diagnosis.connection.began_ns
    return None if began is None else began / 1e9


def _reset_at(diagnosis: Diagnosis) -> float | None:
    return next((_time(p) for p in diagnosis.connection.packets if p.flags & RST), None)


class _Begun:
    """Connections by the time at which they began."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._found: list[Diagnosis] = []

    def add(self, diagnosis: Diagnosis) -> None:
        began = _began(diagnosis)
        if began is not None:
            place = bisect.bisect(self._times, began)
            self._times.insert(place, began)
            self._found.insert(place, diagnosis)

    def within(self, first: float, last: float) -> list[Diagnosis]:
        """Those that began between the two moments, not more than are worth a comparison."""
        places = slice(bisect.bisect_left(self._times, first), bisect.bisect_right(self._times, last))
        return self._found[places][:_NEAR]


# What the connection before has left


def _after_another(diagnosis: Diagnosis, by_number: dict[int, Diagnosis]) -> Diagnosis:
    before = by_number.get(diagnosis.connection.previous)
    if before is None or not any(p.flags & RST for p in diagnosis.connection.packets):
        return diagnosis
    packets = before.connection.packets
    fins = {p.side for p in packets if p.flags & FIN and not p.flags & RST}
    opened = any(p.side == 1 and p.flags & SYN for p in packets)
    finished = any(p.side == 0 and p.flags & ACK for p in packets)
    rst = next(p for p in diagnosis.connection.packets if p.flags & RST)
    syn = diagnosis.connection.packets[0]
    if "reconnect" in diagnosis.causes[0] if diagnosis.causes else False:
        if fins == {0, 1}:
            return replace(
                diagnosis,
                end="an old connection in TIME-WAIT was in the way",
                causes=("time-wait --arrives old-syn", "time-wait --arrives old-timestamp"),
                sure="one of these",
                why=f"The SYN in packet {syn.number} met what was left of connection {before.connection.number}, "
                "which both had closed: its number or "
                "its timestamp is older than that one's, so the kernel acknowledges the old connection instead, "
                "and the client's RST in packet "
                f"{rst.number} answers that (RFC 1337; RFC 9293 section 3.6.1)",
            )
        # The answer to a SYN acknowledges all that the old connection's client had sent: a FIN that was not captured, too.
        challenge = next(
            (p for p in reversed(diagnosis.connection.packets) if p.side == 1 and p.number < rst.number), None
        )
        if challenge is None:
            return diagnosis
        sent = max((p.end for p in packets if p.side == 0 and p.end is not None and not p.flags & RST), default=None)
        told = None if challenge.raw_ack is None else (challenge.raw_ack - before.connection.initial[0]) & 0xFFFFFFFF
        if not opened or not finished or fins or told != sent or Story(before.connection).missing:
            return diagnosis
        return replace(diagnosis, causes=("half-open --found-by reconnect",), sure="shown by the packets")
    if diagnosis.end == "refused" and opened and not finished:
        return replace(
            diagnosis,
            end="a second SYN was refused",
            harm="suspicious",
            causes=("bad-segment --segment second-syn",),
            sure="most likely",
            why=f"The handshake of connection {before.connection.number} was not finished when a SYN with another "
            "number came from the same port "
            f"(packet {syn.number}): RST,ACK in packet {rst.number}. Two programs behind one address, or a forged "
            "SYN",
        )
    if diagnosis.end == "refused" and 1 in fins and 0 not in fins:
        return replace(
            diagnosis,
            end="refused: the old connection is not over",
            causes=("time-wait --arrives syn", "closed-port", "reject"),
            sure="most likely",
            why=f"The server had closed connection {before.connection.number} from the same port, the client had "
            f"not: the SYN in packet {syn.number} met what "
            f"was left of it (FIN-WAIT-2), which answers with RST,ACK (packet {rst.number})",
        )
    return diagnosis


# A connection that goes on under another port


def _moved(found: list[Diagnosis]) -> list[Diagnosis]:
    """The numbers of one connection go on under another client port: a NAT has made a new mapping for it."""
    result = list(found)
    opened: dict[tuple[Address, str], list[Diagnosis]] = defaultdict(list)
    for d in found:
        if all(d.connection.initial):
            opened[d.connection.server, d.connection.client.host].append(d)
    for place, later in enumerate(found):
        if not later.connection.packets:
            continue
        first = later.connection.packets[0]
        if (
            not later.resets
            or later.connection.initial != (0, 0)
            or first.flags & (SYN | RST)
            or not first.raw_seq
            or not first.raw_ack
        ):
            continue
        b = later.connection
        for earlier in opened[b.server, b.client.host]:
            a = earlier.connection
            if a.client == b.client:
                continue
            sent = (first.raw_seq - a.initial[first.side]) & 0xFFFFFFFF
            acknowledged = (first.raw_ack - a.initial[1 - first.side]) & 0xFFFFFFFF
            ends = [
                max((p.end or 0 for p in a.packets if p.side == side), default=0)
                for side in (first.side, 1 - first.side)
            ]
            if abs(sent - ends[0]) <= 1 << 20 and abs(acknowledged - ends[1]) <= 1 << 20:
                result[place] = replace(
                    later,
                    end="reset: the connection came with another port" if later.resets else later.end,
                    harm="failed",
                    causes=("nat-expiry", "half-open"),
                    sure="most likely",
                    why=f"Packet {first.number} goes on with the numbers of connection {a.number}, from port "
                    f"{b.client.port} instead of {a.client.port}: what "
                    "translates addresses had lost its mapping and made a new one, and the server knows no such "
                    f"connection. {later.why}",
                    caveats=(*later.caveats, f"connections {a.number} and {b.number} are one"),
                )
                break
    return result


# A scan


def _scans(found: list[Diagnosis]) -> list[Diagnosis]:
    tried: dict[tuple[str, str], set[int]] = defaultdict(set)
    for d in found:
        if _probe_of_a_port(d):
            tried[d.connection.client.host, d.connection.server.host].add(d.connection.server.port)
    scans = {pair: ports for pair, ports in tried.items() if len(ports) >= _SCAN}
    if not scans:
        return found
    result = []
    for d in found:
        ports = scans.get((d.connection.client.host, d.connection.server.host))
        if ports and _probe_of_a_port(d):
            d = replace(
                d,
                harm="harmless",
                why=f"{d.why}. {d.connection.client.host} tries {len(ports)} ports of {d.connection.server.host}: "
                "a port scan",
                plain=d.plain or "a port scan",
            )
        result.append(d)
    return result


def _probe_of_a_port(d: Diagnosis) -> bool:
    data = any(p.size for p in d.connection.packets)
    return not data and (
        d.end in ("refused", "never answered", "the handshake was not completed") or "SYN scan" in d.plain
    )


# The next address


def _next_address(found: list[Diagnosis]) -> list[Diagnosis]:
    """A refused address is no failure where the same client had an answer at another one of that port straight
    after it."""
    result = []
    worked: dict[int, _Begun] = defaultdict(_Begun)
    tried: dict[tuple[str, int], set[str]] = defaultdict(set)
    for d in found:
        tried[d.connection.client.host, d.connection.server.port].add(d.connection.server.host)
        if d.end != "refused" and any(p.side == 1 and p.flags & SYN for p in d.connection.packets):
            worked[d.connection.server.port].add(d)
    for d in found:
        c = d.connection
        if (
            d.end in ("refused", "never answered")
            and d.harm == "failed"
            and len(tried[c.client.host, c.server.port]) <= _ADDRESSES
        ):
            at = _reset_at(d) if d.end == "refused" else _began(d)
            other = next(
                (
                    e
                    for e in (worked[c.server.port].within(at - 0.5, at + _NEXT) if at is not None else ())
                    if e.connection.server.host != c.server.host
                    and (
                        e.connection.client.host == c.client.host
                        or (":" in e.connection.client.host) != (":" in c.client.host)
                    )
                ),
                None,
            )
            if other is not None:
                refused = d.end == "refused"
                d = replace(
                    d,
                    end="refused at one address, the next one works: harmless"
                    if refused
                    else "not answered at one address, the next one works",
                    harm="harmless" if refused else "suspicious",
                    why=f"{d.why}. The client went on to {other.connection.server} (connection "
                    f"{other.connection.number}), which works (RFC 8305)",
                )
        result.append(d)
    return result


# An answer from another address


def _answered_elsewhere(found: list[Diagnosis]) -> list[Diagnosis]:
    """A SYN that nobody answers, and a SYN,ACK to its very number from another address: the answer was not translated back."""
    asked = {
        (d.connection.client, d.connection.initial[0]): place
        for place, d in enumerate(found)
        if d.end == "never answered" and d.connection.initial[0]
    }
    result = list(found)
    for place, d in enumerate(found) if asked else ():
        answer = next((p for p in d.connection.packets if p.side == 1 and p.flags & SYN), None)
        if answer is None or answer.raw_ack is None or d.end not in _UNASKED:
            continue
        its = asked.get((d.connection.client, (answer.raw_ack - 1) & 0xFFFFFFFF))
        if its is None or found[its].connection.server == d.connection.server:
            continue
        for one in (its, place):
            result[one] = replace(
                found[one],
                end="answered from another address",
                harm="failed",
                by="",
                causes=(),
                sure="shown by the packets",
                why=f"The SYN of connection {found[its].connection.number} to {found[its].connection.server} is answered by "
                f"{d.connection.server} (packet {answer.number} acknowledges its very number), and the client, which knows "
                "nothing of that address, refuses it: what translates addresses on the way there does not on the way back",
                against="",
                plain="an answer that bypasses the NAT",
                tell="the way back: does it lead through the box that translates? conntrack -L there",
            )
    return result


# One connection seen twice


def _translated(found: list[Diagnosis]) -> list[Diagnosis]:
    """The same initial sequence numbers under two pairs of addresses: captured on both sides of a NAT."""
    views: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, d in enumerate(found):
        numbers = d.connection.initial
        if all(numbers) and any(p.side == 0 and p.flags & ACK for p in d.connection.packets):
            views[numbers].append(place)
    result = list(found)
    for places in views.values():
        ends = {(found[p].connection.client, found[p].connection.server) for p in places}
        began = [found[p].connection.began_ns for p in places]
        together = None in began or max(map(_ns, began)) - min(map(_ns, began)) <= _PASSED_NS
        if len(places) == 2 and len(ends) == 2 and together:
            _one_of_two(result, *places)
    return result


def _ns(time_ns: int | None) -> int:
    return time_ns or 0


def _one_of_two(result: list[Diagnosis], first: int, second: int) -> None:
    a, b = result[first], result[second]
    note = "is captured on both sides of a translation of addresses: connections {} and {} are one"
    caveat = note.format(a.connection.number, b.connection.number)
    for place, mine, its in ((first, a, b), (second, b, a)):
        twice = [p for p in mine.connection.packets if p.flags & RST and _untranslated(mine, p)]
        alone = [p for p in mine.connection.packets if p.flags & RST and not _has(its, p) and p not in twice]
        changed = replace(mine, caveats=(*mine.caveats, caveat))
        if twice and not _has(its, twice[0]) and _ns(mine.connection.began_ns) <= _ns(its.connection.began_ns):
            changed = replace(
                changed,
                causes=("nat-expiry", "half-open"),
                sure="most likely",
                why=f"{mine.why.rstrip('.')}. Packet {twice[0].number} passed the box that translates (its TTL falls by one) and "
                "kept the addresses that the client knows: what it refuses had come through untranslated, from an address under "
                "which the server knows no connection",
            )
        elif twice and not _has(its, twice[0]):
            changed = replace(
                changed,
                causes=(),
                plain="an answer that bypasses the NAT",
                sure="most likely",
                why=f"{mine.why}. Packet {twice[0].number} passed the box that translates (its TTL falls by one) "
                "and kept its addresses: the client, "
                "which knows the server under another address, cannot know it for an answer",
            )
        elif alone:
            rst = alone[0]
            why = (
                f"{mine.why.rstrip('.')}. The RST in packet {rst.number} was seen on this side of the translation alone: the "
                "box that translates made it, "
                "because it has no mapping for that connection any more"
            )
            whole = {p.number: _all_passed(mine, its, p) for p in alone}
            sides = {p.number: p.side for p in alone}
            resets = tuple(
                replace(
                    told,
                    by="middlebox" if whole[told.number] else "",
                    between=() if whole[told.number] else (SIDES[sides[told.number]], "middlebox"),
                    why=f"packet {told.number} was seen on one side of the translation alone",
                )
                if told.number in whole
                else told
                for told in mine.resets
            )
            changed = replace(
                changed,
                end="reset by the box that translates addresses",
                harm="failed",
                by="middlebox" if whole[rst.number] else "",
                causes=("nat-expiry",),
                sure="shown by the packets" if whole[rst.number] else "most likely",
                why=why,
                resets=resets,
            )
        elif _lost(mine, its) and mine.harm == "failed":
            changed = replace(
                changed,
                causes=("nat-expiry --answer drop", "half-open"),
                sure="most likely",
                why=f"{mine.why}. What one side of the translation of addresses sent did not come out on the "
                "other: the mapping was gone",
            )
        result[place] = changed


def _untranslated(d: Diagnosis, packet: Packet) -> bool:
    """Was that packet seen a second time in the same connection, one hop later?"""
    return any(
        p.number != packet.number
        and p[2:7] == packet[2:7]
        and p.ip_id == packet.ip_id
        and None not in (p.ttl, packet.ttl)
        and p.ttl != packet.ttl
        for p in d.connection.packets
    )


def _has(other: Diagnosis, packet: Packet) -> bool:
    return any(p[3:5] == packet[3:5] and p.side == packet.side for p in other.connection.packets)


def _all_passed(mine: Diagnosis, its: Diagnosis, rst: Packet) -> bool:
    """Was everything before what the RST answers seen on both sides of the translation, so that the capture has lost nothing?"""
    before = [p for p in mine.connection.packets if p.number < rst.number]
    trigger = before[-1].number if before and before[-1].side != rst.side else rst.number
    return all(_has(its, p) for p in before if p.number < trigger) and all(
        _has(mine, p) for p in its.connection.packets if p.number < rst.number
    )


def _lost(mine: Diagnosis, its: Diagnosis) -> bool:
    return len(mine.connection.packets) != len(its.connection.packets)


def _relayed(found: list[Diagnosis]) -> list[Diagnosis]:
    """Two connections of one host with the same bytes in both: something relays, and ended both at one moment."""
    begun: dict[str, _Begun] = defaultdict(_Begun)
    for d in found:
        begun[d.connection.client.host].add(d)
    changed: dict[int, Diagnosis] = {}
    for front in found:
        at, start = _reset_at(front), _began(front)
        if at is None or start is None or _first_by(front) == 0:  # the client's own reset, which the relay passes on
            continue
        for back in begun[front.connection.server.host].within(start - 0.001, start + _SECOND):
            other = _reset_at(back)
            if _first_by(back) == 1:
                continue  # the server's own reset, which the relay passed on
            if front is back or back.connection.server == front.connection.server:
                continue
            if not _same_bytes(front, back):
                continue
            if other is not None and abs(other - at) > 1.0:
                continue
            idle = _idle(front)
            both = other is not None
            together = both and other is not None and abs(other - at) <= _TOGETHER
            kind = "" if together and _by_socket(front) else " --expires forget"
            said = (
                "and the RSTs of both left it at one moment" if together else "and it knows this connection no longer"
            )
            why = (
                f"{front.connection.server.host} passes the bytes of connection {front.connection.number} on in "
                f"connection {back.connection.number}, {said}"
                f"{'' if idle is None else f', after {idle:.3g} s without data'}: a balancer, or another proxy"
            )
            for d in (front, back):
                if d.resets:
                    changed[d.connection.number] = replace(
                        d,
                        harm="failed",
                        causes=(f"load-balancer-idle{kind}", *d.causes),
                        sure="most likely",
                        why=why,
                    )
    return [changed.get(d.connection.number, d) for d in found]


def _first_by(d: Diagnosis) -> int | None:
    """Which side's the first reset is."""
    return next((p.side for p in d.connection.packets if p.flags & RST), None)


def _by_socket(d: Diagnosis) -> bool:
    rst = next(p for p in d.connection.packets if p.flags & RST)
    return bool(rst.flags & ACK and (rst.window or rst.has("TS")))


def _idle(d: Diagnosis) -> float | None:
    data = [p for p in d.connection.packets if p.size and p.time_ns is not None]
    rst = next((p for p in d.connection.packets if p.flags & RST), None)
    if len(data) < 1 or rst is None or rst.time_ns is None:
        return None
    before = [p for p in data if (p.time_ns or 0) < rst.time_ns - 1_000_000]
    return (rst.time_ns - (before[-1].time_ns or 0)) / 1e9 if before else None


def _same_bytes(a: Diagnosis, b: Diagnosis) -> bool:
    """Have both carried the same sizes in both directions, each direction something, the second just after the
    first?"""
    sizes = []
    for d in (a, b):
        per_side = [[p.size for p in d.connection.packets if p.side == side and p.size] for side in (0, 1)]
        if not all(per_side):
            return False
        sizes.append(per_side)
    for side in (0, 1):
        shorter = min(len(sizes[0][side]), len(sizes[1][side]))
        if sizes[0][side][:shorter] != sizes[1][side][:shorter] or not shorter:
            return False
    return True
