from __future__ import annotations

import json
import socket
from typing import Any

import faultkit
from faultkit import causes
from faultkit.cause import checked
from faultkit.evidence.transcript import Measurement, Step, Tally, Transcript
from faultkit.evidence.verdict import judge
from faultkit.playing.run import Outcome
from faultkit.stage import Stage
from faultkit.stage.namespace import Namespace
from faultkit.views import document
from tests.made import PROMISE, linger


def outcome(transcript: Transcript) -> Outcome:
    cause = causes.load("linger")
    stage = Stage(Namespace(2, 1, True), socket.AF_INET6)
    chosen = checked(cause, {"unsent": 5})
    return Outcome(cause, chosen, stage, PROMISE, transcript, judge(PROMISE, transcript))


def through_json(document: dict[str, Any]) -> dict[str, Any]:
    told = json.loads(json.dumps(document))
    assert isinstance(told, dict)
    assert told == document
    return told


def test_one_run() -> None:
    seen = linger()
    seen.measurements.append(Measurement("expiry", 3.0, 3.05))
    seen.steps.append(Step(seen.began_ns + 500_000, "server", "deaf"))
    seen.tallies.append(Tally("501 ms", "answered"))
    told = through_json(document.single(outcome(seen)))
    assert list(told) == [
        "faultkit",
        "cause",
        "family",
        "doing",
        "options",
        "stage",
        "transcript",
        "verdict",
        "evidence",
    ]
    assert (told["faultkit"], told["cause"], told["family"]) == (faultkit.__version__, "linger", "application")
    assert told["options"] == {"unsent": 5}
    assert told["stage"] == {
        "where": "namespace",
        "described": "a private user and network namespace",
        "host": "::1",
        "refused": None,
    }
    transcript = told["transcript"]
    assert transcript["roles"] == {"127.0.0.1:40001": "client", "127.0.0.1:7654": "server"}
    assert [call["outcome"] for call in transcript["calls"] if call["call"] == "recv"] == ["1", "ECONNRESET", "EOF"]
    reset = transcript["packets"][-1]
    assert (reset["from"], reset["flags"], reset["seq"], reset["ack"]) == ("server", ["RST", "ACK"], 1, 2)
    assert reset["time"] == 0.00001
    assert [(event["direction"], event["reason"]) for event in transcript["resets"]] == [
        ("sent", "TCP_STATE"),
        ("received", ""),
    ]
    assert transcript["steps"] == [{"time": 0.0005, "actor": "server", "text": "deaf"}]
    assert transcript["tallies"] == [{"label": "501 ms", "outcome": "answered"}]
    assert told["verdict"]["produced"] is True
    assert len(told["verdict"]["checks"]) == 8
    evidence = told["evidence"]
    assert evidence["counters"]["TcpOutRsts"] == 1
    assert evidence["measurements"] == [
        {"name": "expiry", "predicted": 3.0, "measured": 3.05, "latest": 3.675, "withheld": 0.0, "agrees": True}
    ]
    assert [(one["by"], one["reason"], one["inferred"]) for one in evidence["resets"]] == [
        ("server", "TCP_STATE", False)
    ]
    assert evidence["not_seen"] == {}


def test_durations_are_milliseconds_as_on_the_command_line() -> None:
    chosen = causes.load("keepalive-timeout")
    told = document.options(checked(chosen, {"user_timeout_seconds": 1.5, "with_data": True}))
    assert told == {"keepalive": 1000, "interval": 1000, "count": 2, "with-data": True, "user-timeout": 1500}


def test_a_series_holds_the_first_and_every_odd_one() -> None:
    odd = linger()
    del odd.calls[-1]
    told = through_json(document.series([outcome(linger()), outcome(odd), outcome(linger())]))
    assert told["repeat"] == {"runs": 3, "produced": 2, "seconds": [0.001, 0.001, 0.001]}
    assert told["first"]["verdict"]["produced"] is True
    (shown,) = told["odd"]
    assert shown["run"] == 2
    differing = [check for check in shown["verdict"]["checks"] if not check["agrees"]]
    assert [(check["witness"], check["name"]) for check in differing] == [("calls", "client")]
    assert "send EPIPE" not in differing[0]["seen"]


def test_what_was_not_seen_is_named() -> None:
    seen = linger()
    seen.absent, seen.alone = {"wire": "no capability"}, False
    evidence = document.outcome(outcome(seen))["evidence"]
    assert evidence["not_seen"] == {"wire": "no capability"}
    assert evidence["counters_are_ours_alone"] is False
