"""The trace is the whole machine's: which of its events are a run's own."""

from __future__ import annotations

from dataclasses import replace

from faultkit import witness
from faultkit.evidence.transcript import Address, Reset
from tests.made import BEGAN, CLIENT, SERVER, linger

OURS = Reset(BEGAN + 9_000, "sent", SERVER, CLIENT, "CLOSE", "TCP_STATE")
# Of another run of the same, in another namespace: the same addresses, the same ports.
THEIRS = replace(OURS, time_ns=BEGAN + 500_000_000, reason="TCP_KEEPALIVE_TIMEOUT")


def test_what_another_namespace_has_sent_from_the_same_ports_is_not_ours() -> None:
    transcript = linger()
    transcript.alone = True
    transcript.counters = {"TcpOutRsts": 1}
    assert witness.own([OURS, THEIRS], transcript) == [OURS]
    assert witness.own([OURS], transcript) == [OURS]


def test_what_a_firewall_has_dropped_before_the_capture_is_ours_by_the_counter() -> None:
    transcript = linger()
    transcript.alone = True
    transcript.counters = {"TcpOutRsts": 2}
    assert witness.own([OURS, THEIRS], transcript) == [OURS, THEIRS]


def test_between_other_ends_it_is_never_ours() -> None:
    transcript = linger()
    transcript.alone = True
    transcript.counters = {"TcpOutRsts": 2}
    assert witness.own([replace(OURS, destination=Address("127.0.0.1", 5))], transcript) == []


def test_where_others_are_counted_too_the_ends_decide() -> None:
    transcript = linger()
    transcript.alone = False
    transcript.counters = {}
    assert witness.own([OURS, THEIRS], transcript) == [OURS, THEIRS]
