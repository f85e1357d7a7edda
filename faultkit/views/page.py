"""One self-contained page of what was found in a capture, or of a run: no script, nothing loaded from anywhere.
And its ladder alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape

from faultkit.errors import Misuse
from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.version import VERSION
from faultkit.views import diagnoses as text
from faultkit.views.drawing import KINDS, Event, Kind, placed

if TYPE_CHECKING:
    from faultkit.explaining.explain import Seen

_SECTIONS = 20  # connections told at length on one page: it stays under 300 KB


@dataclass(slots=True)
class Section:
    """One connection, or one run: its picture, what is said of it, and its packets as a table."""

    id: str
    title: str
    between: str
    picture: Markup
    caption: str
    facts: list[tuple[str, str]]
    story: str = ""
    packets: list[dict[str, Any]] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)

    @property
    def numbers(self) -> frozenset[int]:
        return frozenset(int(row["number"]) for row in self.packets)


@functools.cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("faultkit.views"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    templates.filters["cited"] = _cited
    return templates


def _cited(sentence: str, place: str, numbers: frozenset[int]) -> Markup:
    """With every packet that is named a link to its row."""

    def link(match: re.Match[str]) -> str:
        number = int(match[0])
        return f'<a href="#{place}-p{number}">{number}</a>' if number in numbers else match[0]

    def group(match: re.Match[str]) -> str:
        return match[1] + re.sub(r"\d+", link, match[2])

    return Markup(re.sub(r"(packets? )((?:\d+(?:, |, … , | and )?|…, )+)", group, str(escape(sentence))))


def write(path: str, document: str) -> None:
    """Write it; `Misuse` where that cannot be done."""
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(document)
    except OSError as error:
        raise Misuse(f"{path} cannot be written ({error.strerror}): name a file in a directory of yours") from error


def picture(
    events: Sequence[Event],
    names: tuple[str, str],
    *,
    title: str,
    place: str = "ladder",
    alone: bool = False,
    ends: tuple[str, str] | None = None,
) -> Markup:
    """The ladder as SVG; with the addresses of its ends where nothing beside it says them."""
    drawing = placed(events)
    templates = _templates()
    who = names if ends is None else tuple(f"{name} {end}" for name, end in zip(names, ends, strict=True))
    counts = f"{sum(e.what == 'segment' for e in events)} segments between {who[0]} and {who[1]}"
    drawn = templates.get_template("ladder.svg.j2").render(
        rows=drawing.rows,
        height=drawing.height,
        width=drawing.width,
        left=drawing.left,
        right=drawing.right,
        names=names,
        ends=ends,
        title=title,
        description=f"A ladder of {counts}; the table of packets below it says the same in words"
        if not alone
        else f"A ladder of {counts}",
        id=place,
        alone=alone,
        link=not alone,
        style=Markup(templates.get_template("ladder.css.j2").render()) if alone else "",
    )
    return Markup(drawn)


def page(
    title: str, headline: str, remarks: Sequence[str], summary: Sequence[dict[str, Any]], sections: Sequence[Section]
) -> str:
    """The whole page."""
    templates = _templates()
    return templates.get_template("page.html.j2").render(
        title=title,
        headline=headline,
        remarks=remarks,
        summary=summary,
        sections=sections,
        style=Markup(templates.get_template("ladder.css.j2").render()),
        version=VERSION,
    )


# What was found in a capture


def kind(packet: Packet, again: bool) -> Kind:
    """What form its arrow has."""
    if packet.flags & RST:
        return "rst"
    if again:
        return "again"
    if packet.flags & SYN:
        return "syn"
    if packet.flags & FIN:
        return "fin"
    return "data" if packet.size or not packet.flags & ACK else "ack"


def _events(d: Diagnosis) -> list[Event]:
    story = Story(d.connection)
    found: list[Event] = []
    for item in text.chosen(d):
        if isinstance(item, int):
            found.append(Event(None, "note", f"{item} packets left out"))
            continue
        known = item in story.packets
        again = known and (story.repeats(item) or story.is_probe(item))
        side = 0 if item.side == 0 else 1
        found.append(Event(item.time_ns, "segment", text.arrow(item), side, kind(item, again), item.number))  # type: ignore[arg-type]
    for complaint in d.connection.complaints[:6]:
        found.append(
            Event(complaint.time_ns, "note", f"ICMP {complaint.kind} from {complaint.by} (packet {complaint.number})")
        )
    if all(e.time_ns is not None for e in found):
        found.sort(key=lambda e: e.time_ns or 0)
    return found


_SIDES = ("client", "server")


def legend(events: Sequence[Event]) -> list[str]:
    """What the forms of the arrows mean that are in it."""
    used = {event.kind for event in events if event.what == "segment"}
    return [words for known, words in KINDS.items() if known in used]


def _section(d: Diagnosis, alike: int) -> Section:
    place = f"c{d.connection.number}"
    events = _events(d)
    began = next((p.time_ns for p in d.connection.packets if p.time_ns is not None), None)
    rows = [
        {
            "number": p.number,
            "at": "" if p.time_ns is None or began is None else f"{(p.time_ns - began) / 1e6:.3f}",
            "by": SIDES[p.side],
            "text": text.arrow(p),
        }
        for p in text.chosen(d)
        if not isinstance(p, int)
    ]
    facts = list(text.facts(d))
    title = f"Connection {d.connection.number}: {d.end}" + ("" if alike == 1 else f" (and {alike - 1} more like it)")
    return Section(
        place,
        title,
        f"{d.connection.client} → {d.connection.server}",
        picture(events, _SIDES, title=title, place=place),
        "Time runs downwards and is to scale; idle times are folded where they are marked.",
        facts,
        packets=rows,
        legend=legend(events),
    )


def diagnoses(found: list[Diagnosis], seen: Seen, name: str) -> str:
    """The page of a capture."""
    groups = text.groups(found)
    worth = [group for group in groups if group.example.harm not in ("closed", "open")] or groups[:1]
    told = {id(group) for group in worth[:_SECTIONS]}
    summary = [
        {
            "count": len(group.members),
            "end": group.example.end,
            "failed": group.example.harm == "failed",
            "cause": group.example.words or "—",
            "sure": group.example.sure if group.example.harm not in ("closed", "open") else "",
            "between": group.between,
            "link": f"c{group.example.connection.number}" if id(group) in told else "",
        }
        for group in groups
    ]
    sections = [_section(group.example, len(group.members)) for group in worth[:_SECTIONS]]
    title = f"Why the connections of {text.shortened(Path(name).name or name, 60)} ended"
    return page(title, text.headline(found, seen), list(text.remarks(seen)), summary, sections)


def ladder_file(d: Diagnosis) -> str:
    """The ladder of one connection alone, as an SVG file."""
    title, ends = f"Connection {d.connection.number}: {d.end}", (str(d.connection.client), str(d.connection.server))
    return str(picture(_events(d), _SIDES, title=title, alone=True, ends=ends))
