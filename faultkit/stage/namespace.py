"""A private network namespace for this process, made in place, gone with the process.

An ordinary user gets it together with a user namespace (user_namespaces(7)); root takes a network namespace alone, which
keeps tracefs readable, and a mount namespace so that tracefs can be mounted where nobody else sees it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

from faultkit.errors import Unable, exhausted, starting

# sched.h, net/if.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000  # sys/mount.h
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
# capability.h, prctl.h
_CAPABILITY_VERSION = 0x20080522
_NETWORK = (10, 12, 13)  # CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW
CAP_SYS_ADMIN = 21
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2

# What gets one where it is refused.
ALLOW = (
    "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0; in a container "
    "--security-opt seccomp=unconfined)"
)

_OWN_NETWORK = Path("/proc/self/ns/net")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace that this process made and is in."""

    inode: int  # of /proc/self/ns/net
    outer: int  # the same before: the namespace we came from
    user: bool  # made together with a user namespace, without root

    def holds(self) -> bool:
        """Is this thread inside it, and is it not the one the process came from?"""
        return _OWN_NETWORK.stat().st_ino == self.inode != self.outer


def own_network() -> int:
    """The inode of the network namespace that this thread is in. Raises `Unable` without /proc, which much else is read in."""
    try:
        return _OWN_NETWORK.stat().st_ino
    except FileNotFoundError as error:
        raise Unable(
            "/proc is not there, and namespaces, counters and sockets are read in it: mount -t proc proc /proc"
        ) from error


def outer_uid() -> int:
    """Who we are outside: in a user namespace that we made everybody is root (user_namespaces(7))."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, outer, count = map(int, line.split())
        if inside <= os.geteuid() < inside + count:
            return outer + os.geteuid() - inside
    return os.geteuid()


def _call(
    name: str, *arguments: bytes | int | ctypes.c_ulong | ctypes.Array[ctypes.c_char] | None, what: str = ""
) -> None:
    # os.unshare and os.setns came with Python 3.12; there is no mount.
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{what}{os.strerror(number)}")


def unshare(flags: int) -> None:
    """unshare(2), for the calling thread."""
    _call("unshare", flags)


def setns(descriptor: int, kind: int) -> None:
    """setns(2), for the calling thread."""
    _call("setns", descriptor, kind)


def mount(kind: bytes, target: bytes) -> None:
    """Mount a file system in our own mount namespace, and in no other: what is mounted here is first made private."""
    for source, place, flags in ((None, b"/", MS_REC | MS_PRIVATE), (kind, target, 0)):
        _call("mount", source, place, source, ctypes.c_ulong(flags), None, what=f"mount {os.fsdecode(place)}: ")


def unmount(target: bytes) -> None:
    """Take it away again, also where something in it is still open (umount2(2), MNT_DETACH)."""
    _call("umount2", target, 2)


def _loopback(control: socket.socket) -> int:
    """Its flags (netdevice(7))."""
    flags: int = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0)))[1]
    return flags


def loopback_is_up() -> bool:
    """Is the loopback interface up, in the namespace that we are in?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return bool(_loopback(control) & IFF_UP)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = _loopback(control)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def _capabilities() -> tuple[bytes, tuple[int, ...]]:
    """The header that asked, and effective, permitted, inheritable; then the same for capabilities from 32 on."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    sets = ctypes.create_string_buffer(24)
    _call("capget", header, sets)
    return header, struct.unpack("=6I", sets.raw)


def capable(number: int) -> bool:
    """Has this thread that capability, one of the first 32, in its user namespace?"""
    return bool(_capabilities()[1][0] & 1 << number)


def _keep_network_capabilities() -> None:
    """Who is not root loses every capability with exec(), but for the ambient ones (capabilities(7))."""
    header, (effective, permitted, inheritable, *rest) = _capabilities()
    inheritable |= sum(1 << number for number in _NETWORK)
    _call("capset", header, struct.pack("=6I", effective, permitted, inheritable, *rest))
    for number in _NETWORK:
        _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)


def _map_user(uid: int, gid: int, *, as_root: bool) -> None:
    # user_namespaces(7): without CAP_SETGID outside, gid_map is writable only after setgroups is denied.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{0 if as_root else uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{0 if as_root else gid} {gid} 1")


def _make_user(*, as_root: bool) -> None:
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER | CLONE_NEWNET)
    _map_user(uid, gid, as_root=as_root)
    if not as_root:
        _keep_network_capabilities()
    _loopback_up()


def _rehearse(*, as_root: bool) -> None:
    """Make the namespaces in a child first: a kernel may grant the user namespace and then refuse everything inside it
    (AppArmor on Ubuntu does), and this process could not leave it again to play on the host's loopback instead."""
    with starting():
        child = os.fork()
    if child == 0:
        try:
            _make_user(as_root=as_root)
        except OSError as error:
            os._exit(error.errno or errno.EPERM)
        except BaseException:  # a forked child must never return into its parent's code
            os._exit(errno.EINVAL)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(number, os.strerror(number))


def enter(*, as_root: bool = True, otherwise: str = "play with --on host, or ") -> Namespace:
    """Put this process into a network namespace of its own, with loopback up. There is no way back.

    An ordinary user is root inside, or with `as_root` False who they are outside, with the network's capabilities alone,
    which every program that is then executed keeps. `otherwise` is what the refusal offers first.

    Raises `Unable` where the kernel or a sandbox forbids it (the process is then where it was before), and where threads
    run already: the kernel makes user namespaces for single-threaded processes only, and the others would stay outside.
    """
    if threading.active_count() > 1:
        raise Unable(
            "a private namespace must be made before threads start and this process has some: run it in a child"
        )
    outer = own_network()
    try:
        try:
            unshare(CLONE_NEWNET | CLONE_NEWNS)
            user = False
            _loopback_up()
        except PermissionError:
            _rehearse(as_root=as_root)
            _make_user(as_root=as_root)
            user = True
    except OSError as error:
        raise exhausted(error) or Unable(
            f"a private network namespace is forbidden here ({errno.errorcode.get(error.errno or 0, error)}): "
            f"{otherwise}{ALLOW}"
        ) from error
    return Namespace(_OWN_NETWORK.stat().st_ino, outer, user)


def keep_mounts() -> None:
    """From here on what is mounted in root's namespace is not seen outside; what is mounted outside is still seen here."""
    with contextlib.suppress(PermissionError):  # where a container forbids it, it forbids every mount
        _call("mount", None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None)
