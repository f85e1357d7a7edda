"""Who sent each RST is read off the witnesses: exact where the kernel says it, inferred where it does not, or left open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faultkit.evidence.attribution import attribute
from faultkit.evidence.reasons import REASONS
from faultkit.evidence.transcript import Count, Packet, Reset, Transcript
from tests.made import BEGAN, CLIENT, SERVER, linger, packet


def aborted() -> Transcript:
    """With the call that makes close() an abort, and the RST within it, as it is on a real stage."""
    seen = linger()
    (close,) = [call for call in seen.calls if call.name == "close"]
    seen.calls[4:5] = [
        replace(close, name="setsockopt", argument="SO_LINGER {1, 0}", began_ns=BEGAN + 8_500, ended_ns=BEGAN + 8_600),
        replace(close, ended_ns=BEGAN + 10_500),
    ]
    return seen


def test_the_kernels_own_word() -> None:
    (found,) = attribute(linger())
    assert (found.by, found.reason, found.inferred) == ("server", "TCP_STATE", False)
    assert "The server's socket sent it: RST,ACK with window 64" in found.sentences
    assert "TCP_STATE in state CLOSE" in found.sentences


def test_without_it_the_counter_tells() -> None:
    seen = aborted()
    seen.traced, seen.absent = [], {"reasons": "not allowed"}
    (found,) = attribute(seen)
    assert (found.by, found.reason, found.inferred) == ("server", "TCP_STATE", True)
    assert "Inferred from TcpExtTCPAbortOnData" in found.sentences


def test_without_packets_the_kernels_events_tell() -> None:
    seen = linger()
    seen.captured, seen.absent = [], {"wire": "not allowed"}
    (found,) = attribute(seen)
    assert (found.by, found.reason, found.inferred) == ("server", "TCP_STATE", False)
    assert "window" not in found.sentences


def test_without_either_only_what_the_programs_were_told() -> None:
    seen = linger()
    seen.captured, seen.traced, seen.absent = [], [], {"wire": "not allowed", "reasons": "not allowed"}
    (found,) = attribute(seen)
    assert (found.by, found.inferred) == ("server", True)
    assert found.sentences.startswith("No packet was seen, but the client's recv gave ECONNRESET")
    seen.calls = [call for call in seen.calls if not call.outcome.startswith("E")]
    assert attribute(seen) == []


def answered(*packets: Packet, **counters: int) -> Transcript:
    """A stack's answer without the kernel's word."""
    seen = linger()
    seen.traced, seen.absent = [], {"reasons": "not allowed"}
    seen.captured[5:] = packets
    seen.counted = {"TcpOutRsts": 1, **counters}
    return seen


BARE = packet(10, SERVER, "RST", 5001, 0, window=0)
CLOSED = (
    packet(6, SERVER, "FIN,ACK", 5001, 1002),
    packet(7, CLIENT, "ACK", 1002, 5002),
    packet(8, CLIENT, "PSH,ACK", 1002, 5002, 1),
    packet(10, SERVER, "RST", 5002, 0, window=0),
)
SYN = packet(9, CLIENT, "SYN", 1000, 0)


@pytest.mark.parametrize(
    ("seen", "reason", "clue"),
    [
        (answered(SYN, packet(10, SERVER, "RST,ACK", 0, 1001, window=0)), "NO_SOCKET", "its answering a SYN"),
        (answered(BARE), "NO_SOCKET", "there being no FIN before it"),
        (answered(*CLOSED), "TCP_TIMEWAIT_SOCKET", "its own FIN before it"),
        (answered(*CLOSED, TcpExtTCPAbortOnData=1), "TCP_ABORT_ON_DATA", "TcpExtTCPAbortOnData"),
        # The FIN of the other end says nothing.
        (answered(packet(9, CLIENT, "FIN,ACK", 1002, 5001), BARE), "NO_SOCKET", "there being no FIN before it"),
    ],
)
def test_an_answer_of_the_stack(seen: Transcript, reason: str, clue: str) -> None:
    (found,) = attribute(seen)
    assert (found.by, found.reason, found.inferred) == ("server", reason, True)
    assert clue in found.rests_on
    assert f"{clue}" in found.sentences
    assert f": {REASONS[reason].meaning} ({reason})." in found.sentences
    assert "stack sent it, not a socket" in found.sentences


def test_a_reset_that_no_kernel_counted_is_a_firewalls() -> None:
    seen = answered(BARE)
    seen.counted = {}
    (found,) = attribute(seen)
    assert (found.reason, found.inferred) == ("", True)
    assert "A middlebox or a firewall made it" in found.sentences
    seen.alone = False  # a counter that others move too says nothing, but where it stands still nobody moved it
    assert attribute(seen)[0].by == "middlebox"
    seen.counted = {"TcpOutRsts": 2}
    assert attribute(seen)[0].one_of == (("server", "NO_SOCKET"), ("middlebox", ""))


def test_what_several_reasons_fit_is_left_open() -> None:
    seen = answered(packet(10, SERVER, "RST,ACK", 5001, 1002), TcpExtTCPAbortOnData=1, TcpExtTCPAbortOnTimeout=1)
    seen.calls = []
    (found,) = attribute(seen)
    assert found.one_of == (("server", "TCP_KEEPALIVE_TIMEOUT"), ("server", "TCP_STATE"))
    assert (found.by, found.reason, found.inferred) == ("server", "", True)
    assert "cannot be told from here; it is one of: the server (TCP_KEEPALIVE_TIMEOUT: " in found.sentences


def test_a_program_may_be_told_before_its_reset_is_captured() -> None:
    rst = packet(10, SERVER, "RST,ACK", 5001, 1002)
    seen = answered(rst, TcpExtTCPAbortOnData=1, TcpExtTCPAbortOnTimeout=1)
    (accept,) = [call for call in linger().calls if call.name == "accept"]
    told = replace(accept, name="recv", outcome="ETIMEDOUT", began_ns=rst.time_ns - 3_000, ended_ns=rst.time_ns - 1_000)
    alive = replace(told, name="setsockopt", argument="SO_KEEPALIVE 1", outcome="ok", ended_ns=rst.time_ns - 2_000)
    seen.calls = [alive, told]
    seen.connections[told.role, told.socket] = frozenset((SERVER, CLIENT))
    assert attribute(seen)[0].one_of == (("server", "TCP_KEEPALIVE_TIMEOUT"),)


def test_a_counter_that_moved_less_often_than_there_are_resets_explains_none_of_them() -> None:
    seen = answered(BARE, TcpExtTCPAbortOnData=1)
    assert attribute(seen)[0].reason == "TCP_ABORT_ON_DATA"
    seen.captured.append(replace(BARE, time_ns=BARE.time_ns + 1_000))
    seen.counted["TcpOutRsts"] = 2
    both = (("server", "TCP_ABORT_ON_DATA"), ("server", "NO_SOCKET"))
    assert [(one.reason, one.one_of) for one in attribute(seen)] == [("", both), ("", both)]


def test_the_counters_between_two_readings_are_those_of_the_resets_between_them() -> None:
    seen = answered(BARE, replace(BARE, time_ns=BARE.time_ns + 1_000), TcpExtTCPAbortOnData=1)
    last = seen.captured[-1].time_ns
    seen.counts = [
        Count("", BARE.time_ns, BARE.time_ns + 500, {"TcpOutRsts": 1}),
        Count("", last, last, {"TcpOutRsts": 2, "TcpExtTCPAbortOnData": 1}),
    ]
    assert [one.reason for one in attribute(seen)] == ["NO_SOCKET", "TCP_ABORT_ON_DATA"]
    # A reading that was not over when the next RST came may have both in it.
    seen.counts[0] = replace(seen.counts[0], ended_ns=last)
    assert [one.reason for one in attribute(seen)] == ["", ""]


def test_each_of_several_resets_gets_its_own_event() -> None:
    seen = linger()
    seen.captured.append(packet(12, CLIENT, "RST", 1002, 0, window=0))
    seen.captured.append(packet(13, SERVER, "RST,ACK", 5001, 1002))
    seen.traced += [
        Reset(seen.began_ns + 12_000, "sent", CLIENT, SERVER, "", "NO_SOCKET"),
        Reset(seen.began_ns + 13_000, "sent", SERVER, CLIENT, "ESTABLISHED", "TCP_KEEPALIVE_TIMEOUT"),
    ]
    assert [(one.by, one.reason) for one in attribute(seen)] == [
        ("server", "TCP_STATE"),
        ("client", "NO_SOCKET"),
        ("server", "TCP_KEEPALIVE_TIMEOUT"),
    ]


def test_a_reason_that_is_not_known_yet() -> None:
    seen = linger()
    seen.traced[0] = replace(seen.traced[0], reason="TCP_OF_2030")
    assert "TCP_OF_2030 in state CLOSE: a reason that this version does not know" in attribute(seen)[0].sentences
