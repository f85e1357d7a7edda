"""The trace is the whole machine's: which of its events are a run's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faultkit import witness
from faultkit.evidence.transcript import Address, Reset
from tests.made import BEGAN, CLIENT, SERVER, linger

OURS = Reset(BEGAN + 9_000, "sent", SERVER, CLIENT, "CLOSE", "TCP_STATE")
# Of another run of the same, in another namespace: the same addresses, the same ports.
THEIRS = replace(OURS, time_ns=BEGAN + 500_000_000, reason="TCP_KEEPALIVE_TIMEOUT")


def test_what_another_namespace_has_sent_from_the_same_ports_is_not_ours() -> None:
    transcript = linger()
    transcript.alone = True
    transcript.counted = {"TcpOutRsts": 1}
    assert witness.own([OURS, THEIRS], transcript) == [OURS]
    assert witness.own([OURS], transcript) == [OURS]


def test_what_a_firewall_has_dropped_before_the_capture_is_ours_by_the_counter() -> None:
    transcript = linger()
    transcript.alone = True
    transcript.counted = {"TcpOutRsts": 2}
    assert witness.own([OURS, THEIRS], transcript) == [OURS, THEIRS]


def test_between_other_ends_it_is_never_ours() -> None:
    transcript = linger()
    transcript.alone = True
    transcript.counted = {"TcpOutRsts": 2}
    assert witness.own([replace(OURS, destination=Address("127.0.0.1", 5))], transcript) == []


def test_where_others_are_counted_too_the_ends_decide() -> None:
    transcript = linger()
    transcript.alone = False
    transcript.counted = {}
    assert witness.own([OURS, THEIRS], transcript) == [OURS, THEIRS]


LISTENERS = replace(OURS, destination=Address("0.0.0.0", 0), reason="NO_SOCKET")


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("counted", "told"), [(2, True), (1, False)])
def test_without_a_whole_capture_the_count_tells_whether_all_can_be_ours(alone: bool, counted: int, told: bool) -> None:
    transcript = linger()
    transcript.alone, transcript.absent, transcript.counted = alone, {"wire": "lost 3"}, {"TcpOutRsts": counted}
    witness.take_reasons(transcript, [OURS, LISTENERS], 0)
    assert transcript.resets == ([OURS, LISTENERS] if told else None)
    if not told:
        assert transcript.absent["reasons"].startswith("the trace has 2 resets from these ports, of which this network")


def test_what_lost_events_is_not_whole() -> None:
    transcript = linger()
    witness.take_reasons(transcript, [OURS], 2)
    assert (transcript.traced, transcript.resets) == ([OURS], None)
    assert transcript.absent == {"reasons": "the trace lost 2 events, so what it saw is not whole"}
