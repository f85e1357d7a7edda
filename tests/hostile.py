"""Runs a command where something is missing that it counts on: `python tests/hostile.py WHAT[=N] COMMAND ...`.

Limits hold for everybody; what is denied by seccomp(2) too; without /proc or with loopback down takes root. Needs nothing
but the standard library, and starts no shell.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.ordinary import (
    CLONE_NEWNS,
    MS_PRIVATE,
    MS_REC,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    _call,
    _mount,
    refuse,
)

CLONE_NEWNET = 0x40000000
EAFNOSUPPORT = 97
FAMILIES = {"unix": 1, "ipv6": 10, "packet": 17}  # bits/socket.h
# linux/audit.h; asm/unistd.h, for socket(2)
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


WAYS: dict[str, Callable[[int], None]] = {
    "nofile": lambda n: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)),
    "nproc": lambda n: resource.setrlimit(resource.RLIMIT_NPROC, (n, n)),
    "no-file-may-grow": lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    "no-unix": lambda _: no_family("unix"),
    "no-ipv6": lambda _: no_family("ipv6"),
    "no-packet": lambda _: no_family("packet"),
    "no-proc": lambda _: no_proc(),
    "loopback-down": lambda _: _call("unshare", CLONE_NEWNET),
}


def main(way: str, *argv: str) -> None:
    name, _, number = way.partition("=")
    WAYS[name](int(number or 0))
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
