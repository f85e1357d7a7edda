"""The trace instance: root's alone, and gone afterwards, however its process ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from faultkit.errors import Unable
from faultkit.stage import namespace, tracing
from faultkit.stage.namespace import Namespace
from tests.shell import ROOT, USERS
from tests.stage.child import in_child
from tests.watch import until

PR_SET_CHILD_SUBREAPER = 36  # prctl.h

needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


def usable() -> bool:
    """Has this kernel what a trace instance is for?"""

    def look() -> bool:
        try:
            with contextlib.closing(tracing.start(namespace.enter())) as instance:
                instance.open()
        except Unable as error:
            assert "gives no reason" in str(error)
            return False
        return True

    return bool(in_child(look))


@needs_root
def test_it_is_made_read_and_removed() -> None:
    if not usable():
        return

    def look() -> dict[str, Any]:
        with contextlib.closing(tracing.start(namespace.enter())) as instance:
            instance.open()
            events = {name: (instance.path / "events/tcp" / name / "enable").read_text() for name in tracing.EVENTS}
            told = {
                "name": instance.path == tracing.path(os.getpid()),
                "events": events,
                "clock": "[mono]" in (instance.path / "trace_clock").read_text(),
                "lost": instance.lost(),
                "children": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
            }
        orphans = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return told | {"left": instance.path.exists(), "orphans": orphans}

    told = in_child(look)
    assert told["name"] and told["clock"]
    assert told["events"] == dict.fromkeys(tracing.EVENTS, "1\n")
    assert (told["lost"], told["children"], told["left"], told["orphans"]) == (0, 1, False, "")


@needs_root
@pytest.mark.parametrize("opened", [False, True])
def test_it_is_removed_when_its_process_is_killed(opened: bool) -> None:
    """Before the instance is there as well as after: the guardian outlives us by that much."""
    if not usable():
        return

    def look() -> list[bool]:
        own = namespace.enter()
        tracing.start(own).close()  # tracefs is mounted now, for the children too
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # their guardians become ours
        left = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                instance = tracing.start(own)
                if opened:
                    instance.open()
                os.kill(os.getpid(), signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.wait():
                    pass
            left.append(tracing.path(child).exists())
        return left

    assert in_child(look) == [False] * 5


@needs_root
@pytest.mark.parametrize("opened", [False, True])
def test_it_is_removed_when_its_guardian_is_killed(opened: bool) -> None:
    """Whether it has said by then that the instance is there, or not."""
    if not usable():
        return

    def look() -> list[bool]:
        own = namespace.enter()
        tracing.ready(own)
        there = []
        with contextlib.closing(tracing.start(own)) as instance:
            if opened:
                instance.open()
            else:
                until(instance.path.exists)
            [guardian] = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            os.kill(int(guardian), signal.SIGKILL)
            os.waitid(os.P_PID, int(guardian), os.WEXITED | os.WNOWAIT)
            there.append(instance.path.exists())
        return [*there, instance.path.exists()]

    assert in_child(look) == [True, False]


@needs_root
def test_what_a_killed_container_has_left_goes_with_the_next_run() -> None:
    if not usable():
        return

    def look() -> list[bool]:
        own = namespace.enter()
        tracing.ready(own)
        left, open_, fresh = (tracing.path(pid) for pid in (0, -1, -2))  # nobody's PIDs
        for path in (left, open_, fresh):
            path.mkdir()
        try:
            for path in (left, open_):
                os.utime(path, (0, 0))
            with (open_ / "trace_pipe").open(), contextlib.closing(tracing.start(own)) as instance:
                instance.open()
                # Nobody says when it has looked.
                until(lambda: not left.exists())
            return [path.exists() for path in (left, open_, fresh)]
        finally:
            for path in (left, open_, fresh):
                with contextlib.suppress(FileNotFoundError):
                    path.rmdir()

    assert in_child(look) == [False, True, True]


@needs_root
def test_one_that_stands_there_already_is_left_alone() -> None:
    if not usable():
        return

    def look() -> str:
        own = namespace.enter()
        with contextlib.closing(tracing.start(own)) as first:
            first.open()
            with contextlib.closing(tracing.start(own)) as second, pytest.raises(OSError) as caught:
                second.open()
            assert (first.path / "events/tcp/tcp_send_reset/enable").read_text() == "1\n"
        assert not first.path.exists()
        return str(caught.value)

    assert "File exists" in in_child(look)


@needs_root
def test_two_processes_with_one_pid_in_two_pid_namespaces_are_told_apart() -> None:
    look = "from faultkit.stage import tracing; print(tracing.path(1).name)"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", look]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert elsewhere.startswith("faultkit-1-")
    assert elsewhere != tracing.path(1).name


@pytest.mark.parametrize("user", [user for user in USERS if user == "nobody"])
def test_it_is_for_root_alone(user: str) -> None:
    def look() -> None:
        with pytest.raises(Unable, match=r"tracefs is readable by root alone: run as root \(sudo\)"):
            tracing.start(None)
        with pytest.raises(Unable, match=r"tracefs is readable by root alone: run as root \(sudo\)"):
            tracing.start(namespace.enter())

    in_child(look, user)


@needs_root
def test_root_of_a_user_namespace_is_not_root() -> None:
    def look() -> None:
        with pytest.raises(Unable, match="tracefs needs CAP_SYS_ADMIN of the machine"):
            tracing.start(Namespace(2, 1, True))

    in_child(look)


def test_not_with_threads() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with pytest.raises(Unable, match="must be made before threads start"):
            tracing.start(None)
    finally:
        done.set()
        other.join()


@needs_root
def test_on_the_host_nothing_is_mounted() -> None:
    def look() -> str:
        mounts = Path("/proc/self/mounts").read_text()
        try:
            tracing.start(None).close()
        except Unable as error:
            told = str(error)
        else:
            told = "mounted already"
        assert Path("/proc/self/mounts").read_text() == mounts
        return told

    told = in_child(look)
    if Path("/sys/kernel/tracing/events").is_dir():
        assert told == "mounted already" or "gives no reason" in told
    else:
        assert told.startswith("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing")
