"""The counters are read when a RST has passed, and who listens with them."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.ordinary import CHECKOUT, as_nobody

# Two refusals, one after the other, on a stage of its own: what was read after each, and who listened.
PLAYED = """
import json, socket
from faultkit.evidence.transcript import Address
from faultkit.stage import open_stage
from faultkit.witness import watching

stage = open_stage("namespace", ipv6={ipv6})
with watching(stage) as seeing, socket.socket(stage.family) as held, socket.socket(stage.family) as open_port:
    held.bind((stage.host, 0))
    open_port.bind((stage.host, 0))
    open_port.listen()
    transcript = seeing.begin()
    for _ in range(2):
        with socket.socket(stage.family) as client:
            client.bind((stage.host, 0))
            transcript.roles[Address(*client.getsockname()[:2])] = "client"
            assert client.connect_ex(held.getsockname()), "refused"
        seeing.look()
    transcript.roles[Address(*held.getsockname()[:2])] = "server"
    seeing.end(transcript)
    rsts = [packet for packet in transcript.packets if "RST" in packet.flags]
    counts = transcript.counts
    print(json.dumps({{
        "moved": [count.moved.get("TcpOutRsts", 0) for count in counts],
        "passed": [count.passed_ns for count in counts[1:3]] == [rst.time_ns for rst in rsts],
        "clean": counts[1].ended_ns < rsts[1].time_ns,
        "listening": [count.listeners == {{Address(*open_port.getsockname()[:2])}} for count in counts],
        "strangers": transcript.strangers,
    }}))
"""
EXPECTED = {"moved": [0, 1, 2, 2], "passed": True, "clean": True, "listening": [True] * 4, "strangers": 0}


def _told(*, ipv6: bool, ordinary: bool) -> object:
    argv = (sys.executable, "-c", PLAYED.format(ipv6=ipv6))
    run = (
        as_nobody(*argv)
        if ordinary
        else subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_each_reading_has_the_resets_before_it_and_no_other() -> None:
    assert _told(ipv6=False, ordinary=False) == EXPECTED
    assert _told(ipv6=True, ordinary=False) == EXPECTED


def test_an_ordinary_user_reads_the_same() -> None:
    assert _told(ipv6=False, ordinary=True) == EXPECTED
