"""The tour: the whole catalogue once, in time, and nothing left of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from faultkit import causes
from tests.ordinary import CHECKOUT, command
from tests.shell import ENVIRONMENT, USERS, complaint, fast, faultkit, start


@pytest.mark.parametrize("user", USERS)
def test_everything_is_produced_within_90_seconds(user: str) -> None:
    began = time.monotonic()
    ended = faultkit("tour", "--json", user=user)
    assert time.monotonic() - began < 90
    assert ended.returncode == 0
    assert all(re.fullmatch(r"faultkit: tour: \d+ of \d+(, now \S+)?", line) for line in ended.stderr.splitlines())
    seen = {stop["cause"]: stop for stop in json.loads(ended.stdout)["causes"]}
    assert set(seen) == set(causes.names())
    assert all(stop["produced"] for stop in seen.values())
    assert seen["linger"]["rst_by"] == ["server"]
    assert seen["linger"]["client"] == "recv ECONNRESET"
    reasons = seen["linger"]["reasons"]
    assert reasons == (["TCP_STATE"] if user == "root" else ["TCP_STATE (inferred)"])


def test_the_table() -> None:
    ended = faultkit("tour", "--on", "host", user="nobody")
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert lines[0] == "Played on the host's loopback, 127.0.0.1."
    assert any("as promised" in line for line in lines)
    assert any("inside a private namespace only" in line for line in lines)


REFUSED = """
import dataclasses
from faultkit import causes
from faultkit.causes import linger, unread
from faultkit.commands.line.main import main
from faultkit.errors import Misuse, Unable
def refuse(error):
    async def script(play):
        raise error
    return dataclasses.replace(linger.CAUSE, script=script)
causes.by_family = lambda: [refuse(Misuse("port 1 is in use")), refuse(Unable("no such thing here")), unread.CAUSE]
main(["tour", "--on", "host", "--json"])
"""


def test_one_that_cannot_be_played_is_a_row() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REFUSED], capture_output=True, text=True, cwd=CHECKOUT, env=ENVIRONMENT, timeout=60
    )
    assert (ended.returncode, complaint(ended)) == (0, "")
    first, second, third = json.loads(ended.stdout)["causes"]
    assert (first["cannot"], second["cannot"], third["produced"]) == ("port 1 is in use", "no such thing here", True)


def test_two_runs_at_once_on_the_host() -> None:
    """Neither takes a port that the other has."""
    typed = ["idle-firewall", *fast("idle-firewall"), "--on", "host", "--quiet"]
    with start(*typed) as first, start(*typed) as second:
        for running in (first, second):
            assert (*running.communicate(timeout=60), running.returncode) == ("", "", 0)


@pytest.mark.parametrize("user", USERS)
def test_killed_it_leaves_no_process(user: str) -> None:
    argv = command(sys.executable, "-m", "faultkit", "tour", ordinary=user == "nobody")
    # Every process of the tour holds the pipe: it ends when the last of them has.
    tour = subprocess.Popen(argv, stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert tour.stdout is not None
    with pytest.raises(subprocess.TimeoutExpired):
        tour.wait(3)  # in the middle
    os.kill(tour.pid, signal.SIGKILL)
    with tour:
        assert tour.stdout.read() == b""
    assert tour.returncode == -signal.SIGKILL
