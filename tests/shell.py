"""The `faultkit` command as a person runs it: a process of its own, with pipes or a terminal for its output."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from faultkit import causes
from faultkit.options import flag, written
from tests.ordinary import CHECKOUT, command

ROOT = os.geteuid() == 0
# Root plays both parts; an ordinary user has only the own one to play.
USERS = ["root", "nobody"] if ROOT else ["nobody"]

# What would change how the output looks is decided here, not by whoever runs the tests.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    and not name.startswith("LC_")
} | {"LANG": "C.UTF-8", "TERM": "xterm-256color"}


def line(*arguments: str, user: str = "", denied: bool = False) -> list[str]:
    """The command line for that user ("": who we are), where namespaces are denied if wanted."""
    return command(sys.executable, "-m", "faultkit", *arguments, ordinary=user == "nobody", denied=denied)


def faultkit(*arguments: str, user: str = "", denied: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    defaults: dict[str, Any] = {
        "capture_output": True,
        "text": True,
        "timeout": 60,
        "cwd": CHECKOUT,
        "env": ENVIRONMENT,
    }
    if "stdout" in options or "stderr" in options:
        del defaults["capture_output"]
        defaults |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(line(*arguments, user=user, denied=denied), **defaults | options)


def start(*arguments: str, user: str = "", denied: bool = False, **options: Any) -> subprocess.Popen[str]:
    """Begin it."""
    defaults: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "cwd": CHECKOUT,
        "env": ENVIRONMENT,
    }
    running: subprocess.Popen[str] = subprocess.Popen(line(*arguments, user=user, denied=denied), **defaults | options)
    return running


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """What it said on standard error, but for the lines of a run that lasts: the machine may be busy."""
    lasts = r"^faultkit: [a-z-]+: (\d+ of \d+.*|playing for \d+ s|.* in \d+ s|.* is due)\n"
    return re.sub(lasts, "", ended.stderr, flags=re.MULTILINE)


def on_terminal(
    *arguments: str,
    columns: int,
    environment: dict[str, str] | None = None,
    meanwhile: Callable[[bytes, int], None] = lambda told, group: None,
) -> tuple[int, str]:
    """Its exit status and everything that it wrote to a terminal of that width. `meanwhile` is given what there is of that,
    whenever it is more, and the process group."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = ENVIRONMENT | (environment or {})
    running = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # EIO: the last process that had the terminal has closed it
        while part := os.read(ours, 65536):
            told += part
            meanwhile(told, running.pid)
    os.close(ours)
    return running.wait(60), told.decode().replace("\r\n", "\n")


def fast(cause: str) -> list[str]:
    """The flags of the cause's first conformance variant, which does not take long."""
    chosen = causes.load(cause)
    told: list[str] = []
    for option in fields(chosen.options):
        if option.name in chosen.variants[0]:
            value = written(option, chosen.variants[0][option.name])
            told += [flag(option)] if value is True else [flag(option), str(value)]
    return told


def free_port() -> int:
    """A port that nobody has, from below the range that the kernel gives out (net.ipv4.ip_local_port_range)."""
    while True:
        port = random.randrange(20000, 32768)
        with socket.socket() as four, socket.socket(socket.AF_INET6) as six, contextlib.suppress(OSError):
            four.bind(("127.0.0.1", port))
            six.bind(("::1", port))
            return port


@contextlib.contextmanager
def everybodys_directory() -> Iterator[Path]:
    """A directory in which every user may write; pytest's own are for one user."""
    path = Path(tempfile.mkdtemp(prefix="faultkit-", dir="/tmp"))
    path.chmod(0o777)
    try:
        yield path
    finally:
        shutil.rmtree(path)
