"""The wire witness: every TCP segment that an interface delivered, each once, with the kernel's own time of arrival. ICMP errors
about them, too.

A packet(7) socket on the loopback interface. It sees what the network stack is about to receive: a packet that OUTPUT
drops never gets here, one that INPUT drops does.
"""

from __future__ import annotations

import array
import errno
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Self

from faultkit.errors import Unable
from faultkit.evidence.transcript import Address, Packet

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h: not in Python's socket module.
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23
ETH_P_ALL = 0x0003
ETH_P_802_EX1 = 0x88B5  # "local experimental" (IEEE 802): the kernel receives it and throws it away
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS_NEW = 64  # 64-bit seconds on every architecture; the control message has the same number

# Bytes, which the kernel doubles; arbitrary: about 80 000 small packets, or 700 full ones of loopback.
_BUFFER = 16 << 20
_FRAME = 1 << 18  # room for one frame, which may have more than 64 KiB where "BIG TCP" is on (ip-link(8) gso_max_size)
_READY = 10.0  # seconds; arbitrary: 10 ms was the longest ever seen, but on an emulated machine more than half a second

# Classic BPF (linux/filter.h): opcode, jump if true, jump if false, operand. Offsets count from the Ethernet header.
# Neither IPv4 options nor IPv6 extension headers come with TCP and with ICMP errors on loopback.
_TCP_AND_ERRORS = (
    (0x28, 0, 0, 12),  # ldh the EtherType
    (0x15, 0, 6, 0x0800),  # IPv4? else six further
    (0x30, 0, 0, 23),  # ldb IPv4's protocol
    (0x15, 12, 0, socket.IPPROTO_TCP),
    (0x15, 0, 12, socket.IPPROTO_ICMP),
    (0x30, 0, 0, 34),  # ldb ICMP's type
    (0x15, 9, 0, 3),  # destination unreachable
    (0x15, 8, 9, 11),  # time exceeded
    (0x15, 0, 8, 0x86DD),  # IPv6?
    (0x30, 0, 0, 20),  # ldb IPv6's next header
    (0x15, 5, 0, socket.IPPROTO_TCP),
    (0x15, 0, 5, socket.IPPROTO_ICMPV6),
    (0x30, 0, 0, 54),  # ldb ICMPv6's type
    (0x15, 2, 0, 1),  # destination unreachable
    (0x15, 1, 0, 2),  # packet too big
    (0x15, 0, 1, 3),  # time exceeded
    (0x06, 0, 0, 0xFFFFFFFF),  # the whole packet
    (0x06, 0, 0, 0),  # nothing
)

# Wireshark's order, which is that of the bits. AE: RFC 9768 (Accurate ECN), once NS.
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")


class Refused(Unable):
    """No packet socket is to be had: why, in a few words."""


def packet_socket(protocol: int = 0) -> socket.socket:
    """One that captures nothing yet; with a protocol (in network byte order) all that every interface hears. Raises `Refused`."""
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    except PermissionError as error:
        raise Refused(
            "packet capture needs CAP_NET_RAW, and no seccomp filter that keeps packet sockets from who has it"
        ) from error
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        raise Refused(
            "packet capture is refused here: a kernel without CONFIG_PACKET, or a seccomp filter (systemd "
            "RestrictAddressFamilies=) without AF_PACKET"
        ) from error


class Capture:
    """Captures from the moment it is made until close().

    Raises `Refused` without CAP_NET_RAW in the network namespace, and where there are no packet sockets; else `OSError` as it
    comes from the system.
    """

    def __init__(self, interface: str = "lo", *, both_ways: bool = False) -> None:
        """`both_ways` for an interface that is no loopback: what it sends, too. Another capture must be running already."""
        # Protocol 0: nothing is captured before bind(), when everything is set.
        self._socket = packet_socket()
        self._frame = memoryview(bytearray(_FRAME))
        self._waiting = 0  # packets that the kernel has told us of, less those that were received
        try:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
            except PermissionError:  # needs CAP_NET_ADMIN of the machine; else net.core.rmem_max is the limit
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            if not both_ways:
                self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # or loopback shows each packet twice
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
            self._socket.bind((interface, ETH_P_ALL))
            if not both_ways:  # what a socket sends comes back to it over loopback only; the other has waited already
                self._await_stamps()
            self.attach(_TCP_AND_ERRORS)
            self.cut()  # what came in before the filter
        except BaseException:
            self._socket.close()
            raise

    def attach(self, instructions: Sequence[tuple[int, int, int, int]]) -> None:
        """Have this filter, of classic BPF, from now on."""
        program = array.array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in instructions))
        self._socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(instructions), program.buffer_info()[0])
        )

    def _await_stamps(self) -> None:
        """Wait until the kernel stamps packets when they arrive.

        The first socket of a machine to ask for times turns the stamping on in a workqueue (net_enable_timestamp in
        net/core/dev.c). Until that has run, up to 10 ms later, a packet has no time and recvmsg() gives it the time of
        the reading instead (Linux 6.18: 135 of 150 captures opened just before a connection had it wrong). So send
        frames that mean nothing to anybody until one of them comes with a time before the reading.
        """
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            self._socket.send(bytes(12) + ETH_P_802_EX1.to_bytes(2, "big"))
            select.select([self._socket], [], [], _READY)
            before = time.time_ns()
            if self._receive()[0] < before:
                return
        raise OSError(errno.ETIME, "the kernel gives packets no time of arrival")

    def _receive(self) -> tuple[int, bytes]:
        size, control, _, _ = self._socket.recvmsg_into([self._frame], socket.CMSG_SPACE(16))
        self._waiting -= 1
        seconds, nanoseconds = struct.unpack("qq", control[0][2])
        return seconds * 1_000_000_000 + nanoseconds, bytes(self._frame[:size])

    def cut(self) -> tuple[list[tuple[int, bytes]], int]:
        """Everything captured since the last cut as (time in ns, Ethernet frame), and how many packets were lost."""
        waiting, lost = self._count()
        return [self._receive() for _ in range(waiting)], lost

    def _count(self) -> tuple[int, int]:
        """How many packets wait, and how many were lost since the last time."""
        # The kernel counts and queues under one lock, and reading the counts resets them (packet(7)). So it is known how
        # many packets wait, and another's traffic cannot keep us here for ever.
        counted, lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._waiting += counted - lost
        return self._waiting, lost

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decode(time_ns: int, frame: bytes) -> Packet | None:
    """The TCP segment in an Ethernet frame; None for everything else, IP fragments and truncated frames included."""
    four = frame[12:14] == b"\x08\x00" and frame[23:24] == b"\x06"
    six = frame[12:14] == b"\x86\xdd" and frame[20:21] == b"\x06"
    if not (four or six):
        return None
    import dpkt  # here, because it costs 20 ms and `faultkit list` decodes nothing

    try:
        ip = dpkt.ip.IP(frame[14:]) if four else dpkt.ip6.IP6(frame[14:])
    except dpkt.Error:
        return None
    tcp = ip.data
    if not isinstance(tcp, dpkt.tcp.TCP):  # dpkt leaves what it cannot take apart as bytes
        return None
    size = ip.len if four else ip.plen and ip.plen + 40  # 0 in a "BIG TCP" frame: then all of it belongs to the packet
    whole = size <= len(frame) - 14 and len(tcp.opts) == tcp.off * 4 - 20
    if not whole or ip.v != (4 if four else 6) or (four and (ip.mf or ip.offset)):
        return None
    family = socket.AF_INET if four else socket.AF_INET6
    return Packet(
        time_ns=time_ns,
        source=Address(socket.inet_ntop(family, ip.src), tcp.sport),
        destination=Address(socket.inet_ntop(family, ip.dst), tcp.dport),
        flags=tuple(name for bit, name in enumerate(_FLAGS) if tcp.flags & 1 << bit),
        seq=tcp.seq,
        ack=tcp.ack,
        window=tcp.win,
        payload=len(tcp.data),
        options=_options(tcp.opts) if tcp.opts else (),
        ttl=ip.ttl if four else ip.hlim,
        ip_id=ip.id if four else 0,
        frame=frame,
    )


def quoted(frame: bytes) -> tuple[Address, Address] | None:
    """The source and the destination of the TCP segment that an ICMP error in an Ethernet frame is about; None for everything
    else."""
    four = frame[12:14] == b"\x08\x00" and frame[23:24] == b"\x01" and frame[51:52] == b"\x06"
    six = frame[12:14] == b"\x86\xdd" and frame[20:21] == b"\x3a" and frame[68:69] == b"\x06"
    if not (four or six):
        return None
    size, hosts = (4, 54) if four else (16, 70)
    ports = 42 + (frame[42] & 0x0F) * 4 if four else hosts + 32
    if len(frame) < ports + 4:
        return None
    family = socket.AF_INET if four else socket.AF_INET6
    ends = (frame[hosts : hosts + size], frame[hosts + size : hosts + 2 * size])
    sport, dport = struct.unpack_from("!HH", frame, ports)
    return Address(socket.inet_ntop(family, ends[0]), sport), Address(socket.inet_ntop(family, ends[1]), dport)


def _options(data: bytes) -> tuple[tuple[str, int | tuple[int, ...] | None], ...]:
    """TCP options by Wireshark's names. One whose length is wrong for its kind is as unknown as an unknown kind."""
    found: list[tuple[str, int | tuple[int, ...] | None]] = []
    import dpkt

    for option in dpkt.tcp.parse_opts(data):
        if option is None or option[0] == 0:  # cut off, or end of option list; dpkt reads on behind that
            break
        kind, body = option
        size = len(body)
        if kind == 2 and size == 2:
            found.append(("MSS", int.from_bytes(body, "big")))
        elif kind == 3 and size == 1:
            found.append(("WS", body[0]))
        elif kind == 4 and size == 0:
            found.append(("SACK_PERM", None))
        elif kind == 5 and size and size % 8 == 0:
            found.append(("SACK", struct.unpack(f">{size // 4}I", body)))
        elif kind == 8 and size == 8:
            found.append(("TS", struct.unpack(">II", body)))
        elif kind == 34:  # RFC 7413: the cookie, or the request for one
            found.append(("TFO", size))
        elif kind != 1:
            found.append((f"opt{kind}", None))
    return tuple(found)
