"""Expected values were measured on Linux 6.18 over loopback, the kernel's lateness taken off."""

from __future__ import annotations

import pytest

from faultkit.evidence import timers


@pytest.mark.parametrize(
    ("retries", "linear", "seconds"), [(1, 0, 3), (2, 0, 7), (1, 1, 4), (2, 1, 8), (1, 4, 3), (6, 4, 131), (6, 0, 127)]
)
def test_syn_expiry(retries: int, linear: int, seconds: float) -> None:
    assert timers.syn_expiry(retries, linear) == seconds


def test_syns_are_sent_each_second_first() -> None:
    assert timers.syns(6, 4) == [1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131]


@pytest.mark.parametrize(
    ("retries2", "measured"), [(1, 1.664), (2, 3.332), (3, 6.86), (4, 6.868), (5, 13.425), (6, 26.613)]
)
def test_data_expiry(retries2: int, measured: float) -> None:
    due = timers.data_expiry(retries2)
    assert due.earliest < measured < due.earliest * 1.125


def test_the_default_of_15_is_what_the_kernels_documentation_says() -> None:
    """924.6 s, "a lower bound" (Documentation/networking/ip-sysctl.rst), and a tail loss probe before it."""
    assert timers.data_expiry(15).earliest == pytest.approx(924.6 + 0.2, abs=0.01)


def test_persist_expiry() -> None:
    assert timers.persist_expiry(3) == pytest.approx(3.0)


def test_tries() -> None:
    assert timers.tries(5) == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2])


def test_a_try_is_found_however_late_it_comes() -> None:
    assert timers.tries_before(1.6) == pytest.approx((0.2, 0.4, 0.8))
    assert timers.next_try(0.8) == pytest.approx(0.8)
    # TCP_SYNCNT takes up to 127, after which a handshake is forgotten in more than four hours.
    forgotten = timers.syn_expiry(127, 0)
    assert forgotten <= timers.next_try(forgotten) <= forgotten + timers.RTO_MAX
    assert timers.next_try(forgotten * 1.125) >= forgotten * 1.125


def test_an_outage_ends_by_the_first_try_that_may_meet_its_end() -> None:
    assert timers.delivery(0.5) == pytest.approx((0.8, 0.8))
    assert timers.delivery(0.41) == pytest.approx((0.41, 0.8))  # the try at 0.4 may be late enough
