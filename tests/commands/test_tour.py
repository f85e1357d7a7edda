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
from tests.ordinary import command
from tests.shell import ENVIRONMENT, USERS, faultkit


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
