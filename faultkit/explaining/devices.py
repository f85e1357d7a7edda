"""Rows that network devices and other systems print: FortiGate's sniffer, Check Point's fw monitor, Solaris' snoop; and PDML.

What each tells of a packet is less than tcpdump does: FortiGate no length, fw monitor the length of the IP packet alone.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator

from faultkit.explaining.flows import ACK, FIN, PSH, RST, SYN, URG
from faultkit.explaining.row import Row

_HOST = (
    r"(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}|[A-Za-z][\w-]{0,60}(?:\.[\w-]{1,60}){0,6})"
)

# FortiGate, "diagnose sniffer packet any '' 4": "12.345678 port1 in 10.0.0.1.40000 -> 10.0.0.2.443: psh 1001 ack 9001".
_FORTIGATE = (
    r"(?:(?P<f_way>in|out) )?(?P<f_src>(?:\d{1,3}\.){4}\d{1,5}|[0-9a-fA-F:]{2,39}\.\d{1,5}) -> "
    r"(?P<f_dst>(?:\d{1,3}\.){4}\d{1,5}|[0-9a-fA-F:]{2,39}\.\d{1,5}): "
    r"(?P<f_flags>(?:(?:syn|fin|rst|psh|urg|ack) \d{1,10}(?: |(?![\w.])))+)"
)
# fw monitor, two lines: "eth0:i[60]: 10.0.0.1 -> 10.0.0.2 (TCP) len=60 id=1" and "TCP: 40000 -> 80 .S.... seq=3e8 ack=0".
_CHECK_POINT = (
    r"(?P<c_point>[iIoOeE])\d{0,2}\[\d{1,6}\]: (?P<c_src>(?:\d{1,3}\.){3}\d{1,3}) -> (?P<c_dst>(?:\d{1,3}\.){3}\d{1,3}) "
    r"\(TCP\) len=(?P<c_len>\d{1,6}) id=(?P<c_id>\d{1,6})\s{1,4}"
    r"TCP: (?P<c_sport>\d{1,5}) -> (?P<c_dport>\d{1,5}) (?P<c_flags>[FSRPAU.]{6}) seq=(?P<c_seq>[0-9a-fA-F]{1,8}) "
    r"ack=(?P<c_ack>[0-9a-fA-F]{1,8})"
)
# snoop: "3 0.00020 10.0.0.1 -> 10.0.0.2 TCP D=80 S=40000 Syn Ack=1 Seq=1000 Len=0 Win=64240".
_SNOOP = (
    rf"(?P<s_src>{_HOST}) -> (?P<s_dst>{_HOST}) TCP D=(?P<s_dport>\d{{1,5}}) S=(?P<s_sport>\d{{1,5}})"
    r"(?P<s_told>(?: (?:Syn|Fin|Rst|Push|Urg|(?:Ack|Seq|Len|Win)=\d{1,10}))+)"
)
ROW = re.compile(rf"(?<![\w.:%-])(?:{_FORTIGATE}|{_SNOOP})|{_CHECK_POINT}")

_WORDS = {"syn": SYN, "fin": FIN, "rst": RST, "psh": PSH, "push": PSH, "urg": URG, "ack": ACK}
_SEEN_NS = 20_000_000  # within which a device shows one packet at all its interfaces; arbitrary
_NEAR = 12  # rows among which the sightings of one packet stand


def read(match: re.Match[str]) -> Row:
    """The packet that a row tells, but for its time."""
    told = match.groupdict()
    if told["f_src"]:
        return _fortigate(told)
    return _snoop(told) if told["s_src"] else _check_point(told)


def _fortigate(told: dict[str, str]) -> Row:
    row = Row(place=told["f_way"] or "")
    (row.source, _, sport), (row.destination, _, dport) = (told[end].rpartition(".") for end in ("f_src", "f_dst"))
    row.sport, row.dport = int(sport) & 0xFFFF, int(dport) & 0xFFFF
    for word, number in re.findall(r"([a-z]{3}) (\d+)", told["f_flags"]):
        row.flags |= _WORDS[word]
        if word == "ack":
            row.ack = int(number)
        else:
            row.seq = int(number)
    row.size = 0 if row.flags & (SYN | FIN | RST) or not row.flags & PSH else None
    return row


def _check_point(told: dict[str, str]) -> Row:
    row = Row(source=told["c_src"], destination=told["c_dst"], place=told["c_point"])
    row.sport, row.dport = int(told["c_sport"]) & 0xFFFF, int(told["c_dport"]) & 0xFFFF
    for letter, bit in zip("FSRPAU", (FIN, SYN, RST, PSH, ACK, URG), strict=True):
        row.flags |= bit if letter in told["c_flags"] else 0
    row.seq = int(told["c_seq"], 16)
    row.ack = int(told["c_ack"], 16) if row.flags & ACK else None
    row.ip_id = int(told["c_id"])
    row.frame = int(told["c_len"])
    row.size = 0 if row.flags & (SYN | RST) else None
    return row


def _snoop(told: dict[str, str]) -> Row:
    row = Row(source=told["s_src"].lower(), destination=told["s_dst"].lower(), place="snoop")
    row.sport, row.dport = int(told["s_sport"]) & 0xFFFF, int(told["s_dport"]) & 0xFFFF
    for word, number in re.findall(r"([A-Z][a-z]+)(?:=(\d+))?", told["s_told"]):
        row.flags |= _WORDS.get(word.lower(), 0)
        if number:
            setattr(row, {"Ack": "ack", "Seq": "seq", "Len": "size", "Win": "window"}[word], int(number))
    return row


def settled(rows: list[Row]) -> list[Row]:
    """Each packet once, where a device shows it at each of its interfaces, with times that count on and lengths of data."""
    if not any(row.place for row in rows):
        return rows
    _counted_on([row for row in rows if row.place == "snoop"])
    kept: list[Row] = []
    for row in rows:
        if not (row.place and row.place != "snoop" and any(_shown_before(other, row) for other in kept[-_NEAR:])):
            kept.append(row)
    headers = [row.frame for row in kept if row.place and row.frame and not row.flags & (SYN | RST)]
    for row in kept:
        if row.place and row.size is None and row.frame:
            row.size = row.frame - min(headers)
    return kept


def _shown_before(other: Row, row: Row) -> bool:
    if other.place == row.place or other.ip_id != row.ip_id:
        return False
    same = ("source", "sport", "destination", "dport", "flags", "seq", "ack")
    if any(getattr(other, name) != getattr(row, name) for name in same):
        return False
    return other.time_ns is None or row.time_ns is None or abs(row.time_ns - other.time_ns) <= _SEEN_NS


def _counted_on(rows: list[Row]) -> None:
    """snoop prints the time since the packet before, unless it is told to do otherwise: then the times run backwards."""
    times = [row.time_ns for row in rows]
    if None in times or all(step >= 0 for step in (b - a for a, b in itertools.pairwise(map(int, times)))):  # type: ignore[arg-type]
        return
    at = 0
    for row in rows:
        at += row.time_ns or 0
        row.time_ns = at


_PACKET = re.compile(r"<packet\b[^>]{0,200}>(.*?)(?:</packet>|\Z)", re.DOTALL)
_FIELD = re.compile(r"<field name=\"([\w.]{1,80})\"([^<>]{0,2000})>")
_SHOWN = re.compile(r"\bshow=\"([^\"]{0,200})\"")
_SEVERAL = ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst")


def pdml(text: str) -> Iterator[dict[str, str]]:
    """The fields of each packet of `tshark -T pdml`, by Wireshark's names; those of a packet that an ICMP error quotes behind a
    comma."""
    for packet in _PACKET.finditer(text):
        fields: dict[str, str] = {}
        for name, rest in _FIELD.findall(packet[1]):
            shown = _SHOWN.search(rest)
            value = html.unescape(shown[1]) if shown else ""
            if name == "num":
                fields.setdefault("frame.number", value)
            elif name in _SEVERAL and name in fields:
                fields[name] = f"{fields[name]},{value}"
            else:
                fields.setdefault(name, value)
        yield fields
