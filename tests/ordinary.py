"""Runs a command as an ordinary user, or where namespaces are forbidden: `python tests/ordinary.py [--denied] COMMAND ...`.

Root becomes `nobody`, with the interpreter, its packages and the checkout within reach even if they lie in root's home.
Needs nothing but the standard library, and starts no shell.
"""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
USER = "nobody"

# sched.h, mount.h, prctl.h
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
EPERM = 1

# linux/audit.h; asm/unistd.h, for unshare(2) and setns(2)
_ARCHITECTURES = {"x86_64": (0xC000003E, 272, 308), "aarch64": (0xC00000B7, 97, 268), "riscv64": (0xC00000F3, 97, 268)}


def command(*argv: str, ordinary: bool = False, denied: bool = False) -> list[str]:
    """The command line that runs `argv` so. The process that it starts is that of `argv`: signals reach it."""
    if ordinary and os.geteuid() == 0:
        return [sys.executable, __file__, *(["--denied"] if denied else []), *argv]
    return [sys.executable, __file__, "--as-we-are", "--denied", *argv] if denied else [*argv]


def as_nobody(*argv: str, denied: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it as an ordinary user, to its end."""
    return _run(command(*argv, ordinary=True, denied=denied), options)


def denied(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it as who we are, where no namespace can be made, to its end."""
    return _run(command(*argv, denied=True), options)


def _run(argv: list[str], options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, **{"cwd": CHECKOUT, "capture_output": True, "text": True, "timeout": 60, **options})


def become(user: str = USER) -> None:
    """Make this process, which is root's and has one thread, that user's. An ordinary user's stays what it is."""
    if os.geteuid():
        return
    entry, here = pwd.getpwnam(user), os.getcwd()
    _uncover(_wanted())
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    # setuid() made /proc/self root's own, and uid_map unwritable (proc(5)); exec would undo that, a fork does not.
    _call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
    os.chdir(here if os.access(here, os.X_OK) else "/")  # by name: what was covered is another directory now
    for tree in _wanted():
        if not os.access(tree, os.R_OK | os.X_OK):
            raise SystemExit(f"{user} may not read {tree}: chmod -R o+rX {tree}, or clone with umask 022")


def deny() -> None:
    """From here on unshare() and setns() fail with EPERM, in this process and in all that it starts: seccomp(2)."""
    if platform.machine() not in _ARCHITECTURES:
        raise SystemExit(f"the numbers of unshare and setns on {platform.machine()} are not known here: add them")
    architecture, *calls = _ARCHITECTURES[platform.machine()]
    # Classic BPF over struct seccomp_data: opcode, jump if true, jump if false, operand.
    program = [
        (0x20, 0, 0, 4),  # ld the architecture
        (0x15, 0, 3, architecture),  # not ours? (x32, i386): allowed
        (0x20, 0, 0, 0),  # ld the call's number
        (0x15, 2, 0, calls[0]),
        (0x15, 1, 0, calls[1]),
        (0x06, 0, 0, SECCOMP_RET_ALLOW),
        (0x06, 0, 0, SECCOMP_RET_ERRNO | EPERM),
    ]
    refuse(program)


def refuse(program: list[tuple[int, int, int, int]]) -> None:
    """Have the kernel judge every system call by that program from here on: seccomp(2)."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_program = struct.pack("HP", len(program), ctypes.addressof(code))
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_program), 0, 0)


def _wanted() -> list[Path]:
    """What a Python program of this checkout reads, by the names by which it is asked for and by the real ones."""
    named = [CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path if entry)]
    hop = Path(sys.executable)
    while True:
        named.append(hop.parent)
        if not hop.is_symlink():
            break
        hop = hop.parent / hop.readlink()
    found = {os.path.abspath(path) for path in named if path.is_dir()}
    return [Path(path) for path in sorted(found | {os.path.realpath(path) for path in found})]


def _blocking(path: Path) -> Path | None:
    """The outermost directory above it that others may not enter."""
    for above in reversed(path.parents):
        if not above.stat().st_mode & stat.S_IXOTH:
            return above
    return None


def _uncover(wanted: list[Path]) -> None:
    """In a mount namespace of our own: put an open directory where a closed one was, with what is wanted in it."""
    covered = {tree: above for tree in wanted if (above := _blocking(tree))}
    if not covered:
        return
    _call("unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    # Opened in the namespace in which they will be mounted, while they can still be reached.
    opened = {tree: os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for tree in covered}
    for above in set(covered.values()):
        _mount("tmpfs", str(above), "tmpfs", 0, "mode=0755")
    before = os.umask(0o022)
    for tree, descriptor in opened.items():  # sorted: one that holds another comes first
        tree.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", str(tree), None, MS_BIND | MS_REC)
        os.close(descriptor)
    os.umask(before)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [text if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def _call(name: str, *arguments: Any) -> None:
    # os.unshare came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main(arguments: list[str]) -> None:
    flags = set()
    while arguments and arguments[0] in ("--as-we-are", "--denied"):
        flags.add(arguments.pop(0))
    if not arguments:
        raise SystemExit(__doc__)
    if "--as-we-are" not in flags:
        become()
    if "--denied" in flags:
        deny()
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
