"""`faultkit sandbox` on a terminal: Ctrl-C, Ctrl-Z and a hang-up reach the command as they would without us, once."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boxes import PYTHON, SOON, boxed, drained, every_user, held, nested
from tests.ordinary import CHECKOUT
from tests.shell import ENVIRONMENT, line

# Leads a session on the terminal, as a shell does, and becomes the command.
LEADS = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

# Leads a session with job control: tells when the job in the foreground stops, and what `fg` or `cont` then do.
CONTROLS = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
print("job", job, flush=True)
while os.WIFSTOPPED(status := os.waitpid(job, os.WUNTRACED)[1]):
    os.tcsetpgrp(0, os.getpgrp())
    print("stopped", flush=True)
    to = sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT) if to == "fg\\n" else os.kill(job, signal.SIGCONT)
print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""

# Says what it reads, and how often it was interrupted when SIGUSR1 asks for it. Python runs the handler of a signal that
# comes just before read(2) only when that returns, so it waits for a byte of set_wakeup_fd too.
READS = """
import os, select, signal, sys
def say(*words):  # print() may not be interrupted by a handler that prints
    os.write(1, (" ".join(map(str, words)) + os.linesep).encode())
interrupts = 0
def interrupted(*_):
    global interrupts
    interrupts += 1
    say("interrupted")
def suspended(*_):
    say("suspends itself")
    os.kill(os.getpid(), signal.SIGSTOP)
awake, waking = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(waking)
signal.signal(signal.SIGINT, interrupted)
signal.signal(signal.SIGUSR1, lambda *_: say("in all", interrupts))
if "itself" in sys.argv:
    signal.signal(signal.SIGTSTP, suspended)
say("ready", os.getpid())
while True:
    for descriptor in select.select([0, awake], [], [])[0]:
        line = os.read(descriptor, 1000)
        if descriptor == 0 and not line:
            sys.exit(4)
        elif descriptor == 0:
            say("read", line.decode().rstrip())
"""


class Terminal:
    """What a person has before them."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.descriptor = descriptor
        self.process = process
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def shows(self, text: str) -> str:
        """Wait until a line begins with that, and give the rest of it."""
        while True:
            for shown in self._seen.split(b"\r\n")[:-1]:
                self._seen = self._seen.partition(b"\r\n")[2]
                if shown.startswith(text.encode()):
                    return shown.decode().removeprefix(text).strip()
            assert select.select([self.descriptor], [], [], SOON)[0], f"{text!r} is not shown, but {self._seen!r}"
            self._seen += os.read(self.descriptor, 1000)


@contextlib.contextmanager
def terminal(leader: str, *argv: str, pass_fds: tuple[int, ...] = ()) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    modes = termios.tcgetattr(theirs)
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    process = subprocess.Popen(
        [*PYTHON, leader, *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        with contextlib.suppress(OSError):
            os.close(ours)  # hangs up: whatever still has the terminal ends
        process.kill()
        process.wait()


@every_user
@nested
def test_ctrl_c_interrupts_once(user: str, boxes: int) -> None:
    with terminal(LEADS, *line(*boxed(*PYTHON, READS, boxes=boxes), user=user)) as screen:
        screen.shows("ready")
        for _ in range(20):
            screen.type("\x03")
            screen.shows("interrupted")
        screen.process.send_signal(signal.SIGUSR1)  # by the way that an interrupt would have come, and after it
        assert screen.shows("in all") == "20"
        screen.type("words\n")
        assert screen.shows("read") == "words"
        screen.process.send_signal(signal.SIGINT)
        screen.shows("interrupted")
        screen.type("\x04")
        assert screen.process.wait(SOON) == 4


def test_ctrl_c_ends_a_command_that_does_not_care() -> None:
    with terminal(LEADS, *line(*boxed("sh", "-c", "echo ready; exec sleep 1000"))) as screen:
        screen.shows("ready")
        screen.type("\x03")
        assert screen.process.wait(SOON) == 128 + signal.SIGINT


@every_user
@nested
@pytest.mark.parametrize("stop", ["terminal", "itself", "kill"])
@pytest.mark.parametrize("go_on", ["fg", "cont"])
def test_ctrl_z(go_on: str, stop: str, user: str, boxes: int) -> None:
    argv = [*PYTHON, READS, *(["itself"] if stop == "itself" else [])]
    with terminal(CONTROLS, *line(*boxed(*argv, boxes=boxes), user=user)) as screen:
        job = int(screen.shows("job"))
        command = screen.shows("ready")
        for _ in range(2):
            if stop == "kill":
                os.kill(job, signal.SIGTSTP)
            else:
                screen.type("\x1a")
            screen.shows("suspends itself" if stop == "itself" else "stopped")
            if stop == "itself":
                screen.shows("stopped")
            assert "\nState:\tT" in Path(f"/proc/{command}/status").read_text()
            screen.type(f"{go_on}\n")
            screen.type("words\n")
            assert screen.shows("read") == "words"
        screen.type("\x04")
        assert screen.shows("ended") == "4"


def test_a_command_that_is_killed_while_it_is_stopped() -> None:
    with terminal(CONTROLS, *line(*boxed(*PYTHON, READS))) as screen:
        screen.shows("job")
        command = int(screen.shows("ready"))
        screen.type("\x1a")
        screen.shows("stopped")
        os.kill(command, signal.SIGKILL)
        screen.type("fg\n")
        assert screen.shows("ended") == "137"


@every_user
@nested
def test_a_hang_up_ends_it(user: str, boxes: int) -> None:
    with held() as (reader, writer):
        argv = line(*boxed("sh", "-c", "echo ready; exec sleep 1000", boxes=boxes), user=user)
        with terminal(LEADS, *argv, pass_fds=(writer,)) as screen:
            os.close(writer)
            screen.shows("ready")
            os.close(screen.descriptor)
            assert drained(reader, SOON) == ""
            assert screen.process.wait(SOON) == 128 + signal.SIGHUP
