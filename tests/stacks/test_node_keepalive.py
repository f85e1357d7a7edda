"""node-keepalive, seen through its command: Node's words after 12 s, ten probes a second apart, and the numbers of --full."""

from __future__ import annotations

from itertools import pairwise

import pytest

from faultkit.acting.play import rehearsal
from faultkit.cause import checked
from faultkit.playing import stack
from faultkit.stage import sysctl
from tests.shell import USERS
from tests.stacks.played import document, lines, resets

NAME = "node-keepalive"
STACK = stack.load(NAME)
every_user = pytest.mark.parametrize("user", USERS)


@every_user
def test_node_gives_up_after_12_seconds_and_ten_probes(user: str) -> None:
    told = document(NAME, user=user)
    assert lines(told, "client") == [
        "the server says hello",
        "Error: read ETIMEDOUT, code ETIMEDOUT, syscall read",
    ]
    [expiry] = told["evidence"]["measurements"]
    assert expiry["predicted"] == 12
    assert 12 <= expiry["measured"] < 13.8
    probes = [one["time"] for one in told["transcript"]["packets"] if one["mark"] == "keep-alive"]
    assert len(probes) == 10
    assert all(0.99 < later - sooner < 1.3 for sooner, later in pairwise(probes))
    assert resets(told) == [("client", "server", "RST,ACK")]


@every_user
def test_with_the_fix_the_probes_are_answered_and_keep_it(user: str) -> None:
    told = document(NAME, "--fixed", user=user)
    assert lines(told, "client") == ["the server says hello", "the server says still there?"]
    assert told["evidence"]["counters"]["TcpExtTCPKeepAlive"] == 2
    assert not resets(told)


def test_the_12_minutes_are_the_kernels_numbers() -> None:
    """Played in full it takes as long, so the promise is asked: `faultkit stack node-keepalive --full`."""
    interval, count = int(sysctl.read("ipv4.tcp_keepalive_intvl")), int(sysctl.read("ipv4.tcp_keepalive_probes"))
    full = checked(STACK, {"full": True})
    promised = STACK.promise(full, rehearsal(STACK.name, full))
    assert promised.counters is not None
    assert promised.counters["TcpExtTCPKeepAlive"] == count
    assert f"ETIMEDOUT after {2 + interval * count} s" in STACK.doing(full)
    minutes, seconds = divmod(2 + interval * count, 60)
    assert f"{minutes} min {seconds} s (--full)" in STACK.doing(checked(STACK, {}))
    # What --full takes out of the client's file is in it.
    assert STACK.files(fixed=False)["client.js"].count("socket.setKeepAlive(true, 2000);") == 1
