"""From what a program wrote to the causes."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from faultkit.errors import Misuse
from faultkit.messages import elsewhere, errnos, packets, peers, unwrapping
from faultkit.messages.answering import Known, Reading, Told, answered
from faultkit.messages.peers import NOBODY
from faultkit.messages.table import Entry, Found, entries, found_in, line_at
from faultkit.messages.vocabulary import VAGUE, tells

if TYPE_CHECKING:
    pass

MOST = 1 << 16  # characters; arbitrary: more is a log, not a message
NEAR = 0.75  # how alike two lines are that may be the same; arbitrary


def read(pasted: str, known: Known | None = None, among: Sequence[Entry] | None = None) -> Reading:
    """The causes behind a line, the likeliest first. Raises `Misuse` for more than a message."""
    if len(pasted) > MOST:
        raise Misuse(
            f"which: --message has more than {MOST} characters: paste the lines of one failure, or read the log with --log"
        )
    known = known or Known()
    written = unwrapping.layers(pasted)
    layers = [unwrapping.unasked(layer) for layer in written]
    deciding = _held(layers, among)
    if all(one.entry.part for one in deciding) and (joined := _held([" ".join(layers[-1].split())], among)):
        deciding = joined  # it was wrapped between words, and a place of the template goes over the end of a line
    if all(one.entry.beside for one in deciding) and not errnos.mentions(layers[-1]):
        deciding = ()
    if not deciding:
        if rows := packets.diagnosed(layers[0]):
            return Reading(packets=tuple(rows))
        return _by_errno(written, layers, known, among)
    not_tcp = tuple(dict.fromkeys(one.entry.not_tcp for one in deciding if one.entry.not_tcp))
    failed = [one for one in deciding if one.entry.told]
    if not failed or (not_tcp and all(one.entry.part for one in failed)):
        return _elsewhere_alone(written[-1], Reading(deciding, not_tcp=not_tcp))
    told = _told(failed, written, layers)
    settings = tuple(dict.fromkeys(one.entry.setting for one in failed if one.entry.setting))
    known_by = any(one.entry.pool or one.entry.writer for one in failed)
    return _judged(
        Reading(deciding, told, not_tcp=not_tcp, settings=settings),
        _line(failed[0], written, layers),
        written,
        known_by,
        known,
    )


def _line(one: Found, written: Sequence[str], layers: Sequence[str]) -> str:
    """The line that decides, as it was written."""
    for layer, original in zip(layers, written, strict=True):
        if one.line in layer:
            at = layer.index(one.line)
            return original[at : at + len(one.line)]
    return one.line


def _elsewhere_alone(text: str, otherwise: Reading) -> Reading:
    """What a Unix socket's file says, in words; else that."""
    if otherwise.found and otherwise.found[0].entry.fine:
        return otherwise
    if elsewhere.over_unix(text, text, "") and (row := elsewhere.unix_failed(text)):
        return _unix_failed(replace(otherwise, told=Told("", "", "", "", (), peers.named(text))), row)
    if not otherwise.found and (says := elsewhere.alone(text)):
        return replace(otherwise, not_tcp=(says,))
    return otherwise


def _unix_failed(read: Reading, row: elsewhere.Row) -> Reading:
    """That row in words, and what plays it, if anything does."""
    told = read.told
    assert told is not None
    read = replace(read, not_tcp=(row.says,), settings=())
    if not row.causes:
        return replace(read, told=None)
    read = answered(replace(read, told=replace(told, told=row.told[0], unix=True)), Known())
    mine = tuple(answer for answer in read.answers if answer.fits[0].name in row.causes)
    return replace(read, answers=mine)


def _judged(read: Reading, line: str, written: Sequence[str], known_by: bool, known: Known) -> Reading:
    """The causes of what was told, if it was a connection: over what it went is what the line says."""
    told = read.told
    assert told is not None
    text = written[-1]
    if says := elsewhere.said(line, text, told.told, known_by):
        # Whose program's words they seem to be is chance then: "Failed to connect to" is many a program's.
        return replace(read, found=() if known_by else read.found, told=None, not_tcp=(says,), settings=())
    if elsewhere.over_unix(line, text, told.writer):
        row = elsewhere.unix_failed(line if told.writer in ("upstream", "downstream") else text)
        open_ = told.told.rpartition(" ")[2] in errnos.LOCAL or tells(told.told) >= VAGUE
        if row and open_:
            return _unix_failed(read, row)
        told = replace(told, unix=True)
        read = replace(read, told=told, settings=(), not_tcp=(elsewhere.unix().says, *read.not_tcp))
    read = answered(read, known)
    name = told.told.rpartition(" ")[2]
    if not read.answers and not read.not_tcp and name in errnos.LOCAL:
        return replace(read, not_tcp=(errnos.LOCAL[name],))
    bare = not known_by and told.peers == NOBODY and not told.unix and not read.not_tcp
    if name == "EPIPE" and bare and not _CONNECTED.search(text):
        return replace(read, not_tcp=(elsewhere.PERHAPS,))
    return read


def _held(layers: Sequence[str], among: Sequence[Entry] | None) -> tuple[Found, ...]:
    """The entries that are in any layer, the deciding one first; none that another outdoes in any layer."""
    there: list[Found] = []
    outdone: set[Entry] = set()
    for layer in layers:
        found, less = found_in(layer, among)
        there += found
        outdone |= less
    return _deciding([one for one in there if one.entry not in outdone], _outwards(layers[-1]))


def _rank(one: Found) -> tuple[bool, int]:
    return one.entry.part, tells(one.told)


def _outwards(text: str) -> bool:
    """Does what is written first lie behind what is written later? Python tells the inner exception first."""
    return "Traceback (most recent call last)" in text or "During handling of the above exception" in text


def _deciding(found: Sequence[Found], outwards: bool) -> tuple[Found, ...]:
    """Each entry once; the one that says most first, and of those that say as much the innermost."""
    once: dict[tuple[Entry, str], Found] = {}
    for one in found:
        once.setdefault((one.entry, one.errno), one)
    return tuple(sorted(once.values(), key=lambda one: (*_rank(one), one.start if outwards else -one.start)))


def _told(found: Sequence[Found], written: Sequence[str], layers: Sequence[str]) -> Told:
    first = found[0]
    groups: dict[str, str] = {}
    for one in found:
        groups = {**one.groups, **groups}
    told = first.told
    if (first.entry.part or tells(first.told) >= VAGUE) and (named := _beside(found, layers)):
        told = named
    when = [when for one in found for when in one.entry.when]
    if told.startswith("EOF") and "in the answer" in when:
        told = "EOF in the body"
    if len(re.sub(r"\D", "", groups.get("idle", "").partition(".")[0])) > 3:
        when.append("idle")
    return Told(
        program=next((one.entry.program for one in found if one.entry.pool or one.entry.writer), first.entry.program),
        told=told,
        writer=next((one.entry.writer for one in found if one.entry.writer), ""),
        pool=next((one.entry.pool for one in found if one.entry.pool), ""),
        when=tuple(dict.fromkeys(when)),
        peers=peers.named(written[-1]),
        idle=groups.get("idle", ""),
    )


def _beside(found: Sequence[Found], layers: Sequence[str]) -> str:
    """What an errno says that is named beside entries that say little."""
    for start, _, name in errnos.mentions(layers[-1]):
        if not any(one.start <= start < one.end for one in found):
            return _call(layers[-1][:start], name)
    return ""


_CONNECTING = re.compile(r"\b(?:connect(?:ing|ion to)?|dial|establish\w*|opening)\b", re.IGNORECASE)
_READING = re.compile(r"\b(?:read|recv|receive|receiving|reading)\b", re.IGNORECASE)
_WRITING = re.compile(r"\b(?:write|send|sending|writing|writev|sendfile)\b", re.IGNORECASE)


# Whose words are those of a connection, and of no pipe.
_CONNECTED = re.compile(
    r"\b(?:connection|socket\w*|query|sql|jdbc|server|client|upstream|tcp|host|remote|peer|http\w*|ssl|tls|request|response)\b",
    re.IGNORECASE,
)


def _call(before: str, name: str) -> str:
    """Which call may have been told that, by the words before the errno."""
    near = before.rpartition("\n")[2][-60:]
    if name == "ECONNREFUSED" or name in ("EHOSTUNREACH", "ENETUNREACH"):
        return f"connect {name}"
    places = {
        "connect": [found.start() for found in _CONNECTING.finditer(near)],
        "recv": [found.start() for found in _READING.finditer(near)],
        "send": [found.start() for found in _WRITING.finditer(near)],
    }
    last = max(places, key=lambda call: max(places[call], default=-1))
    if not places[last]:
        return f"{'any' if name == 'ETIMEDOUT' else 'recv or send'} {name}"
    return f"{last} {name}" if (last, name) != ("connect", "ECONNRESET") else f"recv or send {name}"


def _by_errno(written: Sequence[str], layers: Sequence[str], known: Known, among: Sequence[Entry] | None) -> Reading:
    """All that can be said where only an errno is known; else the nearest line."""
    for original, layer in zip(written, layers, strict=True):
        mentions = errnos.mentions(layer)
        if not mentions:
            continue
        start, end, name = mentions[0 if _outwards(layer) else -1]
        told = Told("", _call(layer[:start], name), "", "", (), peers.named(original))
        read = Reading(told=told, words=layer[start:end])
        found = _judged(read, line_at(original, start, end), written, False, known)
        return replace(found, told=None) if not found.answers and name in errnos.LOCAL else found
    nearest = Reading(nearest=_nearest(written[0], entries() if among is None else among))
    return _elsewhere_alone(written[-1], nearest)


@functools.lru_cache(4)
def _nearest(text: str, among: tuple[Entry, ...]) -> Entry | None:
    if len(text) > 1000:
        return None
    examples = {example.casefold(): entry for entry in among for example in entry.examples}
    near = difflib.get_close_matches(" ".join(text.split()).casefold(), examples, n=1, cutoff=NEAR)
    return examples[near[0]] if near else None
