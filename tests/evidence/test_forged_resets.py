"""Who sent a RST, from witnesses that are put together by hand: every forgery told from the kernel's own resets."""

from __future__ import annotations

from faultkit.evidence.attribution import attribute
from faultkit.evidence.transcript import Address, Call, Packet, Reset, Step, Transcript

CLIENT, SERVER = Address("127.0.0.1", 40001), Address("127.0.0.1", 7654)


def packet(at: int, source: Address, *flags: str, ttl: int = 64, ip_id: int = 0, window: int = 0) -> Packet:
    destination = CLIENT if source == SERVER else SERVER
    return Packet(at, source, destination, flags, 1, 1, window, 0, (), ttl, ip_id, b"")


def event(at: int, source: Address, reason: str, destination: Address | None = None) -> Reset:
    return Reset(at, "sent", source, destination or (CLIENT if source == SERVER else SERVER), "", reason)


def seen(*packets: Packet, resets: tuple[Reset, ...] | None = (), out: int = 0, alone: bool = True) -> Transcript:
    transcript = Transcript(0, roles={CLIENT: "client", SERVER: "server"}, alone=alone)
    transcript.calls = [Call(role, 1, "recv", "", "5", 3, 4) for role in ("client", "server")]
    transcript.steps = [Step(3, "firewall", "reject with tcp reset")]
    opening = [packet(0, CLIENT, "SYN", window=9), packet(1, SERVER, "SYN", "ACK", window=9)]
    transcript.captured = [*opening, packet(2, CLIENT, "ACK", window=9), *packets]
    transcript.counted = {"TcpOutRsts": out} if out else {}
    if resets is None:
        transcript.absent["reasons"] = "not root"
    else:
        transcript.traced = list(resets)
    return transcript


def who(transcript: Transcript) -> list[tuple[str, str, bool]]:
    return [(one.by, one.reason, one.inferred) for one in attribute(transcript)]


FORGED = packet(10, SERVER, "RST", ttl=47, ip_id=4660)
REAL = packet(20, SERVER, "RST")


def test_of_two_in_one_direction_the_event_belongs_to_the_one_that_looks_like_the_sender() -> None:
    told = seen(FORGED, REAL, resets=(event(9, SERVER, "NO_SOCKET"),), out=1)
    assert who(told) == [("middlebox", "", True), ("server", "NO_SOCKET", False)]


def test_alike_the_nearest_in_time_has_the_event() -> None:
    told = seen(packet(10, SERVER, "RST"), REAL, resets=(event(19, SERVER, "NO_SOCKET"),), out=1)
    assert who(told) == [("middlebox", "", True), ("server", "NO_SOCKET", False)]


def test_a_listener_s_event_names_no_peer() -> None:
    told = seen(REAL, resets=(event(19, SERVER, "TCP_FLAGS", Address("0.0.0.0", 0)),), out=1)
    assert who(told) == [("server", "TCP_FLAGS", False)]


def test_without_events_the_counter_and_the_signs_tell() -> None:
    assert who(seen(FORGED, REAL, resets=None, out=1)) == [("middlebox", "", True), ("server", "NO_SOCKET", True)]
    assert who(seen(REAL, resets=None)) == [("middlebox", "", True)]
    twice = attribute(seen(REAL, packet(21, SERVER, "RST"), resets=None, out=1))
    assert [one.by for one in twice] == ["server or middlebox", "server or middlebox"]


def test_a_counter_that_others_move_too_proves_nothing() -> None:
    for out in (1, 3):  # another program's, perhaps, on an interface that is not captured
        told = attribute(seen(packet(10, SERVER, "RST"), resets=None, out=out, alone=False))
        assert [one.one_of for one in told] == [(("server", "NO_SOCKET"), ("middlebox", ""))]
        assert [one.by for one in told] == ["server or middlebox"]


def test_the_signs_are_said() -> None:
    (one,) = attribute(seen(FORGED, resets=()))
    assert one.sentences == (
        "The server did not send it: its kernel has no event of sending it. A middlebox or a firewall made it, in its name. "
        "Its TTL is 47, that of the same sender's other packets 64; its IP ID is 4660, and Linux answers with 0."
    )


def handshake(own: tuple[tuple[str, ...], ...], number: int) -> Transcript:
    """An end that has sent only these flags at number 100, is told to be at another, and answers with a bare RST."""
    transcript = seen(resets=None, out=1)
    transcript.captured = [
        *(Packet(at, CLIENT, SERVER, flags, 100, 0, 100, 0, (), 64, 0, b"") for at, flags in enumerate(own)),
        Packet(10, SERVER, CLIENT, ("ACK",), 1, number, 100, 0, (), 64, 0, b""),
        Packet(20, CLIENT, SERVER, ("RST",), number, 0, 0, 0, (), 64, 0, b""),
        Packet(30, CLIENT, SERVER, own[-1], 100, 0, 100, 0, (), 64, 0, b""),
    ]
    return transcript


def test_in_a_handshake_the_number_tells_what_was_refused() -> None:
    assert who(handshake((("SYN",),), 7)) == [("client", "TCP_INVALID_ACK_SEQUENCE", True)]
    assert who(handshake((("SYN",), ("SYN", "ACK")), 7)) == [("client", "TCP_TOO_OLD_ACK", True)]
    assert who(handshake((("SYN",), ("SYN", "ACK")), 201)) == [("client", "TCP_ACK_UNSENT_DATA", True)]


def test_a_listener_is_remembered() -> None:
    told = seen(packet(5, SERVER, "PSH", "ACK"), packet(6, CLIENT, "PSH", "ACK"), REAL, resets=None, out=1)
    told.calls = [Call("server", 1, "bind", str(SERVER), "ok", 0, 0), Call("server", 1, "listen", "128", "ok", 0, 0)]
    assert who(told) == [("server", "TCP_FLAGS", True)]
    told.calls.append(Call("server", 1, "close", "", "ok", 3, 3))
    assert who(told) == [("server", "NO_SOCKET", True)]


def test_mptcp_says_why_in_the_reset_itself() -> None:
    """Ethernet, IPv4, TCP with NOP, NOP and MP_TCPRST (RFC 8684 section 3.6): kind 30, length 4, subtype 8, reason 3."""
    frame = (
        bytes(14) + b"\x45" + bytes(19) + bytes(12) + b"\x70" + bytes(7) + b"\1\1" + bytes((30, 4, 0x80, 3)) + b"\0\0"
    )
    told = seen(resets=None, out=1)
    told.captured.append(Packet(20, SERVER, CLIENT, ("RST", "ACK"), 0, 2, 0, 0, (("opt30", None),), 64, 0, frame))
    assert who(told) == [("server", "MPTCP_RST_EPROHIBIT", True)]


def test_where_something_forges_a_counter_that_moved_makes_no_kernel_the_sender() -> None:
    transcript = Transcript(0, absent={"wire": "left out", "reasons": "not allowed"}, counted={"TcpOutRsts": 1})
    transcript.steps.append(Step(5, "forged", "a RST in the server's name"))
    transcript.calls.append(Call("client", 1, "recv", "", "ECONNRESET", 0, 10))
    transcript.roles[Address("127.0.0.1", 1)] = "server"
    (one,) = attribute(transcript)
    assert set(one.one_of) == {("server", ""), ("middlebox", "")}
