"""What a segment's first bytes are, as far as an end's meaning depends on it: a request, or the last words of a
protocol."""

from __future__ import annotations

import re

from faultkit.explaining.flows import Packet

_REQUEST = re.compile(rb"(GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|CONNECT|TRACE) ")
_REQUEST_ROW = re.compile(r"\b(GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|CONNECT) \S+ ?(HTTP/1|$)")
_QUIT = re.compile(rb"(?i)(QUIT|BYE|LOGOUT|EXIT|\S+ LOGOUT|\*1\r\n\$4\r\nQUIT)\r?\n?")
# RFC 4511 section 4.3; Windows writes the length in the long form.
_UNBIND = re.compile(rb"\x30(?:\x84\0\0\0)?[\5-\7]\x02[\1-\3].{1,3}\x42\0", re.DOTALL)
_QUIT_ROW = re.compile(
    r"\b(QUIT|LOGOUT|Encrypted Alert|Alert \(Level: \w+, Description: Close Notify\))\b|Encrypted Alert", re.I
)


def request(packet: Packet) -> bool:
    """Does an HTTP request begin in it, or encrypted data that may be one?"""
    return encrypted(packet) or asks(packet)


def asks(packet: Packet) -> bool:
    """Does a request of HTTP begin in it, in clear text?"""
    return bool(_REQUEST.match(packet.data) or _REQUEST_ROW.search(packet.note))


def fatal_alert(packet: Packet) -> str:
    """The name of the fatal TLS alert in clear text that it is; "" where it is none."""
    data = packet.data
    if data[:2] != b"\x15\x03" or data[3:6] != b"\0\2\2" or len(data) < 7:
        return ""
    import ssl  # its import takes longer than all else of a small capture

    try:
        return ssl.AlertDescription(data[6]).name.removeprefix("ALERT_DESCRIPTION_").lower()
    except ValueError:
        return str(data[6])


def is_record(packet: Packet) -> bool:
    """Does a TLS record begin in it?"""
    return packet.data[:1] in (b"\x14", b"\x15", b"\x16", b"\x17") and packet.data[1:2] == b"\x03"


def alert_alone(data: bytes) -> bool:
    """Is it one encrypted alert of TLS 1.3, after the change of cipher that some send for appearance (RFC 8446 appendix D.4)?"""
    data = data.removeprefix(b"\x14\3\3\0\1\1")
    return data[:5] == b"\x17\3\3\0\x13" and len(data) == 24


def greeting(packet: Packet) -> bool:
    """Is it a TLS ClientHello?"""
    return packet.data[:2] == b"\x16\x03" and packet.data[5:6] == b"\x01"


def encrypted(packet: Packet) -> bool:
    """Is it TLS application data, and more than an alert?"""
    return packet.data[:2] == b"\x17\x03" and (packet.size or 0) > 40


def farewell(packets: list[Packet]) -> str:
    """What the data is, where it is nothing but the last words of a protocol; "" where it is more, or cannot be "
    "told."""
    found = {_farewell(packet) for packet in packets}
    return found.pop() if len(found) == 1 else "the last words of a protocol" if found and "" not in found else ""


def _farewell(packet: Packet) -> str:
    data = packet.data
    size = packet.size or 0
    if data[:2] == b"\x15\x03" and (size <= 64 or size == 5 + int.from_bytes(data[3:5], "big")):
        return "a TLS alert"  # an encrypted one is longer: its MAC, and up to 255 bytes of padding (RFC 5246 section 6.2.3.2)
    # TLS 1.3 sends its alerts as application data: 2 bytes, the inner type and the tag make 19 (RFC 8446 section 5.2). TLS 1.2
    # with an explicit nonce makes an encrypted one longer.
    if data[:2] == b"\x17\x03" and size <= 24:
        return "a TLS alert"
    if _QUIT.match(data):
        return data.split(b"\r")[0].split(b"\n")[0].decode("ascii", "replace").strip()[:20]
    if data[:1] == b"X" and packet.size == 5 and data[1:5] == b"\x00\x00\x00\x04":
        return "PostgreSQL's Terminate"
    if data[:5] == b"\x01\x00\x00\x00\x01":
        return "MySQL's COM_QUIT"
    # With SASL its length stands ahead of it, and where it is signed alone it can be read in the token (RFC 4422, RFC 4121).
    wrapped = size <= len(data) and int.from_bytes(data[:4], "big") == size - 4 and _UNBIND.search(data)
    if wrapped or _UNBIND.fullmatch(data):
        return "LDAP's unbind"
    if (
        not data
        and 0 < size <= 24
        and packet.note.rstrip().endswith("Application Data")
        and packet.note.count("Data") == 1
    ):
        return "a TLS alert"
    if not data and _QUIT_ROW.search(packet.note):
        return "a TLS alert" if "Alert" in packet.note else "QUIT"
    return ""
