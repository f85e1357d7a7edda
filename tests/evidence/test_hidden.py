"""Attribution held against the kernel's account, and the table of what cannot be told apart."""

from __future__ import annotations

from dataclasses import replace

from faultkit.evidence.attribution import attribute, captured, paired
from faultkit.evidence.hidden import ANY, compared, explained, table, wrong
from faultkit.evidence.reasons import REASONS
from faultkit.evidence.transcript import Address, Count, Packet, Reset, Transcript
from tests.evidence.test_attribution import aborted
from tests.made import PROMISE, linger
from tests.ordinary import CHECKOUT

CLIENT, ROUTER, SERVER = Address("10.0.0.2", 4000), Address("192.0.2.1", 4000), Address("192.0.2.2", 80)


def test_the_same_run_with_the_reasons_and_without() -> None:
    told = compared(linger(), PROMISE)
    assert told.known == told.promised == (("server", "TCP_STATE"),)
    assert len(told.inferred) == 1
    hidden = linger()
    hidden.absent = {"reasons": "not root"}
    assert compared(hidden, PROMISE).known is None


def test_what_is_wrong() -> None:
    state, close = ("server", "TCP_STATE"), ("server", "TCP_ABORT_ON_CLOSE")
    assert wrong([[state]], [state]) == ""
    assert wrong([[state, close]], [close]) == ""
    assert "RST 1: ('server', 'TCP_STATE'), and it was ('server', 'TCP_ABORT_ON_CLOSE')" in wrong([[state]], [close])
    assert wrong([[("middlebox", "")]], [state])
    assert wrong([[("server", "")]], [state]) == ""  # nobody saw it
    assert wrong([[state], [close]], [close, state])  # in that order
    assert wrong([[state], [state]], [state, close, state]) == ""


def test_what_cannot_be_told_is_in_the_table() -> None:
    data, bucket = ("server", "TCP_ABORT_ON_DATA"), ("server", "TCP_TIMEWAIT_SOCKET")
    assert explained([data], alone=True)
    assert explained([data, bucket], alone=False)
    assert not explained([data, bucket], alone=True)
    assert not explained([("server", "NO_SOCKET"), ("middlebox", "")], alone=True)
    assert explained([("server", "NO_SOCKET"), ("middlebox", "")], alone=False)
    assert not explained([("server", "NO_SOCKET"), ("server", "TCP_RFC7323_PAWS")], alone=False)


def test_the_docs_have_the_table_and_the_kernel_has_its_reasons() -> None:
    assert table() in (CHECKOUT / "docs/attribution.md").read_text()
    named = {word.strip("`") for line in table().splitlines()[2:] for word in line.split("|")[2].strip().split(", ")}
    assert named - {"a middlebox", ANY} <= REASONS.keys()


def _rst(at: int, source: Address, destination: Address, ttl: int) -> Packet:
    return Packet(at, source, destination, ("RST",), 7, 0, 0, 0, (), ttl, 0, b"")


def _routed() -> Transcript:
    """The server refuses what the router has translated; its RST is captured on both cables."""
    data = Packet(1, ROUTER, SERVER, ("PSH", "ACK"), 1, 7, 9, 5, (), 63, 1, b"")
    return Transcript(
        0,
        captured=[data, _rst(2, SERVER, ROUTER, 64), _rst(3, SERVER, CLIENT, 63)],
        traced=[Reset(2, "sent", SERVER, ROUTER, "", "TCP_FLAGS")],
        counts=[Count("", 9, 9, {}), Count("server", 9, 9, {"TcpOutRsts": 1})],
        counted={"TcpOutRsts": 1},
        places={SERVER.host: "server"},
        roles={CLIENT: "client", ROUTER: "router", SERVER: "server"},
    )


def test_a_forwarded_copy_is_no_second_reset() -> None:
    seen = _routed()
    assert len(captured(seen)) == 1
    assert [(one.by, one.reason, one.inferred) for one in attribute(seen)] == [("server", "TCP_FLAGS", False)]
    # One router further, but another number or no address in common: another segment.
    for other in (replace(seen.captured[2], seq=8), replace(seen.captured[2], source=CLIENT, destination=SERVER)):
        seen.captured[2] = other
        assert len(captured(seen)) == 2


def test_a_count_is_that_of_the_senders_own_namespace() -> None:
    seen = _routed()
    seen.absent = {"reasons": "not root"}
    assert {by for by, _ in attribute(seen)[0].one_of} == {"server"}
    # The stage's own kernel sent one, the server's none: so the server did not send it.
    seen.counts = [Count("", 9, 9, {"TcpOutRsts": 1}), Count("server", 9, 9, {})]
    (found,) = attribute(seen)
    assert found.by == "middlebox"
    assert "1 RST passed in its name and the server's own kernel counted 0 as its own (TcpOutRsts)" in found.sentences


def test_a_capture_that_is_not_whole_is_not_used() -> None:
    seen = linger()
    seen.absent = {"wire": "the capture lost 3 packets, so what it saw is not whole"}
    assert paired(seen) == {}
    assert [(one.by, one.reason, one.inferred) for one in attribute(seen)] == [("server", "TCP_STATE", False)]


def test_an_event_that_the_trace_lost_makes_no_forgery() -> None:
    seen = aborted()
    seen.traced = []
    assert [(one.by, one.inferred) for one in attribute(seen)] == [("server", True)]  # the kernel has counted it
    seen.counted["TcpOutRsts"] = 0
    assert [one.by for one in attribute(seen)] == ["middlebox"]
