"""The verbs: what can be done to one real TCP socket so that its connection dies in a known way.

Each works on any TCP `socket.socket`, on a trio socket, and on the recorded sockets of a run; none of them waits, and only
those that use TCP_REPAIR need a privilege. An `OSError` of the kernel comes out as it is; `Misuse` is raised for a socket to
which the verb would do nothing, such as UDP's. On a Unix stream `close_unread` and `half_close` do what they do on TCP's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Protocol

from faultkit.errors import Misuse

# Option numbers that Python's socket module does not name, from include/uapi/linux/in.h, in6.h and tcp.h.
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73
IP_RECVERR = 11
IPV6_RECVERR = 25
TCP_USER_TIMEOUT = 18
TCP_REPAIR = 19
SO_MAX_PACING_RATE = 47  # asm-generic/socket.h
SO_MEMINFO = 55
SO_BUF_LOCK = 72
SOCK_RCVBUF_LOCK = 2  # include/uapi/linux/socket.h
TCP_REPAIR_QUEUE = 20
TCP_QUEUE_SEQ = 21
TCP_TIMESTAMP = 24
TCP_SEND_QUEUE = 2  # for TCP_REPAIR_QUEUE
TCP_REPAIR_OFF_NO_WP = -1  # out of repair without a window probe

DEAF = 255  # no packet that reaches us over loopback carries it (TTL 64), and no router can raise a TTL


class Socket(Protocol):
    """As much of `socket.socket` as the verbs use."""

    @property
    def family(self) -> int: ...

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None: ...
    def getsockopt(self, level: int, name: int, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Shutdown(Protocol):
    """Anything that can be half closed."""

    def shutdown(self, how: int, /) -> object: ...


class Descriptor(Protocol):
    """Anything with a file descriptor, for what Python's sockets do not have."""

    def fileno(self) -> int: ...


class Closable(Descriptor, Protocol):
    """Anything with a file descriptor that can be closed."""

    def close(self) -> None: ...


def _check(verb: str, sock: object, *, or_unix: bool = False) -> None:
    """Raise `Misuse` where the verb would do nothing, and say nothing of that. What does not tell its kind is one of ours."""
    family, kind = getattr(sock, "family", socket.AF_INET), getattr(sock, "type", socket.SOCK_STREAM)
    if kind != socket.SOCK_STREAM:
        raise Misuse(
            f"{verb}: this socket has no connection to break ({socket.SocketKind(kind).name}): take a TCP socket"
        )
    if family not in (socket.AF_INET, socket.AF_INET6) and not or_unix:
        raise Misuse(f"{verb}: this socket is none of TCP's ({socket.AddressFamily(family).name}): take a TCP socket")


def _minimum_ttl(sock: Socket, ttl: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, ttl)


def abort(sock: Socket) -> None:
    """Close with SO_LINGER {on, 0}: unsent data is thrown away and the peer gets a RST (socket(7), tcp_close()).

    With received bytes still unread this is the *unread* cause in disguise: read them first.
    """
    _check("abort", sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def vanish(sock: Socket) -> None:
    """Close without a word, as a host does that loses power: no FIN, no RST, and the kernel forgets the connection.

    TCP_REPAIR is there to move a connection to another host (include/uapi/linux/tcp.h; tcp_close()), and needs
    CAP_NET_ADMIN in the network namespace: PermissionError without.
    """
    _check("vanish", sock)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.close()


def close_unread(sock: Closable) -> None:
    """Close with received bytes unread: RST instead of FIN (RFC 1122 section 4.2.2.13, tcp_close()).

    Raises `Misuse` where nothing is unread, because that close would send FIN.
    """
    _check("close_unread", sock, or_unix=True)
    if not unread(sock):
        raise Misuse(
            "close_unread: nothing has arrived that is unread, so close() would send FIN: wait until it is readable"
        )
    sock.close()


def unread(sock: Descriptor) -> int:
    """How many received bytes the program has not read yet (SIOCINQ, tcp(7))."""
    if sock.fileno() < 0:  # of which fcntl makes a ValueError
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    count: int = struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
    return count


def half_close(sock: Shutdown) -> None:
    """shutdown(SHUT_WR): FIN after what is queued, and the other direction stays open (RFC 9293 section 3.6)."""
    _check("half_close", sock, or_unix=True)
    sock.shutdown(socket.SHUT_WR)


def stop_reading(sock: Socket) -> None:
    """Make the receive buffer as small as it gets (SO_RCVBUF, socket(7)). Who then does not read shows a zero window soon.

    What was advertised before stays allowed: a window is never taken back (RFC 9293 section 3.8.6.2.2).
    """
    _check("stop_reading", sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


def resume_reading(sock: Socket) -> None:
    """Undo `stop_reading`: let the kernel choose the size of the receive buffer again (SO_BUF_LOCK, since Linux 5.14).

    Left at that it may stay at 2 KiB, with a window probe for every segment (15 KB/s, seen on Linux 6.18); a low-water
    mark makes it grow, and the window with it (SO_RCVLOWAT; tcp_set_rcvlowat()). Before 5.14 it gets the size of a new
    socket, and stays there; the window gets there by TCP_WINDOW_CLAMP.
    """
    _check("resume_reading", sock)
    try:
        (locks,) = struct.unpack("=i", sock.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK, 4))
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        with socket.socket(sock.family, socket.SOCK_STREAM) as new:
            size = new.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)  # twice what is asked for: socket(7)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size // 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, size // 2)
        return
    sock.setsockopt(socket.SOL_SOCKET, SO_BUF_LOCK, locks & ~SOCK_RCVBUF_LOCK)
    mark = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 4)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)


def hold_back(sock: Socket) -> None:
    """Let the kernel pace this socket at a byte per second (SO_MAX_PACING_RATE, socket(7)): after the next segment with
    data nothing leaves for as many seconds as it had bytes, not even the FIN of a close(). A RST does.

    tcp_update_skb_after_send() does not pace the first ten segments with data. Undone by nothing: the socket is to close.
    """
    sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=Q", 1))


def disconnect(sock: Descriptor) -> None:
    """connect(2) to AF_UNSPEC: the connection is aborted and the socket, still open, may connect anew (tcp_disconnect())."""
    _check("disconnect", sock)
    dissolve(sock)


def dissolve(sock: Descriptor) -> None:
    """The same for any socket: UDP's forgets its peer, and hears everybody again (udp(7))."""
    # Python's connect() takes an address of the socket's own family only. A struct sockaddr: sa_family and 14 bytes.
    libc = ctypes.CDLL(None, use_errno=True)
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    if libc.connect(sock.fileno(), nowhere, len(nowhere)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def first_seq(sock: Socket, number: int) -> None:
    """Choose the initial sequence number of a socket that is not connected yet (tcp_v4_connect() makes one where none is).

    Needs CAP_NET_ADMIN in the network namespace: PermissionError without.
    """
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("=I", number & 0xFFFFFFFF))
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)


def clock_ahead(sock: Socket, *, seconds: float) -> None:
    """Let a connected socket's timestamps (RFC 7323) run that far ahead of what its host would send. Needs CAP_NET_ADMIN."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    now = struct.unpack("=I", sock.getsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP, 4))[0]
    ahead = struct.pack("=I", (now + round(seconds * 1000)) & 0xFFFFFFFF)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP, ahead)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)


def black_hole(sock: Socket) -> None:
    """Make the socket deaf: the kernel drops, silently, every segment that arrives for it (RFC 5082, tcp_v4_rcv()).

    What it sends still goes out. On a listening socket SYNs go unanswered, and accepted sockets inherit the deafness.
    """
    _check("black_hole", sock)
    _minimum_ttl(sock, DEAF)


def dropped(sock: Socket) -> int:
    """How many segments the kernel has dropped for this socket: those that it was deaf to, for one (SO_MEMINFO)."""
    drops: int = struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[8]  # SK_MEMINFO_DROPS
    return drops


def heal(sock: Socket) -> None:
    """Undo `black_hole` and `hear_only_stack`."""
    _check("heal", sock)
    _minimum_ttl(sock, 0)


def hear_only_stack(sock: Socket) -> None:
    """Make the socket deaf to a peer that `whispers`, but not to what the peer's *stack* answers without a socket.

    A RST that the kernel sends for a connection whose program is gone carries the default TTL: tcp_v4_send_reset() uses
    a socket of its own. So a FIN can be held back while the RST that follows it passes, and no clock is involved.
    """
    _minimum_ttl(sock, 2)


def whisper(sock: Socket) -> None:
    """Send with TTL 1 from now on: enough for loopback and the local network (RFC 791), too little for `hear_only_stack`."""
    _send_with_ttl(sock, 1)


def speak_up(sock: Socket) -> None:
    """Undo `whisper`."""
    _send_with_ttl(sock, -1)  # the default: ip(7), ipv6(7)


def _send_with_ttl(sock: Socket, ttl: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)


def keepalive(
    sock: Socket, *, idle_seconds: int, interval_seconds: int | None = None, count: int | None = None
) -> None:
    """Turn TCP keepalive on (tcp(7)): an unanswered connection ends `idle + interval * count` s after it last heard.

    What is None stays as the kernel has it (net.ipv4.tcp_keepalive_intvl, tcp_keepalive_probes).
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_seconds)
    if interval_seconds is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval_seconds)
    if count is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def user_timeout(sock: Socket, *, seconds: float) -> None:
    """Set TCP_USER_TIMEOUT (RFC 5482): how long sent data may stay unacknowledged. The kernel counts milliseconds."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, round(seconds * 1000))


def hear_icmp(sock: Socket) -> None:
    """Report ICMP errors to the program (IP_RECVERR, ip(7)): on an established connection each fails one call, and the
    connection lives on. Without it they are noted, and told only when the connection dies of its timer."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def state(sock: Socket) -> str:
    """The TCP state by its name in RFC 9293 ("CLOSE-WAIT"), from TCP_INFO."""
    return STATES.get(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0], "unknown")


@dataclass(frozen=True, slots=True)
class Clock:
    """What a connection's timers have done without an answer, from TCP_INFO (struct tcp_info in include/uapi/linux/tcp.h)."""

    retransmits: int  # of the same segment, since it was last acknowledged
    probes: int  # keepalive or zero-window probes
    unacknowledged: int  # segments in flight
    unsent: int  # bytes


def clock(sock: Socket) -> Clock:
    """Which timer is at work: retransmission where segments are in flight, probes where there are none."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    unacknowledged, unsent = struct.unpack_from("=I", info, 24)[0], struct.unpack_from("=I", info, 144)[0]
    return Clock(retransmits=info[2], probes=info[3], unacknowledged=unacknowledged, unsent=unsent)


def quiet_seconds(sock: Socket) -> float:
    """How long no byte of data has come or gone, nor been sent again, from TCP_INFO; in milliseconds, by the kernel's ticks."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
    milliseconds: tuple[int, ...] = struct.unpack_from("=I4xI", info, 44)  # tcpi_last_data_sent, tcpi_last_data_recv
    return min(milliseconds) / 1000


# include/net/tcp_states.h
STATES = dict(
    enumerate(
        [
            "ESTABLISHED",
            "SYN-SENT",
            "SYN-RECEIVED",
            "FIN-WAIT-1",
            "FIN-WAIT-2",
            "TIME-WAIT",
            "CLOSED",
            "CLOSE-WAIT",
            "LAST-ACK",
            "LISTEN",
            "CLOSING",
        ],
        start=1,
    )
)
