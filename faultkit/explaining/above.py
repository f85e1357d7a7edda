"""Rows of protocols above TCP, which tell neither ports nor numbers: to which connection they belong, if to any."""

from __future__ import annotations

import bisect
import re

from faultkit.explaining.flows import ACK, RST, SYN
from faultkit.explaining.row import Row

_NEAR = 40  # rows around one in which its connection is looked for
_HISTORY = 60  # rows of that connection that are looked at on either side

# Protocols that Wireshark names and that are never carried by TCP, or mostly not.
_NEVER = re.compile(
    r"(?:UDP|ICMP|IGMP|ARP|RARP|DNS|MDNS|LLMNR|NBNS|NBDS|BROWSER|SSDP|DHCP|BOOTP|NTP|SNMP|TFTP|RIP|OSPF|EIGRP|VRRP|HSRP|PIM|STUN|CLASSIC-STUN"
    r"|G?QUIC|DTLS|RTP|RTCP|S?RTCP|ESP$|AH$|ISAKMP|IPv[46]$|IP$|GRE|VXLAN|GTP|L2TP|WireGuard|SCTP|DCCP|STP|LLDP|CDP$|LLC|RADIUS|CLDAP|CAPWAP|BFD"
    r"|UDPENCAP|EAPOL|NAT-PMP|TEREDO|XDMCP|SAP|UTP|BT-DHT|BT-uTP|COAP|PTP|MIH)",
    re.IGNORECASE,
)
# Those that TCP alone carries.
_ALWAYS = re.compile(
    r"(?:TCP|HTTP|SSL|TLS|SSH|SMTP|IMF|IMAP|POP|FTP|TELNET|SMB|NBSS|LDAP|MySQL|PGSQL|TDS|TPKT|COTP|X11|BGP|MQTT$|AMQP|RESP|WebSocket|Socks|IRC|MONGO"
    r"|Kafka|XMPP|XML|RTMPT?|PPTP|NNTP|VNC|iSCSI|OCSP|CQL|Git|OpenFlow|FIX|S7COMM|Modbus/TCP|TNS|DRDA|LPD)",
    re.IGNORECASE,
)
_DATAGRAM = re.compile(r"(?:Fragmented IP|(?:Source port|\d{1,5} ?\S{1,4} ?\d{1,5} Len=))")
_ASKS = re.compile(r"\b(GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|CONNECT|Request|Client Hello|Query|Call)\b")

Ends = frozenset[tuple[str, int]]


def never(protocol: str, told: str) -> bool:
    """Is a row of that protocol, with that in its column Info, no segment of TCP?"""
    return bool(_NEVER.match(protocol) or _DATAGRAM.match(told))


def place(rows: list[Row]) -> list[Row]:
    """Give rows of a protocol above TCP their ports, from the rows around them of the same two hosts. What comes back are
    those that may be of any connection, or of none."""
    where: dict[Ends, list[int]] = {}
    for number, row in enumerate(rows):
        if not row.partial and not row.error:
            where.setdefault(_ends(row), []).append(number)
    lost = []
    for number, row in enumerate(rows):
        if not row.partial:
            continue
        known = _known(rows, where, number, row)
        if known is None:
            lost.append(row)
            continue
        same = known.source == row.source
        if row.source == row.destination:  # on one host only what is said tells who says it
            same = bool(_ASKS.search(row.note)) == (known.dport < known.sport)
        row.sport, row.dport = (known.sport, known.dport) if same else (known.dport, known.sport)
    return lost


def _ends(row: Row) -> Ends:
    return frozenset({(row.source, row.sport), (row.destination, row.dport)})


def _known(rows: list[Row], where: dict[Ends, list[int]], number: int, row: Row) -> Row | None:
    """A row of the connection that this one belongs to."""
    around = range(max(0, number - _NEAR), min(len(rows), number + _NEAR))
    near: dict[Ends, Row] = {}  # the nearest first
    for other in sorted(around, key=lambda other: abs(other - number)):
        known = rows[other]
        if not known.partial and not known.error and {known.source, known.destination} == {row.source, row.destination}:
            near.setdefault(_ends(known), known)
    carried = bool(_ALWAYS.match(row.note)) or "[TCP " in row.note
    open_now, fitting = [], []
    for ends, known in near.items():
        at = bisect.bisect(where[ends], number)
        before = [rows[n] for n in where[ends][max(0, at - _HISTORY) : at]]
        after = [rows[n] for n in where[ends][at : at + _HISTORY]]
        if _lives(before, after):
            open_now.append(known)
        if row.source != row.destination and _lacks(before, after, row.source):
            fitting.append(known)
    if fitting and (carried or len(fitting) == 1):
        return fitting[0]
    return open_now[0] if carried and open_now and (len(open_now) == 1 or row.source == row.destination) else None


def _lives(before: list[Row], after: list[Row]) -> bool:
    """Is the connection established there, and not reset?"""
    last = max((n for n, row in enumerate(before) if row.flags & (SYN | ACK) == SYN), default=None)
    if last is not None:
        before = before[last + 1 :]
        if not any(row.flags & ACK for row in before):
            return False
    if any(row.flags & RST for row in before):
        return False
    return bool(before) or (bool(after) and not after[0].flags & SYN)


def _lacks(before: list[Row], after: list[Row], host: str) -> bool:
    """Are bytes of that host missing between the rows before and those after?"""
    if any(row.flags & RST for row in before) or any(row.flags & (SYN | ACK) == SYN for row in after):
        return False
    had = max(
        (
            number
            for row in before
            for number in (_end(row) if row.source == host else row.ack if row.flags & ACK else None,)
            if number is not None
        ),
        default=None,
    )
    if had is None:
        return False
    for row in after:
        told = row.seq if row.source == host else row.ack if row.flags & ACK else None
        if told is not None and had < told < had + (1 << 28):
            return True
    return False


def _end(row: Row) -> int | None:
    if row.seq is None or row.size is None or row.flags & RST:
        return None
    return row.seq + row.size + bool(row.flags & SYN) + bool(row.flags & 1)
