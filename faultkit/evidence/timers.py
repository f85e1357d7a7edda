"""The kernel's retransmission clocks as arithmetic: how long until it gives a connection up. Pure, seconds.

Lower bounds: the kernel fires late by up to an eighth of each timeout (`transcript.Measurement` knows).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

# include/net/tcp.h: TCP_RTO_MIN, TCP_RTO_MAX (net.ipv4.tcp_rto_min_us, tcp_rto_max_ms) and TCP_TIMEOUT_INIT. On loopback
# the round trip adds nothing to them.
RTO_MIN = 0.2
RTO_MAX = 120.0
RTO_SYN = 1.0
_MANY = 200  # tries; arbitrary: the last of them comes after six hours, later than a handshake is forgotten
TAIL_LOSS_PROBE = RTO_MIN  # RFC 8985 section 7.2: one segment in flight, and the peer may delay its acknowledgement


def doubling(first: float, count: int) -> list[float]:
    """That many timeouts, each twice the one before (RFC 6298 section 5.5)."""
    return [min(first * 2.0**n, RTO_MAX) for n in range(count)]


def tries(count: int) -> list[float]:
    """When a lost segment is sent again after its first send: the tail loss probe, then the retransmissions."""
    at, times = TAIL_LOSS_PROBE, [TAIL_LOSS_PROBE]
    for timeout in doubling(RTO_MIN, count - 1):
        times.append(at := at + timeout)
    return times


def tries_before(end: float) -> tuple[float, ...]:
    """Those before that moment."""
    return tuple(itertools.takewhile(lambda at: at < end, tries(_MANY)))


def next_try(moment: float) -> float:
    """The first of them then or later."""
    return next(at for at in tries(_MANY) if at >= moment)


class Expiry(NamedTuple):
    """Both from the first send, the kernel's lateness not counted. They differ where that lateness decides."""

    earliest: float
    latest: float

    @property
    def slack(self) -> float:
        """What a measurement of it must allow beside the machine's slack, where `earliest` is predicted."""
        return (self.latest - self.earliest) * 1.125


def exactly(seconds: float) -> Expiry:
    """One whose moment the kernel's lateness does not decide."""
    return Expiry(seconds, seconds)


def delivery(outage: float) -> Expiry:
    """From the first send of a segment that is lost for so long until it arrives.

    A try may be late by an eighth and still meet the cut, or be on time and just meet the healing.
    """
    return Expiry(max(next_try(outage / 1.125), outage), next_try(outage + 0.1))


def data_expiry(retries2: int) -> Expiry:
    """From the first send of an unacknowledged segment until tcp_retries2 is exhausted.

    The kernel counts from the first retransmission (the tail loss probe is none) and asks, each time a timeout fires,
    whether as much time has passed as `retries2` + 1 of them would take together from the shortest on (tcp_model_timeout()).
    When the `retries2`-th fires, 0.2 s are lacking: so it takes one more, unless the timers before were late by as much.
    Up to 3 they cannot be; with 4 and 5 they may be, and with more they nearly always are (Linux 6.18: 3 and 4 take 6.9 s).
    """
    latest = TAIL_LOSS_PROBE + sum(doubling(RTO_MIN, retries2 + 2))
    sooner = TAIL_LOSS_PROBE + sum(doubling(RTO_MIN, retries2 + 1))
    return Expiry(latest if retries2 <= 3 else sooner, latest)


def persist_expiry(retries2: int) -> float:
    """From the send of a segment that could not leave at all until the persist timer gives up (tcp_probe_timer())."""
    return sum(doubling(RTO_MIN, retries2 + 1))


def user_expiry(user_timeout: float) -> float:
    """From the first send of an unacknowledged segment until TCP_USER_TIMEOUT ends it: counted like tcp_retries2.

    That is, from the first retransmission by timer (retransmits_timed_out(), retrans_stamp).
    """
    return TAIL_LOSS_PROBE + RTO_MIN + user_timeout


def syn_expiry(retries: int, linear: int) -> float:
    """From the first SYN until connect() gives ETIMEDOUT, by tcp_syn_retries and tcp_syn_linear_timeouts."""
    return syns(retries, linear)[-1]


def syns(retries: int, linear: int) -> list[float]:
    """When SYNs are sent again, and at last when the kernel gives up instead.

    The first `linear` repeats come each second, then the timeout doubles (tcp_retransmit_timer()). It ends when that many
    repeats were sent, `linear` beside, or when the time has passed that doubling alone would have taken
    (tcp_write_timeout()): with 6 and 4 that is 131 s, with 1 and 4 it is 3 s.
    """
    patience = sum(doubling(RTO_SYN, retries + 1))
    times, timeout = [RTO_SYN], RTO_SYN
    while times[-1] < patience and len(times) <= retries + linear:
        if len(times) > linear:
            timeout = min(timeout * 2, RTO_MAX)
        times.append(times[-1] + timeout)
    return times
