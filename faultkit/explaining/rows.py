"""Packets as people paste them: rows of tcpdump, tshark and Wireshark, out of mails, tickets and web pages.

Rows are looked for in the whole text, not line by line: they come wrapped at 80 columns, run together, indented, quoted and
between prose. What a row does not say is not assumed: such a field is None.
"""

from __future__ import annotations

import html
import json
import re
import socket
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from faultkit.evidence.transcript import Address
from faultkit.explaining import above, complaining, devices, layers, ordering
from faultkit.explaining.files import Source
from faultkit.explaining.flows import ACK, FIN, PSH, RST, SYN, URG, Complaint, Connection, Packet, served
from faultkit.explaining.row import Row

_MOST = 64 << 20  # bytes of text; more is no paste
_KEPT = 240  # rows of one connection; the middle of a longer one is left out
_UNTOLD = "not told"  # the kind of an ICMP error
_BLANK = re.compile(rb"[ \t\r\n]{3,}")  # of empty lines, two say as much as millions
_MANY = 500  # connections of one host among which that is looked for which an ICMP error means; arbitrary
_LONGEST = 4000  # characters of one row with what belongs to it


@dataclass(slots=True)
class Text:
    """What was read of it."""

    connections: list[Connection] = field(default_factory=list)
    read: int = 0
    unread: tuple[int, str] = (0, "")  # rows that look like packets and could not be read, and the first of them
    others: Counter[str] = field(default_factory=Counter)  # rows that are no segments of TCP, by what they are
    cut: str = ""  # what was not looked at


@dataclass(slots=True)
class _Left:
    """The rows that are not read."""

    unread: list[tuple[str, frozenset[str]]] = field(default_factory=list)  # as they stand, and the hosts where known
    others: Counter[str] = field(default_factory=Counter)


def read(source: Source) -> Text:
    """Every row of a text that is one packet of TCP."""
    pieces, size = [], 0
    while (piece := source.some()) and size < _MOST:
        pieces.append(piece)
        size += len(piece)
    text = _decoded(_BLANK.sub(_shortened, b"".join(pieces)[:_MOST]))
    pieces.clear()
    begins = text.lstrip()[:1]
    left = _Left()
    rows = _of_json(text, left) if begins in "[{" and begins else None
    if not rows and "<pdml" in text[:2000]:
        rows = [row for fields in devices.pdml(text) if (row := _of_names(fields))]
    ends_in_gap = False
    if not rows:
        text = _plain(text)
        rows = _of_fields(text)
        if not rows:
            rows, ends_in_gap = _scanned(text, left)
    rows = devices.settled(rows)
    ordering.across_midnight(rows)
    turned = ordering.oldest_first(rows)
    lost = above.place(rows)
    for row in lost:
        left.unread.append((f"{row.source} → {row.destination} {row.note}", frozenset({row.source, row.destination})))
    gone = {id(row) for row in lost}
    rows = [row for row in rows if id(row) not in gone]
    found = Text()
    found.connections = _connections(rows, left, ends_in_gap)
    found.read = sum(not row.error for row in rows)
    found.unread = len(left.unread), left.unread[0][0] if left.unread else ""
    found.others = left.others
    found.cut = f"the text goes on behind the {_MOST >> 20} MB that are read" if size > _MOST or source.some() else ""
    among = Counter(hosts for _, hosts in left.unread)
    for connection in found.connections:
        if turned:
            connection.notes = (*connection.notes, turned)
        hosts = {connection.client.host, connection.server.host}
        parts = {frozenset(hosts), *(frozenset({host}) for host in hosts), frozenset[str]()}
        connection.unread = sum(among[part] for part in parts)
    return found


def _shortened(blank: re.Match[bytes]) -> bytes:
    return b"\n\n" if blank[0].count(b"\n") > 1 else blank[0]


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:200].count(b"\0") > len(data[:200]) // 4:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le"
        return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


# Text that is no JSON

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_QUOTES = re.compile(r"^[ \t]*(?:(?:>|\||#|//|\*)[ \t]?)+")
# An arrow between two ends as it may have been damaged on its way.
_ARROW = r"(?:→|➔|⇒|⟶|->|=>|>|\?|â†’|â\x86\x92|\\u2192)"


def _plain(text: str) -> str:
    """Without colours, marks of quoting and entities. Lines stay lines."""
    text = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if "&" in text and re.search(r"&(gt|lt|amp|quot|rarr|#\d+);", text):
        text = html.unescape(text)
    if "<section>" in text:  # PSML: the columns of Wireshark
        text = re.sub(r"\s*</section>\s*<section>\s*", "\t", text)
        text = re.sub(r"</?(?:section|packet|structure|psml)\b[^>]{0,200}>", "\n", text)
    lines = text.split("\n")
    marked = [line for line in lines if line.strip()]
    quoted = [line for line in marked if _QUOTES.match(line)]
    if marked and len(quoted) >= len(marked) * 0.5:
        lines = [_QUOTES.sub("", line) for line in lines]
    return "\n".join(lines)


_TIME = (
    r"(?:(?P<date>\d{4}[-/]\d\d[-/]\d\d)[ T])?(?P<clock>\d{1,2}:\d\d:\d\d(?:[.,]\d{1,12})?)(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
    r"|(?P<since>(?<![\d.])\d{1,12}[.,]\d{3,9})"
)
_HOST4 = r"(?:\d{1,3}\.){3}\d{1,3}"
_HOST6 = r"(?<![0-9a-fA-F:.])[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?:%\w{1,20})?"
_NAME = r"(?<![\w.-])[A-Za-z_][\w.-]{0,120}"
_HOST = rf"(?:{_HOST4}|{_HOST6}|{_NAME})"

# tcpdump since 4.0: "a.1 > b.2: Flags [S.], seq 1, ack 2, win 3, options [...], length 4"; the older one: "a.1 > b.2: S 1:1(0)".
_TCPDUMP = re.compile(
    r"(?<![\w.:%-])(?P<src>[\w.:%-]{1,120}) > (?P<dst>[\w.:%-]{1,120}?): (?:tcp |TCP,? )?"
    r"(?:Flags \[(?P<flags>[^\]\n]{0,12})\]|(?P<old>[SFPRWEU.]{1,6})(?= (?:\d+:\d+\(\d+\)|ack \d+|win \d+)))"
)
# Wireshark's and tshark's column Info: "40000 → 80 [SYN, ACK] Seq=0 Ack=1 Win=3 Len=0".
_NAMES = r"(?:FIN|SYN|RST|PSH|ACK|URG|ECE|ECN|CWR|NS|AE|<None>|Reserved|R)"
_PORT = r"(?<![\w-])(?:\d{1,5}|[a-zA-Z][\w-]{0,40}(?: ?\(\d{1,5}\))?)"
_WIRESHARK = re.compile(rf"(?P<sport>{_PORT}) ?{_ARROW} ?(?P<dport>{_PORT}) ?\[(?P<flags>{_NAMES}(?:, ?{_NAMES})*)\]")
# A row of a protocol above TCP: number, time, ends, protocol, length of the frame, and what that protocol says.
_ABOVE = re.compile(
    rf"(?<!\d)(?P<number>\d{{1,10}})[\s,\"]{{1,40}}(?:{_TIME})[\s,\"]{{1,40}}(?P<src>{_HOST4}|{_HOST6})[\s,\"]*{_ARROW}?[\s,\"]*(?P<dst>{_HOST4}|{_HOST6})[\s,\"]+"
    r"(?P<protocol>(?:[A-Z][\w./-]{1,15}|0x[0-9a-f]{4}))[\s,\"]+(?P<length>\d+)[\s,\"]+"
)
_HOSTS = re.compile(
    rf"(?P<src>{_HOST})(?: \([^)]{{0,60}}\))?[\s,\"]*{_ARROW}?[\s,\"]+(?P<dst>{_HOST})(?: \([^)]{{0,60}}\))?[\s,\"]+"
    r"(?:\d{1,5}[\s,\"]+\d{1,5}[\s,\"]+)?(?:[A-Z][\w./-]*[\s,\"]+)?(?:(?P<length>\d+)[\s,\"]+)?(?:\[[^\]]{0,80}\][\s,]*)*\Z"
)
_SEQ = re.compile(r"\bseq (\d+)(?::(\d+))?")
_OLD_SEQ = re.compile(r"\A (\d+):(\d+)\((\d+)\)")
_ACKED = re.compile(r"\back (\d+)")
_WIN = re.compile(r"\bwin (\d+)")
_MARKS = re.compile(r"\s*(?:\[[^\]]{0,80}\]\s*)*")
_LENGTH = re.compile(r"\blength (\d+)")
_OPTIONS = re.compile(r"\boptions \[([^\]]*)\]|<([^<>]*(?:mss|sack|nop|timestamp|wscale)[^<>]*)>")
_VALUES = {
    name: re.compile(rf"\b{name}[=:] ?(\d+)") for name in ("Seq", "Ack", "Win", "Len", "MSS", "WS", "TSval", "TSecr")
}
_VERBOSE = re.compile(r"\bttl (\d+), id (\d+)|\bhlim (\d+)")
_LETTERS = {"S": SYN, "F": FIN, "R": RST, "P": PSH, ".": ACK, "U": URG, "E": 64, "W": 128}
_WORDS = {"FIN": FIN, "SYN": SYN, "RST": RST, "PSH": PSH, "ACK": ACK, "URG": URG, "ECE": 64, "ECN": 64, "CWR": 128}


# What looks like a packet in the words of some tool, and is none of the above.
_END = r"(?:(?:\d{1,3}\.){4}[\w-]{1,20}|[0-9a-fA-F:]{2,39}\.\d{1,5})"
_LIKE_PORT = r"(?:\d{1,5}|[a-z][\w-]{0,40})"
_LIKE = re.compile(
    rf"(?<![\w.:%-])(?P<src>{_END}) -?> (?P<dst>{_END}): (?=(?P<told>.{{0,60}}))"
    r"|(?<![\w.:%-])[\w.:%-]{1,120} -?> [\w.:%-]{1,120}?: (?:tcp|syn|fin|rst|ack|psh) \d+"
    rf"|(?<![\w.-]){_LIKE_PORT} ?{_ARROW} ?{_LIKE_PORT} ?\[[^\]\[]{{1,60}}\](?= ?[^\W\d]\S{{0,10}}=\d)"
    r"|\bTCP D=\d{1,5} S=\d{1,5}|\bTCP: \d{1,5} -> \d{1,5} [.A-Z]{3}|Transmission Control Protocol, Src Port|<proto name=.tcp."
)
_DATAGRAM = re.compile(r"(?:UDP|NBT|NTP|SIP|BOOTP|DHCP|isakmp|quic|sctp|RIP|domain|\d+[+*%$-]* )", re.IGNORECASE)
_DATAGRAM_PORT = re.compile(
    r"\.(?:53|67|68|69|123|137|138|161|162|500|514|1900|4500|5353|5355|domain|mdns|ntp|snmp|bootp[sc]|netbios-\w+)\Z"
)
_CLOCKED = re.compile(r"\bproto ICMP|next-header ICMPv6|\d\d:\d\d:\d\d")

_Anchor = tuple[int, int, str, "re.Match[str]"]


def _anchors(flat: str) -> list[_Anchor]:
    """Where the rows are, read or not, none over another."""
    found = sorted(
        [(m.start(), m.end(), "tcpdump", m) for m in _TCPDUMP.finditer(flat)]
        + [(m.start(), m.end(), "wireshark", m) for m in _WIRESHARK.finditer(flat)]
        + [(m.start(), m.end(), "above", m) for m in _ABOVE.finditer(flat)],
        key=lambda anchor: (anchor[0], anchor[1]),
    )
    kept: list[_Anchor] = []
    for anchor in found:
        if kept and anchor[0] < kept[-1][1]:
            continue
        if anchor[2] == "wireshark" and _heads(kept, flat, anchor[0]):
            kept.pop()  # what stands before a row's own flags: the same row
        kept.append(anchor)
    found = sorted(
        [*kept, *((m.start(), m.end(), "device", m) for m in devices.ROW.finditer(flat))], key=lambda a: a[:2]
    )
    kept = []
    for anchor in found:
        if not kept or anchor[0] >= kept[-1][1]:
            kept.append(anchor)
    weaker = [(m.start(), m.end(), "error", m) for m in complaining.ROW.finditer(flat)]
    weaker += [(m.start(), m.end(), "like", m) for m in _LIKE.finditer(flat)]
    taken: list[_Anchor] = []
    place = 0
    for anchor in sorted([*kept, *weaker], key=lambda anchor: (anchor[0], anchor[2] in ("error", "like"))):
        while place < len(kept) and kept[place][1] <= anchor[0]:
            place += 1
        if anchor[2] in ("error", "like"):
            if (taken and anchor[0] < taken[-1][1]) or (place < len(kept) and kept[place][0] < anchor[1] - 60):
                continue
            if _heads(taken, flat, anchor[0]):
                taken[-1] = (*taken[-1][:2], "unread", taken[-1][3])  # its own flags are in no words that are known
                continue
        taken.append(anchor)
    return taken


def _heads(kept: list[_Anchor], flat: str, at: int) -> bool:
    """Is the last of them what stands before the ports of the row?"""
    return bool(kept) and kept[-1][2] == "above" and bool(_MARKS.fullmatch(flat, kept[-1][1], at))


# A line that says that rows were left out: "...", "[... cut ...]", "(12 lines removed)", "-- snip --".
_LEFT_OUT = re.compile(
    r"[\W_]{0,20}(?:\.{3}|…)[\W_]{0,20}|(?i:[\W_]{1,20}(?:[\w,]{1,12} ){0,6}?"
    r"(?:snip\w{0,4}|cut|removed|omitted|deleted|skipped|elided|left out|truncated|trimmed|redacted|the same again"
    r"|more (?:lines|packets|rows|of the same))\b.{0,60}"
    r"|\d{1,9} (?:more )?(?:lines|packets|rows|frames)(?: \w{1,12}){0,3}[\W_]{0,20}|<?snip(?:ped)?>?)"
)


def _flat(line: str) -> str:
    words = " ".join(line.split())
    return "\x01" if 2 <= len(words) <= 90 and _LEFT_OUT.fullmatch(words) else words or "\x00"


def _scanned(text: str, left: _Left) -> tuple[list[Row], bool]:
    """The rows, and whether more were left out behind the last of them."""
    # Newlines are blanks to a wrapped row; two of them end what belongs to it.
    flat = " ".join(_flat(line) for line in text.split("\n"))
    kept = _anchors(flat)
    rows: list[Row] = []
    gaps = [place for place, letter in enumerate(flat) if letter == "\x01"] if "\x01" in flat else []
    passed = 0
    error: Row | None = None  # an ICMP error that may quote what follows
    for place, (start, end, kind, match) in enumerate(kept):
        before = flat[max(kept[place - 1][1] if place else 0, start - 600) : start]
        after = flat[end : min(kept[place + 1][0] if place + 1 < len(kept) else len(flat), end + _LONGEST)]
        after = after.partition("\x00")[0].partition("\x01")[0]
        known = len(rows)
        quoting, error = error, None
        if kind == "tcpdump":
            row = _tcpdump(match, before, after)
            if quoting is not None and row.time_ns is None:
                quoting.sport, quoting.dport, quoting.about = row.sport, row.dport, (row.destination, row.dport)
            else:
                rows.append(row)
        elif kind == "wireshark":
            read_here = _wireshark(match, before, after)
            if read_here is not None:
                rows.append(read_here)
        elif kind == "device":
            row = devices.read(match)
            times = list(_MOMENT.finditer(before))
            row.time_ns, row.clock = _moment(times[-1]) if times else None, _undated(times)
            rows.append(row)
        elif kind == "error":
            said = _error(match, before)
            if said is None:
                left.others["ICMP"] += 1
            else:
                rows.append(said)
                error = said if _CLOCKED.search(before) else None
        elif kind == "above":
            _sorted_in(match, after, rows, left)
        elif quoting is not None and (match.groupdict().get("told") or "").startswith("[|tcp"):
            (_, quoting.sport), quoting.about = _ends(match["src"]), _ends(match["dst"])
            quoting.dport = quoting.about[1]
        else:
            _not_read(match, after, left)
        while passed < len(gaps) and gaps[passed] < start and len(rows) > known:
            rows[known].gap, passed = True, passed + 1
    return rows, passed < len(gaps)


def _not_read(match: re.Match[str], after: str, left: _Left) -> None:
    names = match.groupdict()
    source, destination, told = names.get("src"), names.get("dst"), names.get("told")
    if told is not None and (
        _DATAGRAM.match(told) or any(_DATAGRAM_PORT.search(end or "") for end in (source, destination))
    ):
        left.others["UDP"] += 1
        return
    hosts: frozenset[str] = frozenset()
    if source and destination:
        hosts = frozenset(_ends(end)[0] if told is not None else end.lower() for end in (source, destination))
    left.unread.append((f"{match[0]}{_own(after)[:80]}".strip(), hosts))


def _sorted_in(match: re.Match[str], after: str, rows: list[Row], left: _Left) -> None:
    """A row without ports: of a protocol above TCP, an ICMP error, or something else."""
    row = _above(match, after)
    if match["protocol"].upper().startswith("ICMP"):
        row.partial, row.flags, row.error = False, 0, complaining.kind(after[:80])
        if row.error:
            rows.append(row)
            return
    if above.never(match["protocol"], after):
        left.others[match["protocol"]] += 1
    else:
        rows.append(row)


def _error(match: re.Match[str], before: str) -> Row | None:
    row = Row(error=complaining.kind(match["told"]), about=complaining.target(match["told"]))
    row.source, row.destination = match["src"].lower(), match["dst"].lower()
    times = list(_MOMENT.finditer(before))
    row.time_ns = _moment(times[-1]) if times else None
    row.clock = _undated(times)
    return row if row.error else None


def _digits(text: str) -> bool:
    """Only 0 to 9: other digits, such as a superscript two, are none that `int` takes."""
    return text.isascii() and text.isdigit()


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _moment(match: re.Match[str] | None) -> int | None:
    if match is None:
        return None
    if match["since"]:
        whole, _, fraction = match["since"].replace(",", ".").partition(".")
        return int(whole) * 10**9 + int(fraction.ljust(9, "0")[:9])
    clock, _, fraction = match["clock"].replace(",", ".").partition(".")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    day = 0
    if match["date"]:
        try:
            moment = datetime.strptime(match["date"].replace("/", "-"), "%Y-%m-%d").replace(tzinfo=UTC)
            day = int(moment.timestamp()) * 10**9
        except ValueError:
            day = 0
    return day + (hours * 3600 + minutes * 60 + seconds) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)


_MOMENT = re.compile(_TIME)

_NEXT = re.compile(rf"(?:\A|\s)(?:\d{{1,10}}\s+)?(?:{_TIME})")


def _own(after: str) -> str:
    """What belongs to a row, up to the number or the time of the next one."""
    following = _NEXT.search(after)
    return after[: following.start()] if following else after


def _undated(times: list[re.Match[str]]) -> bool:
    """Is the last of them a time of day, of which the day is not told?"""
    return bool(times) and bool(times[-1]["clock"]) and not times[-1]["date"]


def _ends(text: str) -> tuple[str, int]:
    """ "10.0.0.1.80", "server.http", "2001:db8::1.443", "client": host and port (0 where none is told)."""
    if re.fullmatch(_HOST4, text):
        return text, 0
    host, dot, port = text.rpartition(".")
    if not dot or not host:
        return text.lower(), 0
    if _digits(port):
        return host.lower(), int(port) & 0xFFFF
    if ":" in port:  # an IPv6 address ends in no dot
        return text.lower(), 0
    return host.lower(), _service(port)


_SERVICES = {
    "http": 80,
    "https": 443,
    "ssh": 22,
    "x11": 6000,
    "imap2": 143,
    "imaps": 993,
    "http-alt": 8080,
    "webcache": 8080,
    "mysql": 3306,
}


def _service(name: str) -> int:
    if name in _SERVICES:
        return _SERVICES[name]
    try:
        return socket.getservbyname(name, "tcp")
    except OSError:
        return sum(name.encode()) + 1  # a number of its own, so that two names are two ports


def _port(text: str) -> int:
    told = re.search(r"\((\d+)\)", text)
    if told:
        return int(told[1]) & 0xFFFF
    return int(text) & 0xFFFF if _digits(text) else _service(text)


def _tcpdump(match: re.Match[str], before: str, after: str) -> Row:
    row = Row()
    row.source, row.sport = _ends(match["src"])
    row.destination, row.dport = _ends(match["dst"])
    for letter in match["flags"] or match["old"] or "":
        row.flags |= _LETTERS.get(letter, 0)
    if match["flags"] == "none":
        row.flags = 0
    # The next row's own time may stand behind this one's length; what is behind that is not this row's.
    body = after
    times = list(_MOMENT.finditer(before))
    # With a link header of 60 characters and -v between them, the time is still the last one before the ends.
    row.time_ns = _moment(times[-1]) if times else None
    row.clock = _undated(times)
    verbose = list(_VERBOSE.finditer(before[-300:]))
    if verbose and (not times or verbose[-1].start() + max(len(before) - 300, 0) > times[-1].start()):
        row.ttl = _number(verbose[-1][1] or verbose[-1][3])
        row.ip_id = _number(verbose[-1][2])
    if match["old"]:
        numbers = _OLD_SEQ.match(body)
        if numbers:
            row.seq, row.size = int(numbers[1]), int(numbers[3])
        else:
            row.size = 0
        if re.search(r"\A[^>]*\back \d+", body):
            row.flags |= ACK
    else:
        numbers = _SEQ.search(body)
        length = _LENGTH.search(body)
        row.size = _number(length[1]) if length else None
        if numbers:
            row.seq = int(numbers[1])
            if numbers[2] and row.size is None:
                row.size = (int(numbers[2]) - int(numbers[1])) & 0xFFFFFFFF
    acked, window = _ACKED.search(body), _WIN.search(body)
    row.ack = _number(acked[1]) if acked and row.flags & ACK else None
    row.window = _number(window[1]) if window else None
    told = _OPTIONS.search(body)
    if told:
        row.options = _told_options(told[1] or told[2] or "")
    elif match["flags"] is not None and window and row.size is not None:
        row.options = ()  # tcpdump prints them where there are any
    elif match["old"] and window:
        row.options = ()
    behind = (
        window.end()
        if match["old"] and window
        else length.end()
        if not match["old"] and (length := _LENGTH.search(body))
        else 0
    )
    row.note = body[behind : behind + 120]
    return row


def _told_options(text: str) -> tuple[tuple[str, object], ...]:
    found: list[tuple[str, object]] = []
    for part in text.split(","):
        words = part.split()
        if not words:
            continue
        if words[0] == "mss" and _digits(words[-1]):
            found.append(("MSS", int(words[-1])))
        elif words[0] == "wscale" and _digits(words[-1]):
            found.append(("WS", int(words[-1])))
        elif words[0].lower() == "sackok":
            found.append(("SACK_PERM", None))
        elif words[0] == "TS" and len(words) >= 5 and _digits(words[2]) and _digits(words[4]):
            found.append(("TS", (int(words[2]), int(words[4]))))
        elif words[0] == "timestamp" and len(words) >= 3 and _digits(words[1]) and _digits(words[2]):
            found.append(("TS", (int(words[1]), int(words[2]))))
        elif words[0] == "md5":
            found.append(("MD5", None))
        elif words[0] == "mptcp":
            found.append(("MPTCP", b"\x70" if "fast-close" in part else b"\x80" if "tcprst" in part else b"\x20"))
        elif words[0] == "sack":
            found.append(("SACK", None))
    return tuple(found)


def _wireshark(match: re.Match[str], before: str, after: str) -> Row | None:
    row = Row()
    row.sport, row.dport = _port(match["sport"]), _port(match["dport"])
    for word in re.split(r", ?", match["flags"]):
        row.flags |= _WORDS.get(word, 0)
    hosts = _HOSTS.search(before[-260:])
    if hosts:
        row.source, row.destination = hosts["src"].lower(), hosts["dst"].lower()
        row.frame = _number(hosts["length"])
        ahead = before[-260:][: hosts.start()]
        times = list(_MOMENT.finditer(ahead))
        row.time_ns = _moment(times[-1]) if times else None
        row.clock = _undated(times)
        number = re.search(r"(\d+)[\s,\"]*\Z", ahead[: times[-1].start()] if times else ahead)
        # A second column of times (the difference to the row before) stands between the number and the time.
        if times and len(times) > 1 and not ahead[times[-2].end() : times[-1].start()].strip(' ,"\t'):
            number = re.search(r"(\d+)[\s,\"]*\Z", ahead[: times[-2].start()])
        row.number = _number(number[1]) if number else None
    elif not row.flags:
        return None
    values = {name: pattern.search(after) for name, pattern in _VALUES.items()}
    told = {name: int(value[1]) for name, value in values.items() if value}
    row.seq, row.window, row.size = told.get("Seq"), told.get("Win"), told.get("Len")
    row.ack = told.get("Ack") if row.flags & ACK else None
    if "Win" in told:
        options: list[tuple[str, object]] = [(name, told[name]) for name in ("MSS", "WS") if name in told]
        if "TSval" in told:
            options.append(("TS", (told["TSval"], told.get("TSecr", 0))))
        row.options = tuple(options)
    row.scaled = True
    row.note = before[-80:].rpartition("TCP")[2] + after[:80]
    return row


def _above(match: re.Match[str], after: str) -> Row:
    row = Row(partial=True)
    row.number, row.time_ns, row.clock = int(match["number"]), _moment(match), _undated([match])
    row.source, row.destination = match["src"].lower(), match["dst"].lower()
    row.frame = int(match["length"])
    row.flags = PSH | ACK
    row.note = f"{match['protocol']} {_own(after)[:120]}"
    return row


# JSON and fields of tshark


_DOCUMENT = re.compile(r'\{\s*"(?:_index|_source|timestamp)"')  # as a packet's begins
_DAMAGED = 100  # documents that end nowhere; with more of them it is no JSON


def _whole_documents(text: str) -> tuple[list[Any], tuple[int, str]]:
    """Each packet of a JSON text that is cut or damaged, or has one on each line; how many could not be read, and the first."""
    decoder = json.JSONDecoder()
    documents: list[Any] = []
    damaged: list[int] = []
    end = 0
    for match in _DOCUMENT.finditer(text):
        if match.start() < end or len(damaged) > _DAMAGED:
            continue
        try:
            document, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            damaged.append(match.start())
        else:
            documents.append(document)
    return documents, (len(damaged), " ".join(text[damaged[0] : damaged[0] + 200].split()) if damaged else "")


def _of_json(text: str, left: _Left) -> list[Row]:
    """`tshark -T json`, `-T jsonraw` or `-T ek`; nothing where it is no JSON of packets."""
    try:
        loaded = json.loads(text)
        documents, damaged = (loaded if isinstance(loaded, list) else [loaded]), (0, "")
    except (ValueError, RecursionError):
        documents, damaged = _whole_documents(text)
    rows = []
    for document in documents:
        if not isinstance(document, dict):
            continue
        layers = (
            document.get("_source", document).get("layers")
            if isinstance(document.get("_source", document), dict)
            else None
        )
        if not isinstance(layers, dict):
            continue
        fields: dict[str, str] = {}
        _flatten(layers, fields, 0)
        row = _of_names(fields)
        if row:
            rows.append(row)
    if rows:
        left.unread.extend([(damaged[1], frozenset[str]())] * damaged[0])
    return rows


def _flatten(node: Any, fields: dict[str, str], depth: int) -> None:
    if depth > 12 or not isinstance(node, dict):
        return
    for key, value in node.items():
        if isinstance(value, dict):
            _flatten(value, fields, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            _flatten(value[0], fields, depth + 1)
        else:
            first = value[0] if isinstance(value, list) and value else value
            name = key
            told = re.match(r"(\w+?)_\1_(\w+)\Z", key)  # Elasticsearch's names: tcp_tcp_srcport
            if told:
                name = f"{told[1]}.{told[2]}"
            fields.setdefault(name, str(first))


def _of_names(fields: dict[str, str]) -> Row | None:
    """A packet from Wireshark's names of fields."""

    def whole(*names: str) -> int | None:
        for name in names:
            value = fields.get(name, "")
            if len(value) > 20:  # longer than any number of 64 bits
                continue
            try:
                return int(value, 0)
            except ValueError:
                if _digits(value):
                    return int(value)
        return None

    sport, dport = whole("tcp.srcport"), whole("tcp.dstport")
    flags = whole("tcp.flags")
    sources = (fields.get("ip.src") or fields.get("ipv6.src") or "").split(",")
    destinations = (fields.get("ip.dst") or fields.get("ipv6.dst") or "").split(",")
    # The segment that an ICMP error quotes was sent by the one whom the error goes to.
    quoted = len(sources) > 1 and len(destinations) > 1 and sources[1] == destinations[0]
    kind = whole("icmp.type", "icmpv6.type")
    if sport is None or dport is None or (flags is None and not quoted and kind is None):
        return None
    if quoted or kind is not None:
        names = layers.ICMP4 if "icmp.type" in fields else layers.ICMP6
        code = whole("icmp.code", "icmpv6.code")
        told = _UNTOLD if code is None or kind is None else names.get(code, "unreachable")
        if kind in ((11,) if "icmp.type" in fields else (3,)):
            told = "time-exceeded"
        elif kind == 2 and "icmp.type" not in fields:
            told = "fragmentation-needed"
        return Row(
            number=whole("frame.number"),
            time_ns=_stamp(fields),
            source=sources[0],
            destination=destinations[0],
            sport=sport & 0xFFFF,
            dport=dport & 0xFFFF,
            error=told,
            about=("", dport & 0xFFFF),
        )
    row = Row(sport=sport & 0xFFFF, dport=dport & 0xFFFF, flags=(flags or 0) & 0x1FF)
    row.source, row.destination = sources[-1], destinations[-1]
    row.number = whole("frame.number")
    row.seq = whole("tcp.seq_raw", "tcp.seq")
    row.ack = whole("tcp.ack_raw", "tcp.ack") if row.flags & ACK else None
    row.window = whole("tcp.window_size_value", "tcp.window_size")
    row.size = whole("tcp.len")
    row.ttl = whole("ip.ttl", "ipv6.hlim")
    row.ip_id = whole("ip.id")
    row.time_ns = _stamp(fields)
    value, echo = whole("tcp.options.timestamp.tsval"), whole("tcp.options.timestamp.tsecr")
    known = any(name.startswith("tcp.") and name not in ("tcp.srcport", "tcp.dstport", "tcp.flags") for name in fields)
    if value is not None:
        row.options = (("TS", (value, echo or 0)),)
    elif "tcp.options" in fields or (known and "tcp.hdr_len" in fields and whole("tcp.hdr_len") == 20):
        row.options = ()
    return row


def _stamp(fields: dict[str, str]) -> int | None:
    for name in ("frame.time_epoch", "frame.time_relative"):
        value = fields.get(name, "")
        if re.fullmatch(r"\d+(\.\d+)?", value):
            whole, _, fraction = value.partition(".")
            return int(whole) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)
        if value:
            try:
                return int(datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() * 1e9)
            except ValueError:
                continue
    return None


def _of_fields(text: str) -> list[Row]:
    """`tshark -T fields -E header=y`: a first line of names."""
    lines = text.splitlines()
    place = next((n for n, line in enumerate(lines[:5]) if "tcp.srcport" in line and "tcp.dstport" in line), None)
    if place is None:
        return []
    separator = "\t" if "\t" in lines[place] else "," if "," in lines[place] else None
    names = [name.strip('"') for name in lines[place].split(separator)]
    rows = []
    for line in lines[place + 1 :]:
        values = [value.strip('"') for value in line.split(separator)]
        row = _of_names(dict(zip(names, values, strict=False)))
        if row:
            rows.append(row)
    return rows


# Connections


def _connections(rows: list[Row], left: _Left, ends_in_gap: bool = False) -> list[Connection]:
    """The rows of each connection, in the order in which they stand."""
    found: dict[frozenset[tuple[str, int]], list[list[tuple[int, Row]]]] = {}
    order: list[list[tuple[int, Row]]] = []
    numbers = [row.number for row in rows]
    own = all(number is not None for number in numbers) and len(set(numbers)) == len(numbers)
    errors: list[tuple[int, Row, list[list[tuple[int, Row]]]]] = []
    last: dict[str, list[tuple[int, Row]]] = {}  # by host, of what it has sent last
    hosts: dict[str, list[list[tuple[int, Row]]]] = {}
    for count, row in enumerate(rows, 1):
        number = row.number if own and row.number is not None else count
        if row.error:
            errors.append((number, row, _meant(row, hosts.get(row.destination, []), last.get(row.destination))))
            continue
        ends = frozenset({(row.source, row.sport), (row.destination, row.dport)})
        groups = found.setdefault(ends, [])
        if not groups or _anew(groups[-1], row):
            groups.append([])
            order.append(groups[-1])
            for host in {row.source, row.destination}:
                hosts.setdefault(host, []).append(groups[-1])
        groups[-1].append((number, row))
        last[row.source] = groups[-1]
    about: dict[int, list[tuple[int, Row]]] = {}  # by the rows of the connection
    for number, row, meant in errors:
        if len(meant) == 1:
            about.setdefault(id(meant[0]), []).append((number, row))
    gaps = [count for count, row in enumerate(rows) if row.gap and count]
    place_of = {id(row): count for count, row in enumerate(rows)} if gaps else {}
    connections = []
    previous: dict[frozenset[tuple[str, int]], int] = {}
    for place, group in enumerate(order, 1):
        connection = _made(place, group)
        ends = frozenset({(group[0][1].source, group[0][1].sport), (group[0][1].destination, group[0][1].dport)})
        connection.previous = previous.get(ends, 0)
        connection.gaps = ends_in_gap + sum(gap > place_of[id(group[0][1])] for gap in gaps)
        previous[ends] = place
        connections.append(connection)
        for number, row in about.get(id(group), ()):
            _complain(connection, number, row, left)
    for _, row, meant in errors:
        if not meant:
            left.others["ICMP"] += 1
        elif len(meant) > 1:
            told = f"ICMP {row.error} of {row.source} to {row.destination}, about one of several connections"
            left.unread.append((told, frozenset()))
    return connections


def _complain(connection: Connection, number: int, row: Row, left: _Left) -> None:
    """Tell a connection of an ICMP error about it."""
    if row.error == _UNTOLD:
        told = f"ICMP error of {row.source} to {row.destination}, of which the row does not tell the kind"
        left.unread.append((told, frozenset({connection.client.host, connection.server.host})))
        return
    side = int(row.destination != connection.client.host)
    told_of = Complaint(number, row.time_ns, row.error, row.source, side)
    connection.complaints = (*connection.complaints, told_of)
    if not row.sport and not connection.inferred:
        connection.inferred = True
        said = f"row {number}, an ICMP error, is taken to be about this connection: it quotes no segment"
        connection.notes = (*connection.notes, said)


def _meant(
    error: Row, groups: list[list[tuple[int, Row]]], last: list[tuple[int, Row]] | None
) -> list[list[tuple[int, Row]]]:
    """The connections that an ICMP error may be about: one, or several where it does not say which."""
    host, port = error.about
    found = []
    for group in groups[-_MANY:]:
        mine = next((row for _, row in group[:_KEPT] if row.source == error.destination), None)
        if (
            mine
            and (not host or mine.destination == host)
            and (not port or mine.dport == port)
            and (not error.sport or mine.sport == error.sport)
        ):
            found.append(group)
    # Of the same two ends, the last is meant; and what names no ports may be about a datagram.
    if error.sport:
        return found[-1:]
    if host and len(found) == 1:
        return found
    return found if len(found) != 1 or found[0] is last else [*found, *found]


def _anew(group: list[tuple[int, Row]], row: Row) -> bool:
    if row.flags & (SYN | ACK | RST) != SYN:
        return False
    group = group[-64:]  # a longer look back would be taken for each SYN of a flood
    mine = [other for _, other in group if other.source == row.source and other.sport == row.sport]
    syns = [other for other in mine if other.flags & SYN]
    again = "Retransmission" in row.note
    if syns:
        return not again and (
            row.seq not in (None, *(s.seq for s in syns)) or any(o.flags & (RST | FIN) for _, o in group)
        )
    return "reused" in row.note or any(other.flags & (RST | FIN) for _, other in group) or bool(mine)


def _made(place: int, group: list[tuple[int, Row]]) -> Connection:
    left_out = max(len(group) - _KEPT, 0)
    group = group[: _KEPT // 4] + group[len(group) - (_KEPT - _KEPT // 4) :] if left_out else group
    rows = [row for _, row in group]
    client = _client(rows)
    _numbered(rows, client)
    _unscaled(rows, client)
    bases = [_base(rows, client, side) for side in (0, 1)]
    packets = []
    for number, row in group:
        side = int((row.source, row.sport) != client)
        seq = _relative(row.seq, bases[side])
        ack = _relative(row.ack, bases[1 - side])
        options = row.options
        if options is not None and not options and row.size is None:
            options = None
        packets.append(
            Packet(
                number,
                row.time_ns,
                side,
                row.flags,
                seq,
                ack,
                row.window,
                row.size,
                _within(row.ttl, 0xFF),
                _within(row.ip_id, 0xFFFF),
                options,
                b"",
                row.note,
                row.seq or 0,
                row.ack or 0,
            )
        )
    server = next(
        ((r.destination, r.dport) for r in rows if (r.source, r.sport) == client), (rows[0].source, rows[0].sport)
    )
    notes = []
    if any(row.time_ns is None for row in rows):
        notes.append("the rows tell no times")
    syns = [row.seq for row in rows if row.flags & SYN and row.seq is not None and row.seq > 0]
    connection = Connection(
        place,
        Address(*client),
        Address(*server),
        packets,
        omitted=left_out,
        from_rows=True,
        notes=notes,
        began_ns=packets[0].time_ns,
        ended_ns=packets[-1].time_ns,
    )
    if syns:
        initial = [
            next((r.seq or 0 for r in rows if r.flags & SYN and int((r.source, r.sport) != client) == side), 0)
            for side in (0, 1)
        ]
        connection.initial = (initial[0], initial[1])
    return connection


def _within(number: int | None, most: int) -> int | None:
    """A number as its field holds it; what is printed may be damaged."""
    return number if number is not None and 0 <= number <= most else None


def _client(rows: list[Row]) -> tuple[str, int]:
    for row in rows:
        if row.flags & (SYN | RST) == SYN:
            return (row.destination, row.dport) if row.flags & ACK else (row.source, row.sport)
    first = rows[0]
    smaller = bool(first.sport and first.dport) and served(first.sport, first.dport)
    if first.source == "server" or first.destination == "client":
        smaller = True
    return (first.destination, first.dport) if smaller else (first.source, first.sport)


def _numbered(rows: list[Row], client: tuple[str, int]) -> None:
    """Sizes and numbers of the rows of protocols above TCP: from the frame's length, and from what the others
    acknowledge."""
    headers = Counter(
        row.frame - row.size for row in rows if row.frame and row.size is not None and row.flags & SYN == 0
    )
    header = headers.most_common(1)[0][0] if headers else None
    following: dict[int, int | None] = {0: None, 1: None}
    for row in rows:
        side = int((row.source, row.sport) != client)
        if row.partial:
            if row.frame and header is not None:
                row.size = max(row.frame - header, 1)
            row.seq, row.ack = following[side], following[1 - side]
        if row.seq is not None and row.size is not None and not row.flags & RST:
            following[side] = row.seq + row.size + bool(row.flags & SYN) + bool(row.flags & FIN)
        if row.ack is not None and following[1 - side] is None:
            following[1 - side] = row.ack


def _unscaled(rows: list[Row], client: tuple[str, int]) -> None:
    """Windows as they were sent: Wireshark multiplies them once both SYNs have told a factor."""
    factors: dict[int, int] = {}
    for row in rows:
        side = int((row.source, row.sport) != client)
        if row.flags & SYN:
            told = next((value for name, value in row.options or () if name == "WS"), None)
            if isinstance(told, int):
                factors[side] = told
        elif row.scaled and row.window is not None and len(factors) == 2 and not row.window % factors[side]:
            row.window //= factors[side]


def _base(rows: list[Row], client: tuple[str, int], side: int) -> int:
    """What a side's printed numbers are counted from: its SYN's own number, or what makes large numbers small."""
    for row in rows:
        mine = int((row.source, row.sport) != client) == side
        if mine and row.flags & SYN and row.seq is not None:
            return row.seq
    values = []
    for row in rows:
        mine = int((row.source, row.sport) != client) == side
        value = row.seq if mine else row.ack
        if value is not None and not (mine and row.flags & RST):
            values.append(value)
    if not values:
        values = [row.seq for row in rows if row.seq is not None and int((row.source, row.sport) != client) == side]
    if not values or min(values) < 1 << 24:
        return 0
    return min(values) - 1


def _relative(number: int | None, base: int) -> int | None:
    """tcpdump prints a connection's first numbers as they are and the later ones relative; both are counted from
    the base."""
    if number is None or not base:
        return number
    off = (number - base) & 0xFFFFFFFF
    if off < 1 << 24:
        return off
    if number < 1 << 28:
        return number
    return off - (1 << 32) if off > 3 << 30 else off
