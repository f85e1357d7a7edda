"""What was found in a capture: a table of the ends, the worst first, and one connection of each kind explained.
Text and JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from faultkit.explaining.diagnosis import HARMS, Diagnosis, ResetTold
from faultkit.explaining.explain import Seen
from faultkit.explaining.flows import Packet

_FIRST, _LAST = 4, 12  # packets of a long connection that its ladder shows
_ALIKE = 8  # connections of a group that are named
_GROUPS = 12  # groups that are told at length; the table has all
TIME, WIRE = 11, 44


@dataclass(slots=True)
class Group:
    """Connections that ended alike."""

    example: Diagnosis
    members: list[Diagnosis] = field(default_factory=list)

    @property
    def between(self) -> str:
        """The pair of addresses, or the group of them."""
        connections = [d.connection for d in self.members]
        clients = {c.client.host for c in connections}
        servers = {c.server for c in connections}
        left = connections[0].client.host if len(clients) == 1 else f"{len(clients)} clients"
        if len(self.members) == 1:
            left = str(connections[0].client)
        right = str(connections[0].server) if len(servers) == 1 else f"{len(servers)} servers"
        return f"{left} → {right}"


def groups(found: Iterable[Diagnosis]) -> list[Group]:
    """The diagnoses by end, cause and sureness, the most harmful and the most frequent first."""
    made: dict[tuple[str, ...], Group] = {}
    for diagnosis in found:
        key = (diagnosis.harm, diagnosis.end, diagnosis.words, diagnosis.sure)
        made.setdefault(key, Group(diagnosis)).members.append(diagnosis)
    return sorted(made.values(), key=lambda group: (HARMS.index(group.example.harm), -len(group.members)))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}".replace(",", " ")


def headline(found: list[Diagnosis], seen: Seen) -> str:
    """ "13 connections in 345 packets: 3 failed, 8 closed in order, 2 still open"."""
    words = {
        "failed": "failed",
        "suspicious": "with something to look at",
        "open": "still open",
        "harmless": "reset harmlessly",
        "closed": "closed in order",
        "no reset": "with a RST that was none",
    }
    counts = [(sum(d.harm == harm for d in found), words[harm]) for harm in HARMS]
    parts = ", ".join(f"{number} {what}" for number, what in counts if number)
    kind = "row" if any(d.connection.from_rows for d in found) else "packet"
    return f"{_count(len(found), 'connection')} in {_count(seen.packets, kind)}: {parts or 'none'}"


def remarks(seen: Seen) -> Iterator[str]:
    """What else is to be known about the reading."""
    if seen.others:
        parts = ", ".join(f"{number} {what}" for what, number in sorted(seen.others.items(), key=lambda item: -item[1]))
        yield f"Not segments of TCP: {parts}"
    if seen.unread[0]:
        yield f"{_count(seen.unread[0], 'row')} could not be read, the first: {shortened(seen.unread[1], 100)}"


def shortened(text: str, most: int) -> str:
    """On one line, without control characters, cut."""
    plain = "".join(letter if letter.isprintable() else "�" for letter in text)
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def table(found: list[Diagnosis], width: int) -> Iterator[str]:
    """The groups: two lines each, or one where there is room."""
    for group in groups(found):
        d = group.example
        words = d.words or "-"
        head = f"{len(group.members):>5}  {d.end}"
        sure = "" if d.harm in ("closed", "open") else d.sure
        numbers = ", ".join(str(m.connection.number) for m in group.members[:_ALIKE])
        more = "" if len(group.members) <= _ALIKE else ", …"
        tail = f"{group.between}; {'connection' if len(group.members) == 1 else 'connections'} {numbers}{more}"
        second = "; ".join(filter(None, (words if d.harm not in ("closed", "open") else "", sure)))
        yield head if not second else f"{head}: {second}" if len(head) + len(second) + 2 <= width else head
        if second and len(head) + len(second) + 2 > width:
            yield from _beneath(second, width)
        yield from _beneath(tail, width)


def _beneath(text: str, width: int) -> list[str]:
    """Beneath a group's first line, further in."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=" " * 7,
        subsequent_indent=" " * 9,
        break_long_words=False,
        break_on_hyphens=False,
    )


def arrow(packet: Packet) -> str:
    """ "PSH,ACK seq=1 ack=1 len=5"."""
    words = [packet.shown.replace(", ", ",")]
    words += [f"{name}={value}" for name, value in (("seq", packet.seq), ("ack", packet.ack)) if value is not None]
    if packet.size:
        words.append(f"len={packet.size}")
    if packet.window == 0 and not packet.flags & 4:
        words.append("win=0")
    return " ".join(words)


def chosen(d: Diagnosis) -> list[Packet | int]:
    """The packets that a ladder shows, and how many are left out between them."""
    packets = d.connection.packets
    cited = {reset.number for reset in d.resets} | {reset.answers for reset in d.resets}
    if len(packets) <= _FIRST + _LAST + 3:
        return list(packets)
    places = set(range(_FIRST)) | set(range(len(packets) - _LAST // 2, len(packets)))
    around = [place for place, packet in enumerate(packets) if packet.number in cited]
    for place in around[:3]:
        places |= set(range(max(0, place - 3), min(len(packets), place + 3)))
    shown: list[Packet | int] = []
    last = -1
    for place in sorted(places):
        if place > last + 1:
            shown.append(place - last - 1)
        shown.append(packets[place])
        last = place
    return shown


def ladder(d: Diagnosis) -> Iterator[str]:
    """The connection's packets as arrows: number, milliseconds, client left and server right."""
    began = next((p.time_ns for p in d.connection.packets if p.time_ns is not None), None)
    yield f"{'':>7}{'ms' if began is not None else '':>{TIME}}  {'client':<{WIRE - 6}}server"
    for item in chosen(d):
        if isinstance(item, int):
            yield f"{'':>7}{'':>{TIME}}  ┄ {_count(item, 'packet')} ┄"
            continue
        at = "" if item.time_ns is None or began is None else f"{(item.time_ns - began) / 1e6:.3f}"
        text = arrow(item)
        body = f"─ {text} ".ljust(WIRE - 1, "─") + "▶" if item.side == 0 else "◀" + f" {text} ─".rjust(WIRE - 1, "─")
        yield f"{item.number:>7}{at:>{TIME}}  {body}"


def remedies(d: Diagnosis) -> tuple[str, ...]:
    """What ends it, in the catalogue's words."""
    from faultkit import causes

    if not d.causes or d.harm not in ("failed", "suspicious"):
        return ()
    return causes.remedy(d.cause)


def explained(d: Diagnosis, alike: int, width: int, *, full: bool = False) -> Iterator[str]:
    """One connection: how it ended, its ladder, the reasoning, and what to do."""
    connection = d.connection
    more = "" if alike == 1 else f", and {_count(alike - 1, 'more')} like it".replace("mores", "more")
    title = f"Connection {connection.number}{more}: {d.end}"
    yield from _wrapped(title, width, "")
    yield f"{connection.client} → {connection.server}"
    yield ""
    yield from ladder(d)
    yield ""
    for name, words in facts(d, full=full):
        if name == "Play it":
            yield f"  Play it: {words}"
        else:
            yield from _wrapped(f"{name}: {words}", width)


def facts(d: Diagnosis, *, full: bool = True) -> Iterator[tuple[str, str]]:
    """What is said of a connection, each with its name."""
    if d.words and d.harm not in ("closed", "open"):
        yield "Cause", f"{', '.join(d.causes) if d.sure == 'one of these' and d.causes else d.words} ({d.sure})"
    yield "Why", _sentence(d.why)
    if d.against and len(d.causes) > 1:
        yield f"Rather than {d.causes[1]}", _sentence(d.against)
    if full or len(d.resets) == 1:
        for reset in d.resets[:20]:
            yield (
                f"RST of packet {reset.number}",
                _sentence(
                    f"sent by {_sender(reset)}: {reset.why}{f'; signature {reset.signature}' if reset.signature else ''}"
                ),
            )
    for caveat in d.caveats:
        yield "Beware", _sentence(caveat)
    if d.tell and d.sure != "shown by the packets":
        yield "What would tell", _sentence(d.tell)
    for remedy in remedies(d):
        yield "Remedy", remedy
    if d.causes and d.harm in ("failed", "suspicious"):
        yield "Play it", f"faultkit {d.causes[0]}"


def _sentence(words: str) -> str:
    """With one full stop at its end."""
    return words if words.endswith(".") else f"{words}."


def _sender(reset: ResetTold) -> str:
    names = (reset.by,) if reset.by else reset.between
    return " or ".join("something in between" if name == "middlebox" else f"the {name}" for name in names)


def _wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def report(found: list[Diagnosis], seen: Seen, width: int) -> Iterator[str]:
    """The whole text: headline, table, one connection of each group that is worth it."""
    yield headline(found, seen)
    yield from remarks(seen)
    yield ""
    yield from table(found, width)
    worth = [group for group in groups(found) if group.example.harm not in ("closed", "open")]
    for group in worth[:_GROUPS]:
        yield ""
        yield from explained(group.example, len(group.members), width)
    if len(worth) > _GROUPS:
        yield ""
        yield f"{len(worth) - _GROUPS} further kinds are in the table alone: --connection N explains one"


def line(d: Diagnosis) -> str:
    """One connection on one line, as it ends."""
    words = f": {d.words} ({d.sure})" if d.words and d.harm not in ("closed", "open") else ""
    return f"{d.connection.number}\t{d.connection.client} → {d.connection.server}\t{d.end}{words}"


def written(found: list[Diagnosis], seen: Seen) -> Iterator[str]:
    """For machines: one JSON document in pieces, a connection each, so that a hundred thousand of them need no room."""
    import json

    head = {
        "packets": seen.packets,
        "segments": seen.segments,
        "others": dict(seen.others),
        "ended": seen.ended or None,
        "unread_rows": {"count": seen.unread[0], "first": seen.unread[1] or None},
    }
    yield json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}") + ',\n  "connections": ['
    for place, d in enumerate(found):
        text = json.dumps(single(d), indent=2, ensure_ascii=False)
        yield ("," if place else "") + "\n" + textwrap.indent(text, "    ")
    yield "\n  ]\n}\n" if found else "]\n}\n"


def single(d: Diagnosis) -> dict[str, Any]:
    """One connection for machines."""
    connection = d.connection
    return {
        "number": connection.number,
        "client": str(connection.client),
        "server": str(connection.server),
        "packets": len(connection.packets) + connection.omitted,
        "began_ns": connection.began_ns,
        "ended_ns": connection.ended_ns,
        "end": d.end,
        "harm": d.harm,
        "by": d.by or None,
        "causes": list(d.causes),
        "plain": d.plain or None,
        "sure": d.sure,
        "why": d.why,
        "against": d.against or None,
        "would_tell": d.tell or None,
        "caveats": list(d.caveats),
        "resets": [
            {
                "packet": reset.number,
                "by": reset.by or None,
                "between": list(reset.between),
                "why": reset.why,
                "answers": reset.answers or None,
                "signature": reset.signature or None,
            }
            for reset in d.resets
        ],
    }
