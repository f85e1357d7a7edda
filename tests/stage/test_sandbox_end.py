"""`faultkit sandbox`: a signal reaches the command once, and when it ends nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.boxes import PYTHON, SOON, boxed, drained, every_user, held, nested, started, told
from tests.ordinary import CHECKOUT
from tests.shell import ENVIRONMENT, faultkit, line

# Tells of every signal that it gets, and of all together when it gets SIGTERM.
LISTENS = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print(os.getpid(), os.getppid(), flush=True)
seen = []
while signal.SIGTERM not in seen:
    seen.append(signal.sigwait(signal.valid_signals() - {signal.SIGCHLD}))
    print(seen[-1].name, flush=True)
    if seen[-1] == signal.SIGUSR2:
        os.kill(0, signal.SIGRTMIN)  # one that queues: sent twice is got twice
sys.exit(len(seen))
"""


@every_user
@nested
def test_a_signal_that_is_sent_is_passed_on_once(user: str, boxes: int) -> None:
    with started(*boxed(*PYTHON, LISTENS, boxes=boxes), user=user) as running:
        told(running)
        for number in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGWINCH", "SIGALRM"):
            running.send_signal(signal.Signals[number])
            assert told(running) == number
        running.send_signal(signal.SIGTERM)
        assert told(running) == "SIGTERM"
        assert running.wait(SOON) == 7


def test_what_the_command_sends_to_its_group_does_not_come_back() -> None:
    with started(*boxed(*PYTHON, LISTENS), start_new_session=True) as running:
        told(running)
        for _ in range(20):
            running.send_signal(signal.SIGUSR2)
            assert [told(running), told(running)] == ["SIGUSR2", "SIGRTMIN"]
        running.send_signal(signal.SIGTERM)  # by the way that one more SIGRTMIN would have come, and after it
        assert told(running) == "SIGTERM"
        assert running.wait(SOON) == 41


def test_an_alarm_that_was_set_before() -> None:
    """`perl -e 'alarm 60; exec @ARGV'` is some systems' timeout(1)."""
    alarm = "import os, signal, sys; signal.alarm(2); os.execvp(sys.argv[1], sys.argv[1:])"
    argv = [*PYTHON, alarm, *line(*boxed("sleep", "1000"))]
    assert subprocess.run(argv, cwd=CHECKOUT, env=ENVIRONMENT, timeout=60).returncode == 128 + signal.SIGALRM


@every_user
@nested
def test_a_command_that_was_stopped_and_continued_by_its_own(user: str, boxes: int) -> None:
    script = """
    (until grep -q '^State:.T' /proc/$$/status; do :; done; kill -CONT $$) &
    kill -STOP $$
    wait; exit 5
    """
    assert faultkit(*boxed("sh", "-c", script, boxes=boxes), user=user).returncode == 5


# Leaves: a deaf one, one that says goodbye, one in another session with children, one that is stopped.
LEAVES = """
import os, signal, subprocess, sys
fd, then = int(sys.argv[1]), sys.argv[2]
def one(body):
    ready, child = os.pipe(), os.fork()
    if child == 0:
        body(ready[1])
        os._exit(0)
    os.read(ready[0], 1)
    return child
def deaf(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(ready, b"x")
    signal.pause()
def polite(ready, stops=False):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.write(ready, b"x")
    if stops:
        os.kill(os.getpid(), signal.SIGSTOP)
    signal.sigwait({signal.SIGTERM})
    os.write(fd, b"bye")
def away(ready):
    os.setsid()
    one(polite)
    one(deaf)
    os.write(ready, b"x")
one(deaf); one(polite); one(away)
os.waitid(os.P_PID, one(lambda ready: polite(ready, stops=True)), os.WSTOPPED)
print(os.getppid(), flush=True)
if then == "end":
    sys.exit(3)
signal.pause()
"""


@every_user
@nested
def test_what_the_command_leaves_behind_is_ended(user: str, boxes: int) -> None:
    with held() as (reader, writer):
        ended = faultkit(*boxed(*PYTHON, LEAVES, str(writer), "end", boxes=boxes), user=user, pass_fds=[writer])
        os.close(writer)
        assert (ended.returncode, ended.stderr) == (3, "")
        assert drained(reader, 0) == "bye" * 3


@every_user
@pytest.mark.parametrize(("victim", "boxes"), [("front", 1), ("front", 2), ("keeper", 1), ("command", 1)])
def test_nothing_is_left_where_one_is_killed(victim: str, user: str, boxes: int) -> None:
    with held() as (reader, writer):
        argv = boxed(*PYTHON, LEAVES, str(writer), "wait", boxes=boxes)
        with started(*argv, user=user, pass_fds=[writer]) as running:
            os.close(writer)
            keeper = int(told(running))
            children = f"/proc/{keeper}/task/{keeper}/children"
            with open(children) as file:
                pids = {"front": running.pid, "keeper": keeper, "command": int(file.read().split()[0])}
            os.kill(pids[victim], signal.SIGKILL)
            assert drained(reader, SOON) == "bye" * 3
            assert running.wait(SOON) == (-signal.SIGKILL if victim == "front" else 128 + signal.SIGKILL)


@every_user
def test_where_both_are_killed_the_command_ends(user: str) -> None:
    with held() as (reader, writer):
        argv = boxed("sh", "-c", "echo $PPID; exec sleep 1000")
        with started(*argv, user=user, pass_fds=[writer]) as running:
            os.close(writer)
            keeper = int(told(running))
            running.send_signal(signal.SIGSTOP)
            os.kill(keeper, signal.SIGKILL)
            running.kill()
            assert drained(reader, SOON) == ""
