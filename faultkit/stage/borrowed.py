"""Another process's own socket, to set an option on it that its program knows nothing of."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Iterable, Iterator

from faultkit.evidence.transcript import Address

PIDFD_GETFD = 438  # asm-generic/unistd.h; glibc has a name for it since 2.36 only


@contextlib.contextmanager
def borrowed(pids: Iterable[int], local: Address, remote: Address) -> Iterator[socket.socket]:
    """The socket of that connection, in whichever of these processes it is (pidfd_getfd(2)); `LookupError` if in none.

    To be given back before its program closes it: close() closes nothing while somebody else has the socket too.
    """
    for pid in pids:
        for own in _sockets(pid):
            with own:
                if _ends(own) == (local, remote):
                    yield own
                    return
    raise LookupError(f"no socket from {local} to {remote}")


def _sockets(pid: int) -> Iterator[socket.socket]:
    """That process's sockets over TCP and IPv4 or IPv6, one after the other."""
    process = os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):
            try:
                if not os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
                    continue
                descriptor = _get(process, number)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EBADF):  # closed meanwhile
                    continue
                raise
            found = socket.socket(fileno=descriptor)
            if found.family in (socket.AF_INET, socket.AF_INET6):
                yield found
            else:
                found.close()
    finally:
        os.close(process)


def _get(process: int, number: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(PIDFD_GETFD, process, number, 0)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"pidfd_getfd: {os.strerror(error)}")
    return descriptor


def _ends(own: socket.socket) -> tuple[Address, Address] | None:
    try:
        return Address(*own.getsockname()[:2]), Address(*own.getpeername()[:2])
    except OSError:  # ENOTCONN: a listener
        return None
