"""Every check can fail, each alone, and what was not seen is never counted as agreeing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from faultkit.evidence.transcript import Measurement, Reset, Transcript
from faultkit.evidence.verdict import AtLeast, Promise, Rst, Verdict, judge
from tests.made import BEGAN, CLIENT, PROMISE, SERVER, call, linger, packet


def names(verdict: Verdict) -> list[tuple[str, str]]:
    return [(check.witness, check.name) for check in verdict.differences]


def test_what_is_as_promised_is_produced() -> None:
    verdict = judge(PROMISE, linger())
    assert verdict.produced
    assert verdict.differences == ()
    assert [(check.witness, check.name) for check in verdict.checks] == [
        ("calls", "client"),
        ("calls", "server"),
        ("wire", "packets"),
        ("wire", "resets"),
        ("kernel", "TcpExtTCPAbortOnData"),
        ("kernel", "TcpOutRsts"),
        ("kernel", "TcpEstabResets"),
        ("kernel", "reset reasons"),
    ]


def _wrong_errno(seen: Transcript) -> None:
    seen.calls[5] = replace(seen.calls[5], outcome="ETIMEDOUT")


def _a_call_less(seen: Transcript) -> None:
    del seen.calls[-1]


def _a_call_more(seen: Transcript) -> None:
    seen.calls.append(call(14, "server", "send", "5"))


def _other_order(seen: Transcript) -> None:
    seen.calls[5], seen.calls[6] = seen.calls[6], seen.calls[5]


def _a_packet_more(seen: Transcript) -> None:
    seen.captured.insert(5, packet(9, SERVER, "FIN,ACK", 5001, 1002))


def _a_packet_less(seen: Transcript) -> None:
    del seen.captured[3]


def _other_size(seen: Transcript) -> None:
    seen.captured[3] = packet(5, CLIENT, "PSH,ACK", 1001, 5001, 2)


def _reset_by_the_other(seen: Transcript) -> None:
    seen.captured[5] = packet(10, CLIENT, "RST,ACK", 1002, 5001)


def _reset_of_the_other_form(seen: Transcript) -> None:
    seen.captured[5] = packet(10, SERVER, "RST,ACK", 5001, 1002, window=0)


def _two_resets(seen: Transcript) -> None:
    seen.captured.append(packet(11, SERVER, "RST,ACK", 5001, 1002))


def _counter_too_high(seen: Transcript) -> None:
    seen.counted["TcpOutRsts"] = 2


def _counter_that_stood(seen: Transcript) -> None:
    del seen.counted["TcpEstabResets"]


def _counter_not_promised(seen: Transcript) -> None:
    seen.counted["TcpExtTCPAbortOnClose"] = 1


def _other_reason(seen: Transcript) -> None:
    seen.traced[0] = replace(seen.traced[0], reason="TCP_ABORT_ON_CLOSE")


def _no_reason(seen: Transcript) -> None:
    seen.traced.clear()


def _a_reason_more(seen: Transcript) -> None:
    seen.traced.append(Reset(seen.began_ns + 12_000, "sent", CLIENT, SERVER, "", "NO_SOCKET"))


@pytest.mark.parametrize(
    ("spoil", "differs"),
    [
        (_wrong_errno, [("calls", "client")]),
        (_a_call_less, [("calls", "client")]),
        (_a_call_more, [("calls", "server")]),
        (_other_order, [("calls", "client")]),
        (_a_packet_more, [("wire", "packets")]),
        (_a_packet_less, [("wire", "packets")]),
        (_other_size, [("wire", "packets")]),
        (_reset_by_the_other, [("wire", "packets"), ("wire", "resets")]),
        (_reset_of_the_other_form, [("wire", "resets")]),
        (_two_resets, [("wire", "packets"), ("wire", "resets")]),
        (_counter_too_high, [("kernel", "TcpOutRsts")]),
        (_counter_that_stood, [("kernel", "TcpEstabResets")]),
        (_counter_not_promised, [("kernel", "TcpExtTCPAbortOnClose")]),
        (_other_reason, [("kernel", "reset reasons")]),
        (_no_reason, [("kernel", "reset reasons")]),
        (_a_reason_more, [("kernel", "reset reasons")]),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_each_check_fails_alone(spoil: Callable[[Transcript], None], differs: list[tuple[str, str]]) -> None:
    seen = linger()
    spoil(seen)
    verdict = judge(PROMISE, seen)
    assert not verdict.produced
    assert names(verdict) == differs


def test_a_role_that_said_nothing_is_asked_too() -> None:
    silent = replace(PROMISE, calls={**PROMISE.calls, "server": ()})
    assert names(judge(silent, linger())) == [("calls", "server")]


# The clock

TIMED = replace(PROMISE, measurements=("expiry",))


@pytest.mark.parametrize(
    ("measured", "produced"), [(1.9, False), (2.0, True), (2.5, True), (2.6, False), (0.0, False), (None, False)]
)
def test_a_measurement_may_be_early_late_or_missing(measured: float | None, produced: bool) -> None:
    seen = linger()
    seen.measurements = [] if measured is None else [Measurement("expiry", 2.0, measured)]
    seen.measurements.append(Measurement("another", 2.0, 2.0))
    verdict = judge(TIMED, seen)
    assert verdict.produced is produced
    assert names(verdict) == ([] if produced else [("clock", "expiry")])
    if measured is None:
        assert verdict.differences[0].seen == ("not measured",)


def test_a_run_that_is_overdue_is_not_produced_whatever_was_seen() -> None:
    seen = linger()
    seen.overdue = True
    verdict = judge(PROMISE, seen)
    assert names(verdict) == [("clock", "end")]
    seen.calls.append(call(14, "client", "recv", "cancelled"))
    late = judge(PROMISE, seen)
    assert names(late) == [("calls", "client"), ("clock", "end")]
    assert late.differences[1].seen == ("still waiting", "client recv")


# Witnesses that were not allowed


def test_a_witness_that_was_not_there_is_not_asked() -> None:
    seen = linger()
    seen.captured, seen.traced = [], []
    seen.absent = {"wire": "not allowed", "reasons": "not allowed"}
    verdict = judge(PROMISE, seen)
    assert verdict.produced
    assert {(check.witness, check.name) for check in verdict.checks} & {
        ("wire", "packets"),
        ("wire", "resets"),
        ("kernel", "reset reasons"),
    } == set()
    assert {check.witness for check in verdict.checks} == {"calls", "kernel"}


@pytest.mark.parametrize("absent", ["wire", "reasons"])
def test_one_that_saw_only_part_is_not_believed_either_way(absent: str) -> None:
    seen = linger()
    seen.absent = {absent: "lost 3"}
    asked = {check.witness for check in judge(PROMISE, seen).checks if check.name not in PROMISE.counters}  # type: ignore[operator]
    assert asked == {"calls", "wire", "kernel"} - ({"wire"} if absent == "wire" else {"kernel"})


ABORT, ANSWER = (Reset(BEGAN, "sent", SERVER, CLIENT, "", reason) for reason in ("TCP_ABORT_ON_CLOSE", "TCP_FLAGS"))
BOTH = (Rst("server", "TCP_ABORT_ON_CLOSE"), Rst("server", "TCP_FLAGS"))
MANY = (Rst("server", "TCP_ABORT_ON_CLOSE", " *"), Rst("server", "TCP_FLAGS", " +"))


@pytest.mark.parametrize(
    ("promised", "traced", "produced"),
    [
        (BOTH, [ABORT, ANSWER], True),
        (BOTH, [ANSWER, ABORT], True),  # the trace's own order
        (BOTH, [ANSWER], False),
        (BOTH, [ANSWER, ANSWER], False),
        (BOTH, [ANSWER, ABORT, ABORT], False),
        (BOTH, [], False),
        ((*BOTH, BOTH[0]), [ABORT, ABORT, ANSWER], True),
        (MANY, [ANSWER, ANSWER], True),
        (MANY, [ANSWER, ABORT, ABORT], True),
        (MANY, [ABORT], False),
        ((), [], True),
        ((), [ABORT], False),
    ],
)
@pytest.mark.parametrize("captured", [0, 5, 6])
def test_without_a_whole_capture_the_reasons_have_no_order(
    promised: tuple[Rst, ...], traced: list[Reset], produced: bool, captured: int
) -> None:
    seen = linger()
    seen.captured, seen.traced, seen.absent = seen.captured[:captured], traced, {"wire": "lost 3"}
    verdict = judge(replace(PROMISE, resets=promised), seen)
    assert names(verdict) == ([] if produced else [("kernel", "reset reasons")])


def test_with_one_they_have_that_of_the_packets() -> None:
    seen = linger()
    seen.captured.append(packet(11, SERVER, "RST", 5001, 0, window=0))
    seen.traced = [ANSWER, ABORT]
    swapped = replace(PROMISE, packets=None, resets=BOTH[::-1])
    assert ("kernel", "reset reasons") not in names(judge(replace(PROMISE, resets=BOTH), seen))
    assert ("kernel", "reset reasons") in names(judge(swapped, seen))


def test_one_that_was_there_and_saw_nothing_disagrees() -> None:
    seen = linger()
    seen.captured = []
    assert names(judge(PROMISE, seen)) == [("wire", "packets"), ("wire", "resets")]


def test_on_the_host_counters_may_be_higher_and_not_lower() -> None:
    seen = linger()
    seen.alone = False
    seen.counted |= {"TcpOutRsts": 7, "TcpExtTCPAbortOnClose": 3}
    assert judge(PROMISE, seen).produced
    seen.counted["TcpOutRsts"] = 0
    assert names(judge(PROMISE, seen)) == [("kernel", "TcpOutRsts")]


# What a promise may leave open


def test_at_least() -> None:
    open_ended = replace(PROMISE, counters={**(PROMISE.counters or {}), "TcpRetransSegs": AtLeast(2)})
    for n, produced in ((0, False), (1, False), (2, True), (9, True)):
        seen = linger()
        seen.counted["TcpRetransSegs"] = n
        verdict = judge(open_ended, seen)
        assert verdict.produced is produced
        if not produced:
            assert (verdict.differences[0].expected, verdict.differences[0].seen) == (("2 or more",), (str(n),))


@pytest.mark.parametrize(
    ("items", "sent", "produced"),
    [
        (("send n",), ["5"], True),
        (("send n",), ["ok"], False),
        (("send 5",), ["50"], False),
        (("send n +",), [], False),
        (("send n +",), ["5", "6", "7"], True),
        (("send n *",), [], True),
        (("send n *", "send 7"), ["5", "7"], True),
        (("send 5 *",), ["5", "6"], False),
        ((), ["5"], False),
        (("send .",), ["5"], False),
    ],
)
def test_sequences(items: tuple[str, ...], sent: list[str], produced: bool) -> None:
    seen = Transcript(0, calls=[call(n, "client", "send", outcome) for n, outcome in enumerate(sent)])
    promise = Promise(calls={"client": items}, packets=None, resets=None, counters=None)
    assert judge(promise, seen).produced is produced


def test_nothing_promised_is_nothing_checked() -> None:
    assert judge(Promise(calls={}, packets=None, resets=None, counters=None), linger()).checks == ()


def test_resets_that_may_be_many() -> None:
    many = replace(PROMISE, packets=None, resets=(Rst("server", "TCP_STATE", " +"),))
    seen = linger()
    seen.captured.append(packet(11, SERVER, "RST,ACK", 5001, 1002))
    seen.traced.append(seen.traced[0])
    assert judge(many, seen).produced
    seen.captured = seen.captured[:5]
    assert names(judge(many, seen)) == [("wire", "resets")]


def test_set_up_calls_are_not_promised() -> None:
    seen = linger()
    seen.calls.insert(0, call(0, "server", "bind", "ok"))
    assert judge(PROMISE, seen).produced
