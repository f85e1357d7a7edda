"""A run that is interrupted, killed, watched on a terminal, or that sees something else: each a real process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faultkit.playing.play import Countdown
from faultkit.stage import tracing
from faultkit.stage.firewall import find
from faultkit.views.progress import countdown
from tests.ordinary import CHECKOUT, command
from tests.shell import ENVIRONMENT, ROOT, USERS, faultkit, on_terminal, start
from tests.watch import inside, moved, until

every_user = pytest.mark.parametrize("user", USERS)
# click ends the line on which a terminal has put its ^C.
INTERRUPTED = "\nfaultkit: interrupted; nothing is left behind\n"
SYSTEM_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def rules_of(pid: int) -> str:
    """The firewall rules of the namespace that the process made."""
    user = [] if ROOT else ["--user", "--preserve-credentials"]
    enter = ["nsenter", "--target", str(pid), "--net", *user]
    shown = subprocess.run(
        [*enter, "iptables", "-S"], capture_output=True, text=True, check=False, env={**os.environ, "PATH": SYSTEM_PATH}
    )
    return shown.stdout


def hosts_rules() -> str:
    """The host's own, without the time of day; for root alone to read."""
    told = []
    for tool in ("iptables-save", "ip6tables-save", "nft list ruleset") if ROOT else ():
        program, *arguments = tool.split()
        shown = subprocess.run([find(program) or program, *arguments], capture_output=True, text=True, check=True)
        told += [tool, *(line for line in shown.stdout.splitlines() if not line.startswith("# "))]
    return "\n".join(told)


def trace_instances() -> list[str]:
    """Those of the machine; tracefs is mounted where nobody else sees it."""
    look = "mount -t tracefs tracefs /sys/kernel/tracing && ls /sys/kernel/tracing/instances"
    shown = subprocess.run(["unshare", "--mount", "sh", "-c", look], capture_output=True, text=True, check=True)
    return shown.stdout.split()


@pytest.fixture(scope="module")
def reasons() -> bool:
    """Can root read the kernel's reset reasons here?"""
    told = json.loads(faultkit("doctor", "--json").stdout)
    return bool(next(finding["works"] for finding in told if finding["name"] == "reset reasons"))


@pytest.fixture(autouse=True)
def the_host_is_as_it_was() -> Iterator[None]:
    before = hosts_rules()
    yield
    assert hosts_rules() == before


@contextlib.contextmanager
def in_the_middle(cause: str, user: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A run that waits for its probes, and the namespace that it made."""
    running = start(cause, "--keepalive", "30000", user=user, start_new_session=True)
    try:
        inode = moved(running)
        connected = re.compile(r"^ *\d+: \S+ \S+ 01 ", re.MULTILINE)  # proc_net_tcp.txt: ESTABLISHED
        until(lambda: connected.search(Path(f"/proc/{running.pid}/net/tcp").read_text()) is not None, running)
        if cause == "idle-firewall":
            until(lambda: rules_of(running.pid).count("-j DROP") == 2, running)
        yield running, inode
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


WAITING = ["keepalive-timeout", "idle-firewall"]


@every_user
@pytest.mark.parametrize("cause", WAITING)
def test_ctrl_c_in_the_middle(cause: str, user: str) -> None:
    with in_the_middle(cause, user) as (running, inode):
        assert inode and str(running.pid) in inside(inode)
        began = time.monotonic()
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
        output, complaint = running.communicate(timeout=20)
        assert time.monotonic() - began < 2
        assert running.returncode == 130
        assert output == ""
        assert complaint == INTERRUPTED
        assert inside(inode) == []
        if ROOT:
            assert tracing.path(running.pid).name not in trace_instances()


@pytest.mark.parametrize("cause", WAITING)
@every_user
def test_kill_9_in_the_middle(cause: str, user: str, reasons: bool) -> None:
    with in_the_middle(cause, user) as (running, inode):
        name = tracing.path(running.pid).name
        if ROOT:
            assert (name in trace_instances()) == (reasons and user == "root")
        running.kill()
        assert running.wait(10) == -signal.SIGKILL
        until(lambda: inside(inode) == [])
        if ROOT:
            assert name not in trace_instances()


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_kill_9_at_any_moment() -> None:
    """Where it is hit is left to chance: whatever it has begun by then is taken away."""

    def kill(milliseconds: int) -> str:
        running = start("linger", "--repeat", "100000")
        # This sleep waits for nothing: it spreads the blows over the start.
        time.sleep(milliseconds / 1000)
        running.kill()
        running.communicate()
        return tracing.path(running.pid).name

    with ThreadPoolExecutor(4) as pool:
        names = set(pool.map(kill, range(100, 420, 20)))
    until(lambda: not names & set(trace_instances()))


def test_ctrl_c_at_any_moment_of_the_start() -> None:
    """It is never lost, and leaves nothing: until the run begins it simply ends the process."""

    def interrupt(milliseconds: int) -> str:
        running = start("keepalive-timeout", "--keepalive", "30000", start_new_session=True)
        # This sleep waits for nothing: it spreads the blows over the start.
        time.sleep(milliseconds / 1000)
        os.killpg(running.pid, signal.SIGINT)
        output, _ = running.communicate(timeout=20)
        assert running.returncode  # 130 or the signal itself; 1 where it met Python's own start
        assert output == ""
        return tracing.path(running.pid).name

    with ThreadPoolExecutor(4) as pool:
        names = set(pool.map(interrupt, range(120, 420, 15)))
    if ROOT:
        until(lambda: not names & set(trace_instances()))


def test_ctrl_c_in_a_series() -> None:
    running = start("linger", "--repeat", "1000000", start_new_session=True)
    moved(running)
    # It plays once the namespace has counted a reset.
    counted = re.compile(r"^Tcp: \d.* [1-9]\d* \d+$", re.MULTILINE)
    until(lambda: counted.search(Path(f"/proc/{running.pid}/net/snmp").read_text()) is not None, running)
    os.killpg(running.pid, signal.SIGINT)
    output, complaint = running.communicate(timeout=20)
    assert (running.returncode, output) == (130, "")
    assert complaint == INTERRUPTED


# Something else is seen

ALTERED = """
import dataclasses, sys
from faultkit import causes
from faultkit.commands import cli
from faultkit.causes import linger
def promise(options, play):
    told = linger.promise(options, play)
    return dataclasses.replace(told, calls={**told.calls, "client": ("connect ok", "send 1", "recv EOF")})
linger.CAUSE = dataclasses.replace(linger.CAUSE, promise=promise)
cli.main()
"""


def otherwise(*arguments: str, user: str) -> subprocess.CompletedProcess[str]:
    argv = command(sys.executable, "-c", ALTERED, "linger", *arguments, ordinary=user == "nobody")
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=ENVIRONMENT, timeout=60)


@every_user
def test_something_else_is_exit_status_1(user: str) -> None:
    ended = otherwise(user=user)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "✘ Something else was seen." in ended.stdout
    assert "Produced as promised" not in ended.stdout
    assert all(len(line) <= 80 for line in ended.stdout.splitlines())
    table = ended.stdout[ended.stdout.index("expected") :]
    assert re.search(r"calls +│ client +│ connect ok +│ connect ok", table)
    assert re.search(r"│ recv EOF +│ recv ECONNRESET", table)


def test_something_else_in_json() -> None:
    ended = otherwise("--json", user="")
    assert (ended.returncode, ended.stderr) == (1, "")
    told = json.loads(ended.stdout)
    assert told["verdict"]["produced"] is False
    differing = [check for check in told["verdict"]["checks"] if not check["agrees"]]
    assert [(check["witness"], check["name"]) for check in differing] == [("calls", "client")]
    assert differing[0]["expected"] == ["connect ok", "send 1", "recv EOF"]
    assert differing[0]["seen"] == ["connect ok", "send 1", "recv ECONNRESET", "recv EOF", "send EPIPE"]


def test_every_odd_one_of_a_series_is_shown() -> None:
    for quiet in ([], ["--quiet"]):
        ended = otherwise("--repeat", "3", *quiet, user="")
        assert (ended.returncode, ended.stderr) == (1, "")
        assert ("0 of 3 as promised" in ended.stdout) == (not quiet)
        for number in (1, 2, 3):
            assert f"Run {number} of 3" in ended.stdout
        assert ended.stdout.count("✘ Something else was seen.") == 3
    ended = otherwise("--repeat", "3", "--json", user="")
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["repeat"]["produced"]) == (1, 0)
    assert [odd["run"] for odd in told["odd"]] == [1, 2, 3]
    assert otherwise("--quiet", user="").stdout.count("✘ Something else was seen.") == 1


# What a person sees who waits

FAST = ("--keepalive", "1000", "--interval", "1000", "--count", "1")


def test_a_countdown_on_a_terminal() -> None:
    status, told = on_terminal("keepalive-timeout", *FAST, columns=80)
    assert status == 0
    assert re.search(r"keepalive probe 0 of 1, next in [01] s, ETIMEDOUT in [12] s", told)
    assert re.search(r"keepalive probe 1 of 1, ETIMEDOUT in [01] s", told)


def test_a_progress_bar_on_a_terminal() -> None:
    status, told = on_terminal("linger", "--repeat", "150", columns=80)
    assert status == 0
    assert re.search(r"linger.*\b\d+/150\b", told)
    assert "150 of 150 as promised" in told


def test_progress_is_on_stderr_alone() -> None:
    ours, theirs = os.openpty()
    running = start("keepalive-timeout", *FAST, stderr=theirs)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # EIO: closed at the other end
        while part := os.read(ours, 65536):
            told += part
    os.close(ours)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert b"keepalive probe" in told
    assert "keepalive probe " not in output
    assert "\x1b" not in output


def test_no_progress_where_nobody_waits() -> None:
    status, told = on_terminal("linger", "--repeat", "3", "--quiet", columns=80)
    assert (status, told) == (0, "")
    assert faultkit("linger", "--repeat", "20").stderr == ""


def test_the_line_of_the_countdown() -> None:
    waiting = Countdown("keepalive probe", "ETIMEDOUT", 100.0, (2.0, 3.0), 4.0)
    assert countdown(waiting, 100.0) == "keepalive probe 0 of 2, next in 2 s, ETIMEDOUT in 4 s"
    assert countdown(waiting, 102.0) == "keepalive probe 1 of 2, next in 1 s, ETIMEDOUT in 2 s"
    assert countdown(waiting, 103.0) == "keepalive probe 2 of 2, ETIMEDOUT in 1 s"
    assert countdown(waiting, 104.0) == "keepalive probe 2 of 2, ETIMEDOUT is due"
    assert countdown(Countdown("", "TCP_USER_TIMEOUT", 1.0, (), 3.0), 2.0) == "TCP_USER_TIMEOUT in 2 s"
