"""Every connection of a capture explained: the way from bytes to diagnoses."""

from __future__ import annotations

import bisect
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from faultkit.errors import Misuse
from faultkit.explaining import errors, hops, related, resets, senders, silence, strange, unserved
from faultkit.explaining.diagnosis import Diagnosis, Finding, Sureness
from faultkit.explaining.files import Frames, Source, is_capture
from faultkit.explaining.flows import ACK, RST, SYN, Census, Connection, gathered
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.tampering import silent

_SILENT = 10.0  # seconds without a packet after which a client is taken to be silent; arbitrary

_MEANWHILE_NS = 3_000_000_000  # so long before a SYN others may have filled the queue that it meets; arbitrary
_ANSWERED_NS = 1_000_000_000  # a SYN may still be answered so long after it: the initial RTO (RFC 6298)
_ALL = 5000  # connections that are explained in the light of all others; of more, each in that of those before it


@dataclass(slots=True)
class Seen:
    """What the capture tells beside each connection: needed to tell some causes apart, and to say what it cannot
    show."""

    accepted: dict[object, list[int]] = field(
        default_factory=dict
    )  # when handshakes began that were completed, by server
    refused: Counter[object] = field(default_factory=Counter)  # SYNs refused, by client's host
    both: int = 0  # connections of which both directions were captured
    one: int = 0  # those of which one was, although the other must have been there
    last_ns: int | None = None
    ended: str = ""  # what was wrong with the file
    packets: int = 0
    segments: int = 0
    others: dict[str, int] = field(default_factory=dict)
    unread: tuple[int, str] = (0, "")  # rows of text that could not be read, and the first of them


def explain(capture: str | os.PathLike[str] | bytes | IO[bytes]) -> list[Diagnosis]:
    """Why the connections of a capture ended: a path, the bytes of a file, or a stream; pcap, pcapng or pasted rows.

    Raises `Misuse` where it is no capture and `OSError` as it comes from the file.
    """
    if isinstance(capture, bytes):
        return Explaining(io.BytesIO(capture)).all()
    if isinstance(capture, str | os.PathLike):
        with Path(capture).open("rb") as stream:
            return Explaining(stream).all()
    return Explaining(capture).all()


class Explaining:
    """One capture while it is explained."""

    def __init__(
        self,
        stream: IO[bytes],
        progress: Callable[[int], None] | None = None,
        *,
        live: bool = False,
        wanted: int | None = None,
    ) -> None:
        """`progress` is called with the bytes read now and then; `live` and `wanted` as in `Census`."""
        self.seen = Seen()
        self._stream = stream
        self._progress = progress
        self._live, self._wanted = live, wanted
        self._shapes: dict[tuple[object, ...], Diagnosis] = {}

    def all(self, each: Callable[[Diagnosis], None] | None = None) -> list[Diagnosis]:
        """Every connection's diagnosis, in the order of their first packets. `each` is told what is known as one is over."""
        waiting: list[Connection] | None = []
        found: list[Diagnosis] = []
        for connection in self.connections():
            self.note(connection)
            if each:
                each(self.diagnose(connection))
            if waiting is None:
                found.append(self.diagnose(connection))
            else:
                waiting.append(connection)
                if len(waiting) > _ALL:
                    found, waiting = [self.diagnose(one) for one in waiting], None
        if waiting:
            found = [self.diagnose(one) for one in waiting]
        found.sort(key=lambda diagnosis: diagnosis.connection.number)
        return related.told(found)

    def connections(self) -> Iterator[Connection]:
        """Each connection as it is over."""
        source = Source(self._stream)
        if is_capture(source):
            frames = Frames(source)
            progress = self._progress
            census = Census((lambda: progress(source.at)) if progress else None, live=self._live, wanted=self._wanted)
            for connection in gathered(frames, census):
                self._last(connection)
                yield connection
            self.seen.ended, self.seen.packets = frames.ended, census.packets
            self.seen.segments, self.seen.others = census.segments, census.others
            return
        from faultkit.explaining import rows

        text = rows.read(source)
        self.seen.packets = self.seen.segments = text.read
        self.seen.unread, self.seen.others, self.seen.ended = text.unread, dict(text.others), text.cut
        if not text.connections and text.unread[0]:
            many = "1 row looks" if text.unread[0] == 1 else f"{text.unread[0]} rows look"
            raise Misuse(
                f"explain: {many} like a packet and none is of a form that is read, the first: {text.unread[1][:100]}: "
                "give the capture itself, or rows as tcpdump -n, tshark or Wireshark print them"
            )
        if not text.connections:
            raise Misuse(
                "explain: nothing in it is a packet: give a pcap or pcapng file, or rows of tcpdump, tshark or "
                "Wireshark"
            )
        for connection in text.connections:
            self._last(connection)
            yield connection

    def _last(self, connection: Connection) -> None:
        last = connection.ended_ns
        if last is not None and (self.seen.last_ns is None or last > self.seen.last_ns):
            self.seen.last_ns = last

    def note(self, connection: Connection) -> None:
        """Take in what a connection tells of others."""
        if connection.orderly:
            self._accepted(connection)
            return
        if connection.like:
            return
        answers = any(p.side == 1 and p.flags & SYN for p in connection.packets)
        acks = any(p.side == 0 and p.flags & ACK and not p.flags & SYN for p in connection.packets)
        if answers and acks:
            self._accepted(connection)
        first = connection.packets[0]
        if len({p.side for p in connection.packets}) == 2:
            self.seen.both += 1
        elif any(p.flags & ACK and not p.flags & RST for p in connection.packets):
            self.seen.one += 1
        if first.flags & SYN and not answers and any(p.flags & RST and p.side == 1 for p in connection.packets):
            self.seen.refused[connection.client.host] += 1

    def _accepted(self, connection: Connection) -> None:
        if connection.began_ns is not None:
            bisect.insort(self.seen.accepted.setdefault(connection.server, []), connection.began_ns)

    def _meanwhile(self, connection: Connection) -> int:
        """Handshakes that its server completed while it waited for an answer, or just before."""
        times, began, ended = self.seen.accepted.get(connection.server, []), connection.began_ns, connection.ended_ns
        if began is None or ended is None:
            return 0
        return bisect.bisect_right(times, ended + _ANSWERED_NS) - bisect.bisect_left(times, began - _MEANWHILE_NS)

    def diagnose(self, connection: Connection) -> Diagnosis:
        """Why it ended, by its own packets and what `note` has taken in."""
        if connection.orderly:
            return _in_order(connection)
        if connection.like and connection.shape in self._shapes:
            return replace(self._shapes[connection.shape], connection=connection)
        story = Story(connection)
        told = tuple(senders.tell(story, rst) for rst in story.resets)
        quiet = None
        if story.resets:
            found = resets.explain(story, list(told))
            if found.harm in ("harmless", "suspicious") and (unserved_by := unserved.refused(story)):
                found = unserved_by
        else:
            last = story.packets[-1].time_ns
            quiet = None if last is None or self.seen.last_ns is None else (self.seen.last_ns - last) / 1e9
            one_way = self.seen.one > 0 and not self.seen.both
            found = silence.explain(story, quiet, self._meanwhile(connection), one_way=one_way)
            found = strange.noted(found, story)
        caveats = _caveats(story)
        if (
            not story.resets
            and found.harm in ("failed", "open")
            and (quiet or 0.0) > _SILENT
            and (sign := silent(story))
        ):
            caveats = (
                *caveats,
                f"nothing came of the client any more: {sign}, a signature of tampering, or of one that has gone",
            )
        found = _weakened(errors.told(found, story) if connection.complaints else found, story)
        diagnosis = Diagnosis(
            connection,
            found.end,
            found.harm,
            found.by,
            found.causes,
            found.sure,
            found.why,
            found.against,
            found.tell,
            found.plain,
            told,
            caveats,
        )
        if connection.shape is not None and not connection.like:
            why = f"As connection {connection.number}"
            self._shapes.setdefault(connection.shape, replace(diagnosis, why=why, resets=(), caveats=()))
        return diagnosis


def _in_order(connection: Connection) -> Diagnosis:
    return Diagnosis(
        connection, "closed in order", "closed", "", (), "shown by the packets", _IN_ORDER, plain="nothing wrong"
    )


_IN_ORDER = "Both sides have closed, each FIN is acknowledged: nothing was lost"


def _caveats(story: Story) -> tuple[str, ...]:
    connection = story.connection
    said = list(connection.notes)
    if story.deaf is not None:
        said.append(f"nothing of the {SIDES[story.deaf]} was captured: what it did is not known")
    if story.midway and len(story.packets) > len(story.resets):
        said.append("the capture begins in the middle of it")
    if story.missing and not connection.from_rows:
        first = ", ".join(map(str, story.missing[:3]))
        said.append(f"packets are missing before packet {first}: the capture has lost some")
    elif story.missing:
        said.append(f"rows are missing before packet {story.missing[0]}")
    if connection.unread:
        rows = "1 row" if connection.unread == 1 else f"{connection.unread} rows"
        said.append(f"{rows} could not be read that may be of this connection")
    if connection.gaps:
        said.append("the text says itself that rows were left out, and they may be of this connection")
    if story.copies:
        said.append(f"{story.copies} packets were captured twice and are counted once")
    for packet, why in hops.foreign(story)[:2]:
        said.append(f"packet {packet.number} ({packet.shown}, {packet.size} bytes) was injected, as it seems: {why}")
    if story.backwards:
        said.append("the times run backwards: the order is that of the file")
    if connection.omitted:
        said.append(f"{connection.omitted} packets in its middle were not looked at again")
    return tuple(said)


def _weakened(found: Finding, story: Story) -> Finding:
    """What was not captured cannot have been seen."""
    unheard = story.deaf is not None and story.resets and story.resets[0].side != story.deaf
    if unheard and found.harm in ("failed", "harmless"):
        # Whether the other end took the RST for its end, and what it was doing, shows in its own packets alone.
        found = replace(found, harm="suspicious", sure="cannot be told" if not found.causes else "one of these")
    if story.connection.unread:
        found = _partly_read(found, story)
    elif story.connection.gaps:
        found = _left_out(found, story)
    doubt = (
        story.deaf is not None
        or story.connection.inferred
        or (found.harm != "closed" and (story.missing or story.backwards))
    )
    if found.sure == "shown by the packets" and doubt:
        return replace(found, sure="most likely")
    return found


def _left_out(found: Finding, story: Story) -> Finding:
    """What the text leaves out may be the answer that is missed, or stand between what seems to follow each other."""
    if not story.resets and found.harm in ("failed", "suspicious", "open"):
        sure: Sureness = (
            "one of these"
            if found.sure in ("shown by the packets", "most likely") and found.causes
            else "cannot be told"
        )
        return replace(
            found,
            harm="open" if found.harm == "open" else "suspicious",
            sure=sure,
            why=f"{found.why}. But the text leaves rows out, and an answer may be among them",
        )
    if found.sure == "shown by the packets" and found.harm != "closed":
        return replace(found, sure="most likely")
    return found


def _partly_read(found: Finding, story: Story) -> Finding:
    """What was not read may be the very answer that is missed."""
    if not story.resets and found.harm in ("failed", "suspicious", "open"):
        return replace(
            found,
            end="its end cannot be told: not every row was read",
            harm="open" if found.harm == "open" else "suspicious",
            by="",
            causes=(),
            sure="cannot be told",
            why=f"Of the rows that could be read: {found.why}. But an answer may be among those that could not",
            against="",
            tell="the capture itself, or its rows as tcpdump -n prints them",
            plain="not every row was read",
        )
    if found.sure == "shown by the packets" and found.harm != "closed":
        return replace(found, sure="most likely")
    return found
