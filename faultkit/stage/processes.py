"""Real programs on the stage: in a process namespace and on a file system that are ours, and that end with us.

Whatever a program starts, however it detaches itself, ends when the namespace's first process does (pid_namespaces(7)).
That one does nothing but wait for the end of a pipe that this process holds open, so that even kill -9 leaves neither a
process nor a file.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from faultkit.errors import Unable, exhausted, starting
from faultkit.stage.namespace import Namespace, setns, unshare
from faultkit.stage.scratch import discard, scratch

CLONE_NEWPID = 0x20000000  # sched.h

# Reaps what is left to it, because an ignored SIGCHLD outlives exec (wait(2)), and ends with its standard input.
_FIRST = ("sh", "-c", "trap '' CHLD; exec cat")


class Processes:
    """A process namespace with a directory of its own. `Unable` outside our namespace and where the kernel refuses it."""

    def __init__(self, own: Namespace) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        with contextlib.ExitStack() as undo:
            try:
                self.directory = scratch(own)
                undo.callback(discard)
                waiting, lifeline = os.pipe()
                undo.callback(os.close, lifeline)
                try:
                    self._first = _apart(lambda: _first(waiting))
                finally:
                    os.close(waiting)
                self._inside = os.open(f"/proc/{self._first.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise exhausted(error) or Unable(
                    f"a process namespace for real programs is refused here ({error.strerror}): "
                    "sysctl user.max_pid_namespaces, user.max_mnt_namespaces; in a container --security-opt seccomp=unconfined"
                ) from error
            self._undo = undo.pop_all()

    def start(
        self, argv: Sequence[str], *, directory: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start it there; what it prints comes out of the one pipe of its `stdout`. A Ctrl-C is ours to handle.

        What it would leave in its user's directories (gunicorn: ~/.gunicorn) goes where it ends with us.
        """
        own = dict.fromkeys(("TMPDIR", "HOME", "XDG_RUNTIME_DIR"), str(directory))

        def execute() -> subprocess.Popen[bytes]:
            setns(self._inside, CLONE_NEWPID)
            return subprocess.Popen(
                argv,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C.UTF-8", **own, **(environment or {})},
                start_new_session=True,
            )

        self._started.append(_apart(execute))
        return self._started[-1]

    def close(self) -> None:
        """End all of them and wait until they are gone, with everything in their directory."""
        self._first.kill()
        # The first process is gone only when all others are reaped, and these are our children.
        for process in (*self._started, self._first):
            process.wait()
            if process.stdout:
                process.stdout.close()
        os.close(self._inside)
        self._undo.close()


def _first(waiting: int) -> subprocess.Popen[bytes]:
    unshare(CLONE_NEWPID)
    return subprocess.Popen(_FIRST, stdin=waiting, stdout=subprocess.DEVNULL, start_new_session=True)


def _apart(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """In a thread that ends at once: one whose children belong to another process namespace may start no threads itself."""
    done: list[subprocess.Popen[bytes]] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with starting():
                done.append(start())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    with starting():
        thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
