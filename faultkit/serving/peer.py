"""What the program at the other end has read, where its socket is in this network namespace too: by the kernel's own list."""

from __future__ import annotations

import errno
import os
import socket
import struct

from faultkit.errors import Unable

# include/uapi/linux/netlink.h, sock_diag.h, inet_diag.h, tcp.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
INET_DIAG_INFO = 2
NO_COOKIE = b"\xff" * 8
HEADER = struct.Struct("=IHHII")  # nlmsghdr
MESSAGE = 72  # bytes of inet_diag_msg
RECEIVE_QUEUE = 56  # in it: idiag_rqueue, bytes that the program has not read
BYTES_RECEIVED = 128  # in tcp_info


def has_read(sock: socket.socket) -> int | None:
    """How many bytes the peer's program has read of what this socket has sent. None where its socket is gone, or elsewhere.

    Raises `Unable` where the kernel does not say so.
    """
    ours = sock.getsockname()
    try:
        theirs = sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return None  # it has reset the connection
    address = struct.pack("!HH", theirs[1], ours[1]) + _packed(sock, theirs[0]) + _packed(sock, ours[0])
    asked = struct.pack("=BBBxI", sock.family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0xFFFFFFFF)
    request = asked + address + struct.pack("=I", 0) + NO_COOKIE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as asking:
        size = HEADER.size + len(request)
        asking.send(HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + request)
        told = asking.recv(8192)
    _, kind, *_ = HEADER.unpack_from(told)
    if kind == NLMSG_ERROR:
        number = -struct.unpack_from("=i", told, HEADER.size)[0]
        if number == errno.ENOENT:
            return None
        raise Unable(f"the kernel does not say what a client has read (sock_diag: {os.strerror(number)})")
    (unread,) = struct.unpack_from("=I", told, HEADER.size + RECEIVE_QUEUE)
    received = _received(told[HEADER.size + MESSAGE :])
    return None if received is None else received - int(unread)


def _packed(sock: socket.socket, host: str) -> bytes:
    """An address of 16 bytes."""
    return socket.inet_pton(sock.family, host.partition("%")[0]).ljust(16, b"\0")


def _received(attributes: bytes) -> int | None:
    """tcpi_bytes_received among the attributes of a message; None where only a TIME-WAIT or FIN-WAIT-2 bucket is left."""
    while len(attributes) >= 4:
        size, kind = struct.unpack_from("=HH", attributes)
        if kind == INET_DIAG_INFO:
            return int(struct.unpack_from("=Q", attributes, 4 + BYTES_RECEIVED)[0])
        attributes = attributes[(size + 3) & ~3 :]
    return None
