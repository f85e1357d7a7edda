"""Capture files: pcap and pcapng, with gzip or zstd around them, from files and pipes.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. What could be read is given, and `Frames.ended` says where and why
it ended early.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, Protocol, cast

from faultkit.errors import Misuse
from faultkit.explaining.layers import DATA, TAIL

KEEP = 1536  # bytes of a frame that are looked at: all headers, however deep in tunnels, and what a response says of itself
_PLAIN = (
    94 + DATA
)  # of one whose headers are known: Ethernet, IPv4 and TCP with all options, and the beginning of the data
_H = b"H"[0]  # as a response of HTTP begins
_CHUNK = 1 << 20
_EMPTY = 64  # packets of no bytes in a row, of which there are none on any wire: zeros are read; arbitrary
TICK = -1  # the link type of a frame that is none: time has passed
_LARGEST = 1 << 18  # bytes of one packet (tcpdump's MAXIMUM_SNAPLEN, Wireshark's WTAP_MAX_PACKET_SIZE_STANDARD)
_LARGEST_BLOCK = 1 << 24  # of one pcapng block; Wireshark's limit

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PCAPNG = b"\x0a\x0d\x0d\x0a"
# Magic number -> byte order, nanoseconds per unit of the fraction, bytes of a record's header.
PCAP = {
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    b"\xa1\xb2\xcd\x34": (">", 1000, 24),  # with an interface and a protocol beside each packet (Kuznetzov's libpcap)
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24),
}

# What else begins so, what it is, and the tool that makes a capture of it.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"snoop\x00\x00\x00", "a capture of Solaris' snoop", "editcap -F pcapng"),
    (b"GMBU", "a capture of Microsoft Network Monitor", "editcap -F pcapng"),
    (b"RTSS", "a capture of Microsoft Network Monitor 1", "editcap -F pcapng"),
    (b"XCP\x00", "a capture of NetXRay or Windows Sniffer", "editcap -F pcapng"),
    (b"TRSNIFF data", "a capture of the Sniffer", "editcap -F pcapng"),
    (b"\x00\x00\x00\x01\x00\x00\x00\x00", "a btsnoop or another binary file", "editcap -F pcapng"),
    (b"btsnoop\x00", "a Bluetooth capture", ""),
    (b"PK\x03\x04", "a zip archive", "unzip"),
    (b"\xfd7zXZ\x00", "compressed with xz", "xz -dc"),
    (b"BZh", "compressed with bzip2", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "lz4 -dc"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x"),
    (b"\x89PNG", "a PNG picture", ""),
    (b"\xff\xd8\xff", "a JPEG picture", ""),
    (b"GIF8", "a GIF picture", ""),
    (b"%PDF", "a PDF document", ""),
    (b"\x7fELF", "a program", ""),
    (b"SQLite format 3", "a SQLite database", ""),
)


# One captured frame: its number from 1, its time in ns (None where the file tells none), its link type (LINKTYPE_..., as
# www.tcpdump.org/linktypes.html lists them), its first bytes, and how many were captured and were on the wire. No class:
# there is one for each packet of gigabytes.
Frame = tuple[int, int | None, int, bytes, int, int]


class Source:
    """Bytes from a stream, plain or compressed, whose beginning can be looked at. `at` counts what was handed out."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._head = b""
        self._stream: IO[bytes] = stream
        self.packed = ""
        self.at = 0
        self.broken = ""
        beginning = self.peek(4)
        if beginning.startswith(GZIP):
            import gzip

            self.packed = "gzip"
            self._stream, self._head = cast(IO[bytes], gzip.GzipFile(fileobj=_Rejoined(self._head, stream))), b""
        elif beginning == ZSTD:
            import zstandard

            reader = zstandard.ZstdDecompressor().stream_reader(
                cast(IO[bytes], _Rejoined(self._head, stream)), read_across_frames=True
            )
            self.packed, self._stream, self._head = "zstd", reader, b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, or what there is, still to be read."""
        while len(self._head) < size and (more := self._more()):
            self._head += more
        return self._head[:size]

    def some(self) -> bytes:
        """The bytes that are there, at least one; none at the end."""
        found = self._head or self._more()
        self._head = b""
        self.at += len(found)
        return found

    def _more(self) -> bytes:
        read: object = getattr(self._stream, "read1", self._stream.read)
        try:
            found = read(_CHUNK)  # type: ignore[operator]
        except (EOFError, zlib.error, _zstd_error()) as error:
            self.broken = f"its {self.packed} is damaged ({_first_line(error)})"
            return b""
        except OSError as error:
            if error.errno is not None:  # the file's own; gzip's BadGzipFile has none
                raise
            self.broken = f"its {self.packed} is damaged ({_first_line(error)})"
            return b""
        assert isinstance(found, bytes)
        return found


def _zstd_error() -> type[Exception]:
    import sys

    module = sys.modules.get("zstandard")
    error: type[Exception] = module.ZstdError if module else zlib.error
    return error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:100]


class _Rejoined(io.RawIOBase):
    """What was looked at, and then the rest of the stream."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            found = self._head if size < 0 else self._head[:size]
            self._head = self._head[len(found) :]
            return found
        read = getattr(self._rest, "read1", self._rest.read)
        found = read(_CHUNK if size < 0 else size)
        assert isinstance(found, bytes)
        return found

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)


def is_capture(source: Source) -> bool:
    """Does a capture begin here? Text may be rows of one; anything else raises `Misuse` with what it is."""
    beginning = source.peek(16)
    if beginning[:4] in PCAP or beginning.startswith(PCAPNG):
        return True
    if source.packed and not beginning:
        raise Misuse(
            f"explain: nothing can be read of what is in its {source.packed}: it is cut or damaged, copy it again"
        )
    if found := other(beginning):
        what, tool = found
        cure = f"make a capture of it first: {tool}" if tool else "give a pcap or pcapng file, or rows of text"
        raise Misuse(f"explain: this is {what}, no capture: {cure}")
    return False


def other(beginning: bytes) -> tuple[str, str] | None:
    """What begins so and is neither text nor a capture that is read here, and the tool that makes one of it, if there is one."""
    return next(((what, tool) for magic, what, tool in _OTHERS if beginning.startswith(magic)), None)


class Taking(Protocol):
    """Where plain segments are put: number, time in ns, and the frame's first bytes."""

    packets: list[tuple[int, int | None, Any]]


# A record's header, and in the frame behind it, of Ethernet with IPv4 and TCP: EtherType, version and header length; total
# length (in whatever byte order, and so nothing but 0 or not); flags and fragment offset; protocol; both ends; TCP's header
# length; flags.
_HEADERS = "IIII12x3sxH2x2sxB2x12s8xBB"
_WHOLE = frozenset({b"\0\0", b"@\0"})  # no fragment, with DF or without
_LENGTHS = frozenset(range(0x50, 0x100, 16))  # of a TCP header, and no flag beside it


class Frames:
    """The frames of a capture in their order. After the last one `ended` says what was wrong with the file; "" "
    "if nothing."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.ended = ""
        self.unstamped = 0
        self.links: set[int] = set()
        # Of connections that are known, plain segments are put where they belong, and are no frames of their own: they are
        # nearly all of a capture, and a frame's way through here takes longer than all that is to be done with it.
        self.known: Mapping[bytes, Taking] = {}
        self.most = 0  # packets of one connection, from which on its frames are given as all others are
        self.look = 1 << 62  # plain segments between two ticks
        self.taken = self.number = 0

    def __iter__(self) -> Iterator[Frame]:
        beginning = self._source.peek(4)
        return self._pcapng() if beginning == PCAPNG else self._pcap(*PCAP[beginning])

    def _stop(self, at: int, why: str) -> None:
        self.ended = f"the capture ends at byte {at}: {self._source.broken or why}"

    def _pcap(self, order: str, unit: int, header: int) -> Iterator[Frame]:
        source, buffer, offset, base, number = self._source, b"", 24, 0, 0
        while len(buffer) < 24 and (more := source.some()):
            buffer += more
        if len(buffer) < 24:
            self._stop(len(buffer), "its header is cut")
            return
        snaplen, link = struct.unpack_from(order + "II", buffer, 16)
        link &= 0x0FFFFFFF  # the bits above tell of a frame check sequence
        self.links.add(link)
        largest = max(_LARGEST, min(snaplen, _LARGEST_BLOCK))
        record = struct.Struct(order + "IIII").unpack_from
        quick = struct.Struct(order + _HEADERS).unpack_from
        plain = link == 1 and header == 16
        size, known, most, taken, look, empty = len(buffer), self.known, self.most, 0, self.look, 0
        brief = _PLAIN
        while True:
            start = offset + header
            if plain and start + 48 <= size:
                seconds, fraction, captured, length, head, total, fragment, protocol, ends, tcp, flags = quick(
                    buffer, offset
                )
                if (
                    flags & 0x17 == 0x10  # ACK, and no SYN, FIN or RST
                    and 54 <= captured <= largest
                    and (end := start + captured) <= size
                    and protocol == 6
                    and head == b"\x08\0E"
                    and tcp in _LENGTHS
                    and fragment in _WHOLE
                    and total
                    and (flow := known.get(ends)) is not None
                    and len(packets := flow.packets) < most
                ):
                    number += 1
                    time_ns = seconds * 1_000_000_000 + fraction * unit
                    if captured <= brief:
                        kept = buffer[start:end]
                    elif flags & 8 and captured == length and buffer[start + 34 + (tcp >> 2)] != _H:
                        kept = buffer[start : start + brief] + buffer[end - TAIL : end]
                    elif buffer[start + 34 + (tcp >> 2)] == _H:
                        kept = buffer[start : end if captured <= KEEP else start + KEEP]
                    else:
                        kept = buffer[start : start + brief]
                    packets.append((number, time_ns, kept))
                    offset = end
                    taken += 1
                    if taken % look == 0:
                        self.taken, self.number = taken, number
                        yield number, time_ns, TICK, b"", 0, 0
                        most = self.most
                    continue
            if start <= size:
                seconds, fraction, captured, length = record(buffer, offset)
                if captured > largest:
                    self.taken, self.number = taken, number
                    self._stop(base + offset, f"a packet of {captured} bytes is said to follow")
                    return
                end = start + captured
                if end <= size:
                    empty = 0 if captured or length else empty + 1
                    if empty > _EMPTY:
                        self.taken, self.number = taken, number
                        self._stop(base + offset, "packets of 0 bytes are said to follow, one after the other")
                        return
                    number += 1
                    yield (
                        number,
                        seconds * 1_000_000_000 + fraction * unit,
                        link,
                        buffer[start : end if captured <= KEEP else start + KEEP],
                        captured,
                        length,
                    )
                    most = self.most
                    offset = end
                    continue
            more = source.some()
            if not more:
                self.taken, self.number = taken, number
                if offset < size or source.broken:
                    self._stop(base + offset, "its last packet is cut")
                return
            base += offset
            buffer, offset = buffer[offset:] + more, 0
            size = len(buffer)

    def _pcapng(self) -> Iterator[Frame]:
        source, buffer, offset, base, number = self._source, b"", 0, 0, 0
        order = "<"
        interfaces: list[tuple[int, int, int, int, int]] = []  # link, snaplen, numerator, denominator, offset in ns
        while True:
            while len(buffer) - offset < 12 and (more := source.some()):
                base += offset
                buffer, offset = buffer[offset:] + more, 0
            left = len(buffer) - offset
            if left < 12:
                if left or source.broken:
                    self._stop(base + offset, "its last block is cut")
                return
            if buffer[offset : offset + 4] == PCAPNG:
                mark = buffer[offset + 8 : offset + 12]
                if mark not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                    self._stop(base + offset, "a section without a byte order begins")
                    return
                order, interfaces = (">" if mark[0] == 0x1A else "<"), []
            kind, total = struct.unpack_from(order + "II", buffer, offset)
            if total < 12 or total % 4 or total > _LARGEST_BLOCK:
                self._stop(base + offset, f"a block of {total} bytes is said to follow")
                return
            while len(buffer) - offset < total and (more := source.some()):
                base += offset
                buffer, offset = buffer[offset:] + more, 0
            if len(buffer) - offset < total:
                self._stop(base + offset, "its last block is cut")
                return
            if struct.unpack_from(order + "I", buffer, offset + total - 4)[0] != total:
                self._stop(base + offset, "a block's two lengths differ")
                return
            start, end = offset + 8, offset + total - 4
            offset += total
            if kind == 1 and end - start >= 8:
                interfaces.append(_interface(order, buffer[start:end]))
                self.links.add(interfaces[-1][0])
                continue
            if kind == 6 and end - start >= 20:
                which, high, low, captured, length = struct.unpack_from(order + "IIIII", buffer, start)
                data = start + 20
            elif kind == 2 and end - start >= 20:
                which, _, high, low, captured, length = struct.unpack_from(order + "HHIIII", buffer, start)
                data = start + 20
            elif kind == 3 and end - start >= 4:
                (length,) = struct.unpack_from(order + "I", buffer, start)
                which, high, low, data = 0, -1, 0, start + 4
                snaplen = interfaces[0][1] if interfaces else 0
                captured = min(length, snaplen or length, end - data)
            else:
                continue  # names, statistics, secrets, somebody's own
            if which >= len(interfaces) or captured > end - data:
                self._stop(
                    base + offset - total, "a packet that its block cannot hold, or of an interface that is not there"
                )
                return
            link, _, numerator, denominator, shift = interfaces[which]
            number += 1
            time_ns = None if high < 0 else ((high << 32) + low) * numerator // denominator + shift
            self.unstamped += time_ns is None
            yield number, time_ns, link, buffer[data : data + min(captured, KEEP)], captured, length


def _interface(order: str, body: bytes) -> tuple[int, int, int, int, int]:
    """Link type, snap length, and how a time in its units becomes nanoseconds: numerator, denominator, offset."""
    link, _, snaplen = struct.unpack_from(order + "HHI", body)
    numerator, denominator, shift, at = 1000, 1, 0, 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + size]
        if code == 0:
            break
        if code == 9 and len(value) == 1:  # if_tsresol
            units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            numerator, denominator = 1_000_000_000, units
        elif code == 14 and len(value) == 8:  # if_tsoffset
            shift = struct.unpack(order + "q", value)[0] * 1_000_000_000
        at += 4 + (size + 3) // 4 * 4
    return link, snaplen, numerator, denominator, shift
