"""Runs a command where something is missing that it counts on: `python tests/hostile.py WHAT[=N] COMMAND ...`.

Limits hold for everybody; what is denied by seccomp(2) too; without /proc or with loopback down takes root. Needs nothing
but the standard library, and starts no shell.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.ordinary import (
    CLONE_NEWNS,
    EPERM,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    _call,
    _mount,
    deny,
    refuse,
)

CLONE_NEWNET = 0x40000000
EAFNOSUPPORT = 97
FAMILIES = {"unix": 1, "ipv6": 10, "packet": 17}  # bits/socket.h
MS_RDONLY, MS_REMOUNT = 1, 32  # mount.h
# linux/audit.h; asm/unistd.h, for mount(2) and socket(2)
_MOUNT = {"x86_64": (0xC000003E, 165), "aarch64": (0xC00000B7, 40), "riscv64": (0xC00000F3, 40)}
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198), "riscv64": (0xC00000F3, 198)}


def no_family(name: str) -> None:
    """From here on socket() of that family fails with EAFNOSUPPORT."""
    architecture, call = _SOCKET[platform.machine()]
    # Classic BPF over struct seccomp_data: opcode, jump if true, jump if false, operand.
    program = [
        (0x20, 0, 0, 4),  # ld the architecture
        (0x15, 0, 4, architecture),
        (0x20, 0, 0, 0),  # ld the call's number
        (0x15, 0, 2, call),
        (0x20, 0, 0, 16),  # ld the low half of its first argument, little-endian
        (0x15, 1, 0, FAMILIES[name]),
        (0x06, 0, 0, SECCOMP_RET_ALLOW),
        (0x06, 0, 0, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
    ]
    refuse(program)


def no_proc() -> None:
    """In a mount namespace of our own, an empty file system over /proc."""
    _call("unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", "/proc", "tmpfs", 0, "mode=0755")


def no_sys() -> None:
    """The same over /sys: nothing of the machine's devices, and nowhere for tracefs."""
    _call("unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", "/sys", "tmpfs", 0, "mode=0755")


def read_only() -> None:
    """Nothing can be written anywhere but in /proc, /sys and /dev."""
    _call("unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        where = line.split()[1].encode().decode("unicode_escape")
        if where == "/dev/shm" or not where.startswith(("/proc", "/sys", "/dev")):
            with contextlib.suppress(OSError):  # it is under another one, or was so before
                _mount(None, where, None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def no_tools() -> None:
    """Neither iptables nor nft nor ip is installed."""
    _call("unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    directories = {*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/local/sbin", "/usr/sbin", "/sbin"}
    for directory in directories:
        for tool in ("iptables", "ip6tables", "nft", "ip"):
            if (path := Path(directory, tool)).is_file():  # what is covered already is none
                _mount("/dev/null", str(path), None, MS_BIND)


def no_mount() -> None:
    """From here on mount() fails with EPERM."""
    architecture, call = _MOUNT[platform.machine()]
    refuse(
        [
            (0x20, 0, 0, 4),  # ld the architecture
            (0x15, 0, 2, architecture),
            (0x20, 0, 0, 0),  # ld the call's number
            (0x15, 1, 0, call),
            (0x06, 0, 0, SECCOMP_RET_ALLOW),
            (0x06, 0, 0, SECCOMP_RET_ERRNO | EPERM),
        ]
    )


WAYS: dict[str, Callable[[int], None]] = {
    "nofile": lambda n: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)),
    "nproc": lambda n: resource.setrlimit(resource.RLIMIT_NPROC, (n, n)),
    "no-file-may-grow": lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    "no-unix": lambda _: no_family("unix"),
    "no-ipv6": lambda _: no_family("ipv6"),
    "no-packet": lambda _: no_family("packet"),
    "no-namespace": lambda _: deny(),
    "no-mount": lambda _: no_mount(),
    "no-proc": lambda _: no_proc(),
    "no-sys": lambda _: no_sys(),
    "no-tools": lambda _: no_tools(),
    "read-only": lambda _: read_only(),
    "loopback-down": lambda _: _call("unshare", CLONE_NEWNET),
}


def main(way: str, *argv: str) -> None:
    name, _, number = way.partition("=")
    WAYS[name](int(number or 0))
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
