"""Which kernel event belongs to which captured RST."""

from __future__ import annotations

from typing import Any

import pytest

from faultkit.evidence.attribution import attribute, paired
from faultkit.evidence.transcript import Address, Call, Packet, Reset, Step, Transcript

SERVER, CLIENT, NOBODY = Address("127.0.0.1", 80), Address("127.0.0.1", 4000), Address("0.0.0.0", 0)


def _rst(source: Address, destination: Address, window: int = 0) -> Packet:
    flags = ("RST", "ACK") if window else ("RST",)
    return Packet(0, source, destination, flags, 1, 0, window, 0, (), 64, 0, b"")


def _event(source: Address, destination: Address, reason: str) -> Reset:
    return Reset(0, "sent", source, destination, "", reason)


def _paired(packets: list[Packet], events: list[Reset]) -> list[Reset | None]:
    found = paired(Transcript(0, captured=packets, traced=events, roles={SERVER: "server", CLIENT: "client"}))
    return [found.get(number) for number in range(len(packets))]


def test_an_active_reset_that_is_traced_after_the_answer_to_it() -> None:
    aborted, confirmed = _rst(SERVER, CLIENT, window=100), _rst(SERVER, CLIENT)
    answer, abort = _event(SERVER, NOBODY, "TCP_FLAGS"), _event(SERVER, CLIENT, "TCP_ABORT_ON_CLOSE")
    assert _paired([aborted, confirmed], [answer, abort]) == [abort, answer]


def test_each_event_belongs_to_one_packet_of_its_own_direction() -> None:
    ours, theirs = _event(SERVER, CLIENT, "NO_SOCKET"), _event(CLIENT, SERVER, "NO_SOCKET")
    assert _paired([_rst(CLIENT, SERVER), _rst(SERVER, CLIENT), _rst(SERVER, CLIENT)], [ours, theirs]) == [
        theirs,
        ours,
        None,
    ]


def test_a_reset_that_no_kernel_traced_has_no_event() -> None:
    assert _paired([_rst(SERVER, CLIENT)], []) == [None]
    assert _paired([_rst(SERVER, CLIENT)], [_event(SERVER, CLIENT, "TCP_STATE")]) == [None]


def test_a_reason_that_this_version_does_not_know_may_have_either_form() -> None:
    unknown = _event(SERVER, CLIENT, "TCP_NEW_IN_7")
    assert (
        _paired([_rst(SERVER, CLIENT)], [unknown]) == _paired([_rst(SERVER, CLIENT, window=1)], [unknown]) == [unknown]
    )


SECOND = 10**9


def _untraced(*, fin: bool, at: float, listening: bool = True, linger2: int = 0, sysctl: int = 0) -> str:
    """What is inferred of a bare RST by the server `at` seconds after its FIN, or with no FIN before it."""
    now = int(at * SECOND)
    calls = [Call("server", 1, "bind", str(SERVER), "ok", 0, 0), Call("server", 1, "listen", "128", "ok", 0, 1)]
    if not listening:
        calls.append(Call("server", 1, "close", "", "ok", 2, 3))
    if linger2:
        calls.append(Call("server", 2, "setsockopt", f"TCP_LINGER2 {linger2}", "ok", 4, 5))
    steps = [Step(6, "sysctl", f"net.ipv4.tcp_fin_timeout = {sysctl}")] if sysctl else []
    goodbye = Packet(10, SERVER, CLIENT, ("FIN", "ACK"), 1, 1, 512, 0, (), 64, 0, b"")
    heard = Packet(11, CLIENT, SERVER, ("ACK",), 1, 2, 512, 0, (), 64, 0, b"")
    late = Packet(11 + now, CLIENT, SERVER, ("PSH", "ACK"), 1, 2, 512, 4, (), 64, 0, b"")
    rst = Packet(12 + now, SERVER, CLIENT, ("RST",), 2, 0, 0, 0, (), 64, 0, b"")
    (found,) = attribute(
        Transcript(
            0,
            calls=calls,
            steps=steps,
            captured=[goodbye, heard, late, rst] if fin else [late, rst],
            counted={"TcpOutRsts": 1},
            roles={SERVER: "server", CLIENT: "client"},
            absent={"reasons": "not root"},
        )
    )
    assert found.inferred
    return found.reason


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"fin": True, "at": 0.01}, "TCP_TIMEWAIT_SOCKET"),
        ({"fin": True, "at": 58}, "TCP_TIMEWAIT_SOCKET"),
        ({"fin": True, "at": 70}, "TCP_FLAGS"),
        ({"fin": True, "at": 70, "listening": False}, "NO_SOCKET"),
        ({"fin": True, "at": 2, "linger2": 1}, "TCP_FLAGS"),
        ({"fin": True, "at": 2, "linger2": 3}, "TCP_TIMEWAIT_SOCKET"),
        ({"fin": True, "at": 2, "sysctl": 1}, "TCP_FLAGS"),
        ({"fin": False, "at": 0.01}, "TCP_FLAGS"),
        ({"fin": False, "at": 0.01, "listening": False}, "NO_SOCKET"),
    ],
)
def test_an_answer_of_the_stack_is_inferred_from_the_fin_before_it_and_who_listens(
    seen: dict[str, Any], reason: str
) -> None:
    assert _untraced(**seen) == reason
