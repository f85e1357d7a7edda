"""The kernel witness: its TCP counters for the namespace, and its reset reasons where tracefs may be read."""

from __future__ import annotations

import os
import platform
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from faultkit.evidence.transcript import Address, Listed, Reset
from faultkit.sockets import STATES
from faultkit.stage.tracing import Instance

SOURCES = (Path("/proc/thread-self/net/netstat"), Path("/proc/thread-self/net/snmp"))
_PROTOCOLS = ("TcpExt", "Tcp", "MPTcpExt", "Icmp")
_SOURCE6 = Path("/proc/thread-self/net/snmp6")  # one counter to a line; not there without IPv6


def release() -> str:
    """Which kernel this is, "6.12": what Debian and others add to it is left out."""
    return ".".join(platform.release().split(".")[:2])


def counters() -> dict[str, int]:
    """Every TCP and ICMP counter of the network namespace that this thread is in.

    By nstat's name (nstat(8)): "TcpExtTCPAbortOnData", "TcpOutRsts", "Icmp6InDestUnreachs".
    """
    found = parsed(*(source.read_text() for source in SOURCES))
    if _SOURCE6.exists():
        lines = _SOURCE6.read_text().splitlines()
        found.update((name, int(number)) for name, number in map(str.split, lines) if name.startswith("Icmp6"))
    return found


def parsed(*texts: str) -> dict[str, int]:
    """The counters in the text of such files: a line of names, then a line of numbers."""
    found: dict[str, int] = {}
    for text in texts:
        lines = text.splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            protocol, _, rest = names.partition(": ")
            if protocol in _PROTOCOLS:
                numbers = values.partition(": ")[2].split()
                found.update((protocol + name, int(number)) for name, number in zip(rest.split(), numbers, strict=True))
    return found


# TcpCurrEstab is a gauge and the Rto* ones are constants; neither counts events.
_NOT_EVENTS = {"TcpRtoAlgorithm", "TcpRtoMin", "TcpRtoMax", "TcpMaxConn", "TcpCurrEstab"}


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The counters that moved, and by how much."""
    return {
        name: n - before.get(name, 0)
        for name, n in after.items()
        if n != before.get(name, 0) and name not in _NOT_EVENTS
    }


_PATIENCE = 1.0  # seconds; arbitrary: the kernel answers within the call

# Seconds between two looks at the list of sockets: one goes through the kernel's whole hash table, 3 ms with 24 GiB of memory.
LOOK_AGAIN = 0.01


def tcp_listed(local: Address, remote: Address) -> Listed:
    """That end of a connection in /proc/net/tcp.

    It knows more than TCP_INFO: the connection of a socket that its program has closed is still listed.
    """
    wanted = [_as_listed(local), _as_listed(remote)]
    for _ in range(2):
        for fields in _sockets(local):
            if fields[1:3] == wanted:
                # Column "tr" names the running timer, 03 for a bucket's own; an orphan has lost its inode.
                state = STATES.get(int(fields[3], 16), "")
                bucket, orphan = fields[5].startswith("03:"), fields[9] == "0"
                return Listed(time.time_ns(), local, remote, state, bucket, orphan)
    return Listed(time.time_ns(), local, remote, "", bucket=False, orphan=False)


async def when_listed(
    local: Address,
    remote: Address,
    wanted: Callable[[Listed], bool],
    look: Callable[[Address, Address], Listed] = tcp_listed,
) -> Listed:
    """Wait until that end of a connection is listed like that: the kernel has no event for what no program holds."""
    import trio  # as late as its other users

    while not wanted(found := look(local, remote)):  # noqa: ASYNC110
        await trio.sleep(LOOK_AGAIN)
    return found


def tcp_state(local: Address, remote: Address) -> str:
    """The state of that end of a connection by its name in RFC 9293, "" where the kernel knows none."""
    return tcp_listed(local, remote).state


def listening(address: Address) -> bool:
    """Does a socket of this namespace listen there? On that very address, or on all of them (0.0.0.0, ::)."""
    anywhere = Address("::" if ":" in address.host else "0.0.0.0", address.port)
    places = [_as_listed(address), _as_listed(anywhere)]
    return any(fields[1] in places and STATES.get(int(fields[3], 16)) == "LISTEN" for fields in _sockets(address))


def _sockets(like: Address) -> Iterator[list[str]]:
    """The columns of every TCP socket of the namespace that has an address of that family."""
    table = Path("/proc/self/net/tcp6" if ":" in like.host else "/proc/self/net/tcp")
    yield from map(str.split, table.read_text().splitlines()[1:])


def _as_listed(address: Address) -> str:
    """As /proc/net/tcp prints it: the words of the address in the machine's own byte order, in hexadecimal."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    packed = socket.inet_pton(family, address.host)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address.port:04X}"


# linux/netlink.h, sock_diag.h, inet_diag.h
_SOCK_DIAG, _BY_FAMILY, _DUMP, _DONE, _ERROR = 4, 20, 0x301, 3, 2
_LISTEN = 1 << 10
_MESSAGE, _ASKED = struct.Struct("=IHHII"), struct.Struct("=BBBBI48x")


class Listeners:
    """Asks the kernel who listens in the namespace in which this was made (sock_diag(7)); it looks through nothing else."""

    def __init__(self) -> None:
        """Raises `OSError` where the kernel or a sandbox has no such socket."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG)
        self._socket.settimeout(_PATIENCE)

    def ask(self) -> list[bytes]:
        """The answers as they come, for `listeners`. Raises `OSError` where there is none."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, _LISTEN)
            self._socket.send(_MESSAGE.pack(_MESSAGE.size + len(asked), _BY_FAMILY, _DUMP, 0, 0) + asked)
            while True:
                part = self._socket.recv(1 << 16)
                found.append(part)
                if any(kind in (_DONE, _ERROR) for kind, _ in _messages(part)):
                    break
        return found

    def close(self) -> None:
        self._socket.close()


def listeners(answers: Iterable[bytes]) -> frozenset[Address] | None:
    """The addresses in what `Listeners.ask` gave; None where the kernel refused to say."""
    found = set()
    for kind, body in (message for part in answers for message in _messages(part)):
        if kind == _ERROR:
            return None
        if kind == _BY_FAMILY:
            size = 16 if body[0] == socket.AF_INET6 else 4
            host = socket.inet_ntop(body[0], body[8 : 8 + size])
            found.add(Address(host, int.from_bytes(body[4:6], "big")))
    return frozenset(found)


def _messages(part: bytes) -> Iterator[tuple[int, bytes]]:
    while len(part) >= _MESSAGE.size:
        size, kind, *_ = _MESSAGE.unpack_from(part)
        yield kind, part[_MESSAGE.size : size]
        part = part[(size + 3) & ~3 :]


# What trace_pipe prints (print fmt of include/trace/events/tcp.h):
#   python-123 [001] ..s2. 12.345678: tcp_send_reset: skbaddr=.. skaddr=.. src=1.2.3.4:5 dest=.. state=TCP_X reason=TCP_Y
_SENT = re.compile(
    r" (?P<at>\d+\.\d+): tcp_send_reset: .*src=(?P<src>\S+) dest=(?P<dst>\S+) state=(?P<state>\S+) reason=(?P<reason>\S+)"
)
_RECEIVED = re.compile(
    r" (?P<at>\d+\.\d+): tcp_receive_reset: family=(?P<family>\S+) sport=(?P<sport>\d+) dport=(?P<dport>\d+) "
    r"saddr=(?P<saddr>\S+) daddr=(?P<daddr>\S+) saddrv6=(?P<saddrv6>\S+) daddrv6=(?P<daddrv6>\S+)"
)


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


def _reset(line: str, offset_ns: int) -> Reset | None:
    """`offset_ns` turns the trace's CLOCK_MONOTONIC into CLOCK_REALTIME."""
    if sent := _SENT.search(line):
        state = "" if sent["state"] == "UNKNOWN" else sent["state"].removeprefix("TCP_").replace("_", "-")
        return Reset(
            _ns(sent["at"]) + offset_ns, "sent", _address(sent["src"]), _address(sent["dst"]), state, sent["reason"]
        )
    if received := _RECEIVED.search(line):
        family = "v6" if received["family"] == "AF_INET6" else ""
        # The event's source is the socket that received it.
        ours = Address(received["saddr" + family], int(received["sport"]))
        theirs = Address(received["daddr" + family], int(received["dport"]))
        return Reset(_ns(received["at"]) + offset_ns, "received", theirs, ours, "", "")
    return None


def _ns(seconds: str) -> int:
    whole, _, fraction = seconds.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0"))


class Reasons:
    """Reads the reset events of a trace instance. The events are the whole machine's, so the reader picks its own."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._lost = 0

    def _lines(self) -> Iterator[str]:
        text = bytearray()
        while True:
            try:
                part = os.read(self._instance.events, 65536)
            except BlockingIOError:
                break
            text += part
            if not part:
                break
        yield from text.decode(errors="replace").splitlines()

    def cut(self) -> tuple[list[Reset], int]:
        """Every reset on this machine since the last cut, in order, and how many events were lost meanwhile."""
        offset = time.time_ns() - time.monotonic_ns()
        resets = [reset for line in self._lines() if (reset := _reset(line, offset))]
        before, self._lost = self._lost, self._instance.lost()
        return sorted(resets, key=lambda reset: reset.time_ns), self._lost - before
