"""Segments gathered into connections, within bounds: of a long connection its beginning, its turning points and its end are kept.

A connection is handed on when it is over and nothing has come for it for a while, or when the capture ends.
"""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from faultkit.evidence.transcript import Address
from faultkit.explaining import layers
from faultkit.explaining.files import TICK, Frames

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
_LETTERS = (
    (SYN, "SYN"),
    (FIN, "FIN"),
    (RST, "RST"),
    (PSH, "PSH"),
    (ACK, "ACK"),
    (URG, "URG"),
    (64, "ECE"),
    (128, "CWR"),
)

# Packets of one connection that are kept before the middle is left out, at its beginning and at its end; arbitrary.
_MOST, _FIRST, _LAST = 400, 24, 120
_CROWDED = 300_000  # packets kept of all connections, from which on of each there are fewer
_OVER_NS = 20 * 10**9  # without a packet for so long, a closed connection is over
_WAITING = 4096  # closed connections that wait for late packets at once
_LIKE = 64  # connections of one shape that are read one by one
_QUICK_NS = 10_000_000  # between two packets: so that no pause tells one connection of a shape from another
_LIVE_NS = 2 * 10**9  # the same, where somebody waits
_WHOLE = 16  # connections that ended in order, of which all packets are kept; of later ones the first and the last
_LONG, _EDGE = (
    64,
    16,
)  # packets of a connection from which on only so many at its beginning and its end are held together
_LOOK = 8192  # packets between two looks at what is over


class Packet(NamedTuple):
    """One segment of a connection, as far as its source told it: None is "not told". Numbers are relative to the "
    "SYN's."""

    number: int
    time_ns: int | None
    side: int  # 0: the client's, 1: the server's
    flags: int
    seq: int | None
    ack: int | None  # None without the flag, too
    window: int | None  # as sent, not scaled
    size: int | None  # bytes of data
    ttl: int | None
    ip_id: int | None
    options: (
        tuple[tuple[str, object], ...] | None
    )  # by Wireshark's names; None where it is not known whether there are any
    data: bytes  # its beginning
    note: str = ""  # what the row said beside that
    raw_seq: int = 0  # the fields as sent; the second even without the flag
    raw_ack: int = 0
    tail: bytes = b""  # the last bytes of the data, where they are known and not in its beginning

    @property
    def end(self) -> int | None:
        """The number after it."""
        if self.seq is None or self.size is None:
            return None
        return self.seq + self.size + bool(self.flags & SYN) + bool(self.flags & FIN)

    @property
    def shown(self) -> str:
        """Its flags as Wireshark prints them."""
        return ", ".join(name for bit, name in _LETTERS if self.flags & bit) or "no flags"

    def option(self, name: str) -> object:
        """The value of an option; None where it is not there."""
        return next((value for key, value in self.options or () if key == name), None)

    def has(self, name: str) -> bool:
        """Has it that option?"""
        return any(key == name for key, _ in self.options or ())


class Complaint(NamedTuple):
    """An ICMP error about a segment of a connection."""

    number: int
    time_ns: int | None
    kind: str
    by: str
    side: int  # whose segment it is about


@dataclass(slots=True)
class Connection:
    """What is known of one connection, from whatever it was read."""

    number: int  # from 1, in the order of their first packets
    client: Address
    server: Address
    packets: list[Packet]
    complaints: Sequence[Complaint] = ()
    omitted: int = 0  # packets in its middle that were not kept
    from_rows: bool = False  # read from text
    inferred: bool = False  # it has an ICMP error that does not say which connection it is about
    unread: int = 0  # rows of text that may be packets of it and could not be read
    gaps: int = 0  # places behind its beginning where a text says that rows were left out
    previous: int = 0  # the number of the one that had the same two ends before it
    began_ns: int | None = None
    ended_ns: int | None = None
    orderly: bool = False  # nothing but a handshake, data and both FINs, each acknowledged
    like: int = 0  # the number of one whose packets are the same but for their numbers: then but one is kept of this
    shape: tuple[object, ...] | None = None  # what is the same in all that are alike
    initial: tuple[int, int] = (0, 0)  # both sides' initial sequence numbers as sent, 0 where the SYN was not seen
    notes: Sequence[str] = ()  # about its reading


# A packet as it is read: its number, its time in ns, and what is known of it: the segment, or, of a plain one, the frame's first
# bytes, of which nothing is looked at until it is known to be of use (see `files.Frames.known`).
_Read = tuple[int, int | None, layers.Segment | bytes]
_Decoded = tuple[int, int | None, layers.Segment]


class _Flow:
    """A connection that is being read."""

    __slots__ = ("complaints", "ends", "number", "omitted", "packets", "previous", "turned_ns")

    def __init__(self, number: int, ends: bytes, previous: int) -> None:
        self.number = number
        self.previous = previous
        self.ends = ends  # of the one who sent the first packet
        self.packets: list[_Read] = []
        self.complaints: list[tuple[int, int | None, layers.Unreachable]] = []
        self.omitted = 0
        self.turned_ns = 0  # the time of its last SYN, FIN or RST


def _decoded(packets: Iterable[_Read]) -> list[_Decoded]:
    """Each with its segment."""
    found: list[_Decoded] = []
    for number, time_ns, told in packets:
        segment = layers.read(1, told, len(told)) if isinstance(told, bytes) else told
        if isinstance(segment, tuple) and not isinstance(segment, layers.Unreachable):
            found.append((number, time_ns, segment))
    return found


def turned(ends: bytes) -> bytes:
    """The same two ends seen from the other side."""
    size = (len(ends) - 4) // 2
    return ends[size : 2 * size] + ends[:size] + ends[-2:] + ends[-4:-2]


def gathered(frames: Iterable[tuple[int, int | None, int, bytes, int, int]], census: Census) -> Iterator[Connection]:
    """The connections of a capture, each as soon as it is known to be over. What was no segment is counted in
    `census`."""
    table: dict[bytes, _Flow] = {}
    closing: dict[int, _Flow] = {}
    gone: dict[bytes, None] = {}  # the ends of connections that are over, the last of them
    look = census.look
    read, unreachable, other, kinds, count = layers.read, layers.Unreachable, layers.Other, census.others, 0
    number = 0
    if isinstance(frames, Frames):
        frames.known, frames.most, frames.look = table, census.most, look
    for number, time_ns, link, data, _, length in frames:
        if link == TICK:
            yield from _over(table, closing, gone, census, time_ns)
            if isinstance(frames, Frames):
                frames.most = census.most
            continue
        found = read(link, data, length)
        if isinstance(found, (unreachable, other)):
            if isinstance(found, unreachable):
                about = table.get(found.ends)
                if about:
                    about.complaints.append((number, time_ns, found))
                kinds["ICMP"] = kinds.get("ICMP", 0) + 1
            else:
                kinds[found.value] = kinds.get(found.value, 0) + 1
            continue
        ends = found[0]
        flow = table.get(ends)
        if flow is None or found[1] & 7:
            if flow is None and ends in gone and found[1] & (SYN | ACK) != SYN:
                continue  # late, and nothing is left to be told by it
            flow = _turning(table, closing, census, flow, found, time_ns)
            if flow is None:
                assert census.over is not None
                over = census.over
                census.over = None
                yield _made(over, census)
                flow = _turning(table, closing, census, None, found, time_ns, over.number)
                assert flow is not None
        packets = flow.packets
        packets.append((number, time_ns, found))
        if len(packets) > census.most:
            _thin(flow, census)
        count += 1
        if not count % look:
            yield from _over(table, closing, gone, census, time_ns)
    if isinstance(frames, Frames):
        number, count = max(number, frames.number), count + frames.taken
    census.packets, census.segments = number, count
    left = {flow.number: flow for flow in table.values()}
    table.clear()
    for flow in left.values():
        yield _made(flow, census)


def _over(
    table: dict[bytes, _Flow], closing: dict[int, _Flow], gone: dict[bytes, None], census: Census, time_ns: int | None
) -> Iterator[Connection]:
    """Look at what is over by that time, and how much may be kept of what is not."""
    census.seen()
    now = (time_ns or 0) - census.over_ns
    if closing:
        over_now = [flow for flow in closing.values() if flow.turned_ns < now]
        if len(closing) - len(over_now) > _WAITING:
            over_now = list(closing.values())[: len(closing) - _WAITING // 2]
        for flow in over_now:
            _forget(table, closing, flow)
            gone[flow.ends] = gone[turned(flow.ends)] = None
            yield _made(flow, census)
        for ends in list(gone)[: len(gone) - 4 * _WAITING]:
            del gone[ends]
    census.crowd(len(table))


class Census:
    """What was read, in numbers, and how much of each connection is kept."""

    def __init__(
        self, progress: Callable[[], None] | None = None, *, live: bool = False, wanted: int | None = None
    ) -> None:
        """`live`: what is over is to be known soon. `wanted`: the number of a connection that is kept whole in any case."""
        self.packets = 0
        self.segments = 0
        self.connections = 0
        self.others: dict[str, int] = {}
        self.most, self.first, self.last = _MOST, _FIRST, _LAST
        self.over: _Flow | None = None
        self.seen = progress or (lambda: None)
        self.look = 32 if live else _LOOK
        self.over_ns = _LIVE_NS if live else _OVER_NS
        self.wanted = wanted
        self.orderly = 0
        self.shapes: dict[tuple[object, ...], _Alike] = {}

    def crowd(self, keys: int) -> None:
        """With many connections at once, less is kept of each."""
        share = max(_CROWDED // max(keys, 1), 48)
        self.most = min(_MOST, share)
        self.last = min(_LAST, self.most // 2)
        self.first = min(_FIRST, self.most // 4)


def _turning(
    table: dict[bytes, _Flow],
    closing: dict[int, _Flow],
    census: Census,
    flow: _Flow | None,
    segment: layers.Segment,
    time_ns: int | None,
    previous: int = 0,
) -> _Flow | None:
    """The flow of a segment that begins or ends one. None where another one, in `census.over`, is over by it."""
    ends, flags, seq = segment[0], segment[1], segment[2]
    if flow is not None and flags & (SYN | ACK | RST) == SYN and _begins_anew(flow, ends, seq):
        _forget(table, closing, flow)
        census.over = flow
        return None
    if flow is None:
        census.connections += 1
        flow = _Flow(census.connections, ends, previous)
        table[ends] = table[turned(ends)] = flow
    if flags & 7:
        flow.turned_ns = time_ns or 0
        if flags & 5:
            closing[flow.number] = flow
    return flow


def _begins_anew(flow: _Flow, ends: bytes, seq: int) -> bool:
    """Is this SYN another connection's than the flow's? The number of a SYN that is sent again is the same."""
    turning = [told for _, _, told in flow.packets if not isinstance(told, bytes)]
    syns = [segment[2] for segment in turning if segment[0] == ends and segment[1] & SYN]
    if syns:
        return seq not in syns
    return any(segment[1] & (FIN | RST) for segment in turning)


def _forget(table: dict[bytes, _Flow], closing: dict[int, _Flow], flow: _Flow) -> None:
    closing.pop(flow.number, None)
    for ends in (flow.ends, turned(flow.ends)):
        if table.get(ends) is flow:
            del table[ends]


def _thin(flow: _Flow, census: Census) -> None:
    """Leave the middle out, but for what turned something: SYN, FIN, RST, a closed window."""
    packets = flow.packets
    first, last = min(census.first, len(packets) // 2), census.last
    middle = packets[first:-last]
    kept = [packet for packet in middle if _turns(packet[2])][-16:]
    flow.omitted += len(middle) - len(kept)
    flow.packets = packets[:first] + kept + packets[-last:]


def _turns(told: layers.Segment | bytes) -> bool:
    """A SYN, FIN or RST, or a closed window?"""
    if isinstance(told, bytes):
        return told[48:50] == b"\0\0"
    return bool(told[1] & 7 or not told[4])


def address(ends: bytes) -> Address:
    """The sender's address of two ends."""
    size = (len(ends) - 4) // 2
    return Address(host(ends[:size]), int.from_bytes(ends[-4:-2], "big"))


@functools.lru_cache(4096)
def host(packed: bytes) -> str:
    """An address in words."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


_NOTHING: list[Packet] = []  # for each of a million connections the same one


def _made(flow: _Flow, census: Census) -> Connection:
    client = _client(flow)
    orderly = not flow.complaints and _orderly(flow)
    omitted, like = flow.omitted, 0
    shape = None if orderly or flow.complaints else _shape(flow, client)
    left_out = False
    if shape is not None:
        known = census.shapes.setdefault(shape, _Alike(shape, flow.number))
        known.count += 1
        shape = known.shape  # one object for all of them
        if known.count > _LIKE and flow.number != census.wanted:
            like, omitted, left_out = known.first, len(flow.packets), True
    if orderly and flow.number != census.wanted:
        census.orderly += 1
        orderly = census.orderly > _WHOLE  # the first are looked at as all others are
        if orderly:
            omitted, left_out = omitted + len(flow.packets), True
    segments = [] if left_out else _decoded(flow.packets)
    bases = _bases(segments, client)
    packets = [_packet(number, time_ns, segment, client, bases) for number, time_ns, segment in segments] or _NOTHING
    complaints = tuple(
        Complaint(number, time_ns, about.kind, host(about.by), int(about.ends != client))
        for number, time_ns, about in flow.complaints
    )
    first = [told for _, _, told in flow.packets[:8] if not isinstance(told, bytes)]
    syns = [segment for segment in first if segment[1] & (SYN | RST) == SYN]
    initial = tuple(next((s[2] for s in syns if (s[0] == client) == (side == 0)), 0) for side in (0, 1))
    return Connection(
        flow.number,
        address(client),
        address(turned(client)),
        packets,
        complaints,
        omitted=omitted,
        previous=flow.previous,
        began_ns=flow.packets[0][1],
        ended_ns=flow.packets[-1][1],
        orderly=orderly,
        like=like,
        shape=shape,
        initial=(initial[0], initial[1]),
    )


@dataclass(slots=True)
class _Alike:
    """Connections of one shape: the number of the first, and how many there are."""

    shape: tuple[object, ...]
    first: int
    count: int = 0


def _shape(flow: _Flow, client: bytes) -> tuple[object, ...] | None:
    """What a short and quick connection has in common with others that are told in the same words; None for a longer one."""
    if len(flow.packets) > 10 or flow.omitted or flow.previous:
        return None
    segments = _decoded(flow.packets)
    bases: dict[bool, int] = {}
    found: list[object] = [client[-2:]]
    last = segments[0][1]
    for _, time_ns, segment in segments:
        if time_ns is None or last is None or not 0 <= time_ns - last < _QUICK_NS:
            return None
        last = time_ns
        ends, flags, seq, ack, window, size, ttl, ip_id, rest, options = segment
        own = ends == client
        base = bases.setdefault(own, seq)
        other = bases.setdefault(not own, (ack - 1) & 0xFFFFFFFF) if flags & ACK else 0
        told = rest[options:] if size else b""
        kinds = rest[:options:1][:2] if options else b""
        found += (own, flags, (seq - base) & 0xFFFFFFFF, flags & ACK and (ack - other) & 0xFFFFFFFF)
        found += (window == 0, size, ttl, ip_id == 0, options, kinds, told)
    return tuple(found)


def _orderly(flow: _Flow) -> bool:
    """A handshake, and a FIN of both sides, each acknowledged, no reset, and nothing after that but acknowledgements."""
    fins: dict[bytes, int] = {}
    acked: dict[bytes, int] = {}
    begun = 0
    following: dict[bytes, int] = {}
    packets, omitted = flow.packets, bool(flow.omitted)
    last: layers.Segment | None = None
    if len(packets) > _LONG:  # what is plain in its middle, neither ends it nor begins it
        middle = [packet for packet in packets[_EDGE:-_EDGE] if not isinstance(packet[2], bytes)]
        packets, omitted = [*packets[:_EDGE], *middle, *packets[-_EDGE:]], True
    for _, _, segment in _decoded(packets):
        ends, flags, seq, ack, size = segment[0], segment[1], segment[2], segment[3], segment[5]
        if flags & RST or not flags & (ACK | SYN):
            return False
        # What goes back, jumps ahead, or acknowledges what was not sent, is looked at more closely.
        ahead = (seq - following.get(ends, seq)) & 0xFFFFFFFF
        unsent = (ack - following.get(turned(ends), ack)) & 0xFFFFFFFF
        back = (ack - acked.get(ends, ack)) & 0xFFFFFFFF
        if not omitted and (ahead > 1 or 1 < unsent < 0x80000000 or back >= 0x80000000):
            return False
        following[ends] = (seq + size + bool(flags & SYN) + bool(flags & FIN)) & 0xFFFFFFFF
        if size:
            last = segment
        if flags & SYN:
            begun |= 2 if flags & ACK else 1
        if flags & FIN:
            fins[ends] = following[ends]
        acked[ends] = ack
    if begun != 3 or len(fins) != 2 or (last is not None and last[8][last[9] : last[9] + 4] in _ASKS):
        return False
    return all(acked.get(turned(closer)) == number for closer, number in fins.items())


# How a request of HTTP begins: where that is the last data, nothing has answered it.
_ASKS = frozenset({b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC"})


def _client(flow: _Flow) -> bytes:
    """The ends as the one sees them who opened it: by its SYN, by the other's SYN,ACK, else by the smaller port."""
    for _, _, told in flow.packets:
        if not isinstance(told, bytes) and told[1] & (SYN | RST) == SYN:
            return turned(told[0]) if told[1] & ACK else told[0]
    return turned(flow.ends) if _serves(flow.ends) else flow.ends


# Ports that are a server's, though larger than many that clients have (IANA's registry; /etc/services lacks some).
_SERVERS = frozenset(
    {
        1433,
        1521,
        2049,
        2181,
        3000,
        3306,
        3389,
        4000,
        5000,
        5432,
        5671,
        5672,
        6379,
        6443,
        7000,
        8000,
        8080,
        8443,
        8883,
        9000,
        9092,
    }
    | {9200, 9300, 11211, 15672, 27017, 50051}
)


def served(port: int, other: int) -> bool:
    """Is `port` more likely the server's than `other`?"""
    known = [number in _SERVERS or number < 1024 for number in (port, other)]
    if known[0] != known[1]:
        return known[0]
    if (port in _SERVERS) != (other in _SERVERS):
        return port in _SERVERS
    return port < other


def _serves(ends: bytes) -> bool:
    """Is the sender more likely the server?"""
    return served(int.from_bytes(ends[-4:-2], "big"), int.from_bytes(ends[-2:], "big"))


def _bases(segments: list[_Decoded], client: bytes) -> tuple[int, int]:
    """The initial sequence numbers of both sides; without its SYN, a side begins at 1 where it is first heard of."""
    found: list[int | None] = [None, None]
    for _, _, segment in segments:
        side = int(segment[0] != client)
        if segment[1] & SYN and found[side] is None:
            found[side] = segment[2]
    for _, _, segment in segments:
        side, flags = int(segment[0] != client), segment[1]
        if flags & RST:
            continue
        if found[side] is None:
            found[side] = (segment[2] - 1) & 0xFFFFFFFF
        if found[1 - side] is None and flags & ACK:
            found[1 - side] = (segment[3] - 1) & 0xFFFFFFFF
    for _, _, segment in segments:  # nothing but resets
        side = int(segment[0] != client)
        if found[side] is None:
            found[side] = (segment[2] - 1) & 0xFFFFFFFF
        if found[1 - side] is None and segment[1] & ACK:
            found[1 - side] = (segment[3] - 1) & 0xFFFFFFFF
    return found[0] or 0, found[1] or 0


def relative(number: int, base: int) -> int:
    """A 32-bit number counted from the base; what lies before it is negative (RFC 9293 section 3.4)."""
    off = (number - base) & 0xFFFFFFFF
    return off - 0x100000000 if off >= 0xC0000000 else off


def _packet(number: int, time_ns: int | None, segment: layers.Segment, client: bytes, bases: tuple[int, int]) -> Packet:
    ends, flags, seq, ack, window, size, ttl, ip_id, rest, options = segment
    side = int(ends != client)
    told = min(size, len(rest) if rest.startswith(b"HTTP/", options) else layers.DATA)
    return Packet(
        number,
        time_ns,
        side,
        flags,
        relative(seq, bases[side]),
        relative(ack, bases[1 - side]) if flags & ACK else None,
        None if window < 0 else window,
        size,
        ttl,
        None if ip_id < 0 else ip_id,
        _options(rest[:options]) if len(rest) >= options else None,
        rest[options : options + told],
        "",
        seq,
        ack,
        rest[options + told :] if size > told else b"",
    )


def _options(data: bytes) -> tuple[tuple[str, object], ...]:
    """TCP options by Wireshark's names (IANA's registry of TCP option kinds)."""
    found: list[tuple[str, object]] = []
    at = 0
    while at < len(data) and data[at]:
        kind = data[at]
        if kind == 1:
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        body = data[at + 2 : at + size]
        if size < 2 or len(body) != size - 2:
            break
        if kind == 2 and size == 4:
            found.append(("MSS", int.from_bytes(body, "big")))
        elif kind == 3 and size == 3:
            found.append(("WS", body[0]))
        elif kind == 4:
            found.append(("SACK_PERM", None))
        elif kind == 5 and size % 8 == 2 and size > 2:
            found.append(("SACK", struct.unpack(f">{len(body) // 4}I", body)))
        elif kind == 8 and size == 10:
            found.append(("TS", struct.unpack(">II", body)))
        elif kind == 19:
            found.append(("MD5", None))
        elif kind == 29:
            found.append(("AO", None))
        elif kind == 30 and body:
            found.append(("MPTCP", body))
        elif kind == 34:
            found.append(("TFO", len(body)))
        else:
            found.append((f"opt{kind}", None))
        at += size
    return tuple(found)
