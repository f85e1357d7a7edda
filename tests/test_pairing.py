"""Which kernel event belongs to which captured RST."""

from __future__ import annotations

from faultkit.attribution import paired
from faultkit.transcript import Address, Packet, Reset

SERVER, CLIENT, NOBODY = Address("127.0.0.1", 80), Address("127.0.0.1", 4000), Address("0.0.0.0", 0)


def _rst(source: Address, destination: Address, window: int = 0) -> Packet:
    flags = ("RST", "ACK") if window else ("RST",)
    return Packet(0, source, destination, flags, 1, 0, window, 0, (), 64, 0, b"")


def _event(source: Address, destination: Address, reason: str) -> Reset:
    return Reset(0, "sent", source, destination, "", reason)


def test_an_active_reset_that_is_traced_after_the_answer_to_it() -> None:
    aborted, confirmed = _rst(SERVER, CLIENT, window=100), _rst(SERVER, CLIENT)
    answer, abort = _event(SERVER, NOBODY, "TCP_FLAGS"), _event(SERVER, CLIENT, "TCP_ABORT_ON_CLOSE")
    assert paired([aborted, confirmed], [answer, abort]) == [abort, answer]


def test_each_event_belongs_to_one_packet_of_its_own_direction() -> None:
    ours, theirs = _event(SERVER, CLIENT, "NO_SOCKET"), _event(CLIENT, SERVER, "NO_SOCKET")
    assert paired([_rst(CLIENT, SERVER), _rst(SERVER, CLIENT), _rst(SERVER, CLIENT)], [ours, theirs]) == [
        theirs,
        ours,
        None,
    ]


def test_a_reset_that_no_kernel_traced_has_no_event() -> None:
    assert paired([_rst(SERVER, CLIENT)], []) == [None]
    assert paired([_rst(SERVER, CLIENT)], [_event(SERVER, CLIENT, "TCP_STATE")]) == [None]


def test_a_reason_that_this_version_does_not_know_may_have_either_form() -> None:
    unknown = _event(SERVER, CLIENT, "TCP_NEW_IN_7")
    assert paired([_rst(SERVER, CLIENT)], [unknown]) == paired([_rst(SERVER, CLIENT, window=1)], [unknown]) == [unknown]
