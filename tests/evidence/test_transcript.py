from __future__ import annotations

import pytest

from faultkit.evidence.transcript import Address, Call, Measurement, Transcript
from tests.made import linger


def test_an_address_is_written_as_a_person_would() -> None:
    assert str(Address("127.0.0.1", 80)) == "127.0.0.1:80"
    assert str(Address("::1", 80)) == "[::1]:80"


def test_what_a_call_was_told_and_when_it_is_shown() -> None:
    waits = Call("client", 1, "recv", "", "ECONNRESET", 10, 20)
    causes = Call("client", 1, "send", "", "5", 10, 20)
    assert (waits.told, waits.shown_ns) == ("recv ECONNRESET", 20)
    assert (causes.told, causes.shown_ns) == ("send 5", 10)


@pytest.mark.parametrize(
    ("measured", "agrees"),
    [(7.99, False), (7.995, True), (8.0, True), (9.0, True), (9.3, True), (9.31, False), (0.0, False)],
)
def test_a_timer_of_the_kernel_is_late_by_an_eighth_and_never_early(measured: float, agrees: bool) -> None:
    assert Measurement("expiry", 8.0, measured).agrees is agrees


@pytest.mark.parametrize(("measured", "agrees"), [(7.49, False), (7.5, True), (9.8, True), (9.81, False)])
def test_what_a_busy_machine_withheld_is_allowed_for(measured: float, agrees: bool) -> None:
    assert Measurement("expiry", 8.0, measured, withheld=0.5).agrees is agrees


def test_one_clock() -> None:
    seen = Transcript(began_ns=10**18, ended_ns=10**18 + 1_500_000_000)
    assert seen.duration == 1.5
    assert seen.seconds(10**18 + 1_000_000) == 0.001


def test_a_witness_that_lost_something_has_nothing_to_conclude_from() -> None:
    seen = linger()
    assert (seen.packets, seen.resets, seen.counters) == (seen.captured, seen.traced, seen.counted)
    assert seen.captured and seen.traced and seen.counted
    seen.absent["wire"] = "lost 1"
    assert (seen.packets, seen.resets) == (None, seen.traced)
    seen.absent["reasons"] = "lost 1"
    assert (seen.packets, seen.resets) == (None, None)
    seen.alone = False
    assert seen.counters is None


def test_an_address_that_no_end_had_is_nobodys() -> None:
    seen = Transcript(0, roles={Address("::1", 1): "client"})
    assert seen.role(Address("::1", 1)) == "client"
    assert seen.role(Address("::1", 2)) == "unknown"
