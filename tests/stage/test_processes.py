"""Real programs in a process namespace of our own: whatever they start ends with it, and their files too."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from faultkit.errors import Unable
from faultkit.stage import namespace
from faultkit.stage.namespace import Namespace
from faultkit.stage.processes import Processes
from tests.shell import USERS
from tests.stage.child import in_child

every_user = pytest.mark.parametrize("user", USERS)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Twice forked, in a session of its own, its output closed: nothing connects it to us but the namespace.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(int(os.readlink("/proc/self")), flush=True)
        os.close(1)
        os.close(2)
        time.sleep(3600)
    os._exit(0)
os.wait()
"""


@every_user
def test_a_daemon_ends_with_the_play_and_its_files_too(user: str) -> None:
    def play() -> list[object]:
        own = namespace.enter()
        there, descriptors = sorted(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))
        processes = Processes(own)
        empty = os.listdir(processes.directory)
        (processes.directory / "a.conf").write_text("x")
        started = processes.start([sys.executable, "-c", DAEMON], directory=processes.directory)
        assert started.stdout is not None
        daemon = int(started.stdout.readline())
        ran = alive(daemon)
        processes.close()
        left = len(os.listdir("/proc/self/fd")) - descriptors
        return [empty, ran, alive(daemon), sorted(os.listdir("/dev/shm")) == there, left]

    assert in_child(play, user) == [[], True, False, True, 0]


@every_user
def test_a_daemon_ends_when_we_are_killed(user: str) -> None:
    def play() -> int:
        processes = Processes(namespace.enter())
        started = processes.start([sys.executable, "-c", DAEMON], directory=processes.directory)
        assert started.stdout is not None
        return int(started.stdout.readline())  # and this process ends here, with nothing closed

    daemon = in_child(play, user)
    deadline = time.monotonic() + 10
    while alive(daemon) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(daemon)


@every_user
def test_what_it_prints_and_how_it_ends(user: str) -> None:
    def play() -> list[object]:
        processes = Processes(namespace.enter())
        script = 'echo "$TMPDIR $HOME $XDG_RUNTIME_DIR $(pwd) $WORD"; echo two >&2; exit 7'
        started = processes.start(["sh", "-c", script], directory=processes.directory, environment={"WORD": "one"})
        assert started.stdout is not None
        said = started.stdout.read().decode()
        status = started.wait()
        processes.close()
        return [said, status]

    assert in_child(play, user) == ["/dev/shm /dev/shm /dev/shm /dev/shm one\ntwo\n", 7]


@every_user
def test_a_program_that_is_not_there(user: str) -> None:
    def play() -> list[object]:
        processes = Processes(namespace.enter())
        try:
            processes.start(["/nonexistent/program"], directory=processes.directory)
        except FileNotFoundError:
            refused = True
        processes.close()
        return [refused]

    assert in_child(play, user) == [True]


def test_outside_our_namespace_nothing_is_started() -> None:
    here = os.stat("/proc/self/ns/net").st_ino
    with pytest.raises(Unable, match="not inside a namespace that faultkit made"):
        Processes(Namespace(here + 1, here, False))
