"""A capture file that Wireshark, tshark and tcpdump read."""

from __future__ import annotations

import errno
import importlib
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from faultkit.evidence.transcript import Frame, Packet

_SNAPLEN = 1 << 18  # tcpdump's default (MAXIMUM_SNAPLEN); no frame here is longer

Target = str | os.PathLike[str]


def write(path: Target, packets: Sequence[Packet | Frame]) -> None:
    """Write a pcap file with times in nanoseconds and link type Ethernet (draft-ietf-opsawg-pcap).

    A file appears, or is replaced, as a whole or not at all; a device or a FIFO is written as it is. Raises `OSError`.
    """
    if _is_special(path):
        with open(path, "wb") as stream:
            _write(stream, packets)
        return
    target, beside = _places(path)
    new = _open_new(beside)
    try:
        with new:
            _write(new, packets)
        if target.exists():
            beside.chmod(stat.S_IMODE(target.stat().st_mode))
        beside.replace(target)
    except BaseException:
        beside.unlink()
        raise


def check_writable(path: Target) -> None:
    """Raise the `OSError` that write() would meet, before the run. Leaves nothing behind and truncates nothing."""
    if not _is_special(path):
        target, beside = _places(path)
        if target.exists():  # write() would replace a write-protected file, if the directory lets it: not meant
            os.close(os.open(target, os.O_WRONLY))
        _open_new(beside).close()
        beside.unlink()
    elif not stat.S_ISFIFO(os.stat(path).st_mode):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    elif not os.access(path, os.W_OK):  # opening a FIFO would wait for its reader, and tell it of an end
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


def _is_special(path: Target) -> bool:
    """Is there something that is no regular file? A directory too: opening it says what is wrong."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _places(path: Target) -> tuple[Path, Path]:
    """The file itself, behind any symbolic links, and the one beside it that will be renamed."""
    target = Path(os.path.realpath(path))
    return target, target.with_name(f".{target.name}.{os.getpid()}")


def _open_new(path: Path) -> IO[bytes]:
    return open(path, "xb")  # not tempfile: its files are private, and this one's mode is the user's umask


def _write(stream: IO[bytes], packets: Sequence[Packet | Frame]) -> None:
    pcap: Any = importlib.import_module("dpkt.pcap")  # here, because it costs 20 ms and most runs write no file
    pcap.Writer(stream, snaplen=_SNAPLEN, linktype=pcap.DLT_EN10MB, nano=True)  # writes the file's header
    header = pcap.LEPktHdr if sys.byteorder == "little" else pcap.PktHdr
    for packet in packets:
        seconds, nanoseconds = divmod(packet.time_ns, 1_000_000_000)
        kept = len(packet.frame)
        size = packet.size if isinstance(packet, Frame) else kept
        stream.write(bytes(header(tv_sec=seconds, tv_usec=nanoseconds, caplen=kept, len=size)) + packet.frame)
