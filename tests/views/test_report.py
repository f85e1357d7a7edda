"""What a run prints, drawn from made-up transcripts; `tests/commands/test_cli.py` has the real ones."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from faultkit import causes
from faultkit.evidence.transcript import Measurement, Tally, Transcript
from faultkit.evidence.verdict import judge
from faultkit.playing.run import Outcome
from faultkit.stage import Stage
from faultkit.stage.namespace import Namespace
from faultkit.views import report
from tests.made import PROMISE, linger

NAMESPACE = Stage(Namespace(2, 1, False), socket.AF_INET)
HOST = Stage(None, socket.AF_INET, "it is forbidden here")


def outcome(transcript: Transcript, stage: Stage = NAMESPACE) -> Outcome:
    cause = causes.load("linger")
    return Outcome(cause, cause.options(), stage, PROMISE, transcript, judge(PROMISE, transcript))


def drawn(draw: Callable[..., Any], *arguments: Any, width: int = 80, **options: Any) -> str:
    stream = io.StringIO()
    draw(Console(file=stream, width=width, highlight=False, emoji=False), *arguments, **options)
    return stream.getvalue()


def test_a_run_whole() -> None:
    told = drawn(report.show, outcome(linger()))
    places = [
        told.index(part)
        for part in (
            "linger: The server reads one byte, then closes with SO_LINGER {1, 0}.",
            "Played in a private network namespace, 127.0.0.1.",
            "RST,ACK seq=1 ack=2",
            "✔ Produced as promised.",
            "Evidence",
            "Who sent the RST, and why",
            "Taken for",
            "Met in the wild",
            "What to do about it",
        )
    ]
    assert places == sorted(places)
    assert all(line == line.rstrip() and len(line) <= 80 for line in told.splitlines())


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_evidence_of_each_witness(width: int) -> None:
    seen = linger()
    seen.measurements.append(Measurement("expiry", 3.0, 3.0555))
    lines = drawn(report.evidence, seen, width=width).splitlines()
    told = " ".join(" ".join(lines).split())
    assert "calls client: connect ok, send 1, recv ECONNRESET, recv EOF, send EPIPE" in told
    assert "calls server: accept ok, recv 1, close ok" in told
    assert "wire 6 packets; RST: server RST,ACK (formed as a socket's own abort)" in told
    assert "kernel TcpEstabResets +2, TcpExtTCPAbortOnData +1, TcpOutRsts +1" in told
    assert "TcpInSegs" not in told
    assert "kernel reset reasons: server TCP_STATE" in told
    assert "clock expiry: predicted 3.000 s, measured 3.056 s" in told or "measured 3.055 s" in told
    assert max(map(len, lines)) <= width


def test_a_witness_that_was_not_there_is_named_and_claims_nothing() -> None:
    seen = linger()
    seen.captured, seen.traced, seen.alone = [], [], False
    seen.absent = {"wire": "no capability", "reasons": "no root"}
    told = " ".join(drawn(report.show, outcome(seen, HOST)).split())
    assert "Played on the host's loopback, 127.0.0.1. Not in a private namespace: it is forbidden here." in told
    assert "wire not seen: no capability" in told
    assert "kernel reset reasons not seen: no root" in told
    assert "(the host's counters, which others move too)" in told
    assert "6 packets" not in told
    assert "0 packets" not in told
    assert "reset reasons: " not in told
    assert "kernel's own reason" not in told


def test_from_a_part_of_the_wire_nothing_is_concluded() -> None:
    seen = linger()
    seen.captured, seen.absent = seen.captured[:3], {"wire": "the capture lost 3 packets"}
    told = " ".join(drawn(report.show, outcome(seen)).split())
    assert "wire 3 packets, from which nothing is concluded: the capture lost 3 packets" in told
    assert "RST: none" not in told
    assert "Not all: the capture lost 3 packets." in drawn(report.packets, outcome(seen))


def test_what_differs_stands_side_by_side() -> None:
    seen = linger()
    del seen.calls[5:]
    told = drawn(report.verdict, outcome(seen))
    assert "✘ Something else was seen." in told
    assert "Produced as promised" not in told
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if line.startswith("│")]
    assert rows == [
        ["calls", "client", "connect ok", "connect ok"],
        ["", "", "send 1", "send 1"],
        ["", "", "recv ECONNRESET", ""],
        ["", "", "recv EOF", ""],
        ["", "", "send EPIPE", ""],
    ]


def test_brackets_are_no_markup() -> None:
    seen = linger()
    seen.absent = {"wire": "no [bold]capability[/bold]"}
    assert "[bold]capability[/bold]" in drawn(report.evidence, seen)


def test_a_series_shows_every_odd_one() -> None:
    odd = linger()
    del odd.calls[-1]
    runs = [outcome(linger()), outcome(odd), outcome(linger())]
    told = drawn(report.series, runs, quiet=False)
    assert "2 of 3 as promised" in told
    assert "Run 2 of 3" in told
    assert "Run 1 of 3" not in told
    quiet = drawn(report.series, runs, quiet=True)
    assert "as promised" not in quiet.replace("Produced as promised", "")
    assert "Run 2 of 3" in quiet
    assert drawn(report.series, runs[:1], quiet=True) == ""
    assert drawn(report.series, runs[:1], quiet=False).strip() == "1 of 1 as promised"


def test_a_search_is_a_chart_with_rates() -> None:
    seen = linger()
    seen.tallies = [Tally(f"{n} ms", "answered" if n != 495 else "recv ECONNRESET") for n in range(501, 489, -1)]
    told = drawn(report.chart, seen)
    rows = [line for line in told.splitlines() if " to " in line]
    assert rows == ["   501 ms to 492 ms    . . . . . . R . . .", "   491 ms to 490 ms    . ."]
    assert ".  answered: 11 of 12 (91.7 %)" in told
    assert "R  recv ECONNRESET: 1 of 12 (8.3 %)" in told


def test_any_number_of_outcomes_fits_a_chart() -> None:
    seen = linger()
    seen.tallies = [Tally(f"{n} ms", f"outcome {n}") for n in range(12)]
    assert "outcome 11: 1 of 12" in drawn(report.chart, seen)


def test_the_table_of_packets_is_never_folded() -> None:
    told = drawn(report.packets, outcome(linger()), width=20)
    assert "[RST, ACK] Seq=1 Ack=2" in told
    assert all(line == line.rstrip() for line in told.splitlines())
    seen = linger()
    seen.captured, seen.absent = [], {"wire": "no capability"}
    assert drawn(report.packets, outcome(seen)).strip() == "No packets: no capability."
