"""Who sent a RST and why, where the kernel's event names no peer and where there is no event at all."""

from __future__ import annotations

import pytest

from faultkit.evidence.attribution import attribute
from faultkit.evidence.transcript import Address, Call, Packet, Reset, Transcript

CLIENT, SERVER = Address("127.0.0.1", 40000), Address("127.0.0.1", 80)


def packet(at: int, source: Address, destination: Address, *flags: str, seq: int = 1, ack: int = 1) -> Packet:
    return Packet(at, source, destination, flags, seq, ack, 0, 0, (), 64, 0, b"")


def call(at: int, name: str, argument: str = "") -> Call:
    return Call("server", 1, name, argument, "ok", at, at)


def transcript(*calls: Call, counters: dict[str, int] | None = None, resets: list[Reset] | None = None) -> Transcript:
    return Transcript(
        began_ns=0,
        calls=list(calls),
        captured=[packet(10, CLIENT, SERVER, "PSH", "ACK"), packet(11, SERVER, CLIENT, "RST")],
        traced=resets or [],
        counted={"TcpOutRsts": 1, **(counters or {})},
        absent={} if resets else {"reasons": "not root"},
        roles={CLIENT: "client", SERVER: "server"},
    )


LISTENING = (call(1, "bind", str(SERVER)), call(2, "listen", "128"))


@pytest.mark.parametrize(
    ("calls", "counters", "reason"),
    [
        ((), {}, ""),  # of a program that nobody watched
        (LISTENING, {}, "TCP_FLAGS"),
        ((*LISTENING, call(3, "close")), {}, "NO_SOCKET"),
        (LISTENING[:1], {}, "NO_SOCKET"),
    ],
    ids=["nobody", "listening", "closed", "only bound"],
)
def test_without_an_event_the_open_port_tells(calls: tuple[Call, ...], counters: dict[str, int], reason: str) -> None:
    (found,) = attribute(transcript(*calls, counters=counters))
    assert (found.by, found.reason, found.inferred) == ("server", reason, True)


@pytest.mark.parametrize(("embryonic", "reason"), [(0, "TCP_FLAGS"), (1, "INVALID_SYN")])
def test_the_end_of_a_handshake_that_a_listener_refuses(embryonic: int, reason: str) -> None:
    seen = transcript(*LISTENING, call(3, "accept"), counters={"TcpExtEmbryonicRsts": embryonic})
    seen.calls.append(Call("client", 1, "connect", str(SERVER), "ok", 4, 20))
    seen.captured = [
        packet(5, CLIENT, SERVER, "SYN", seq=100, ack=0),
        packet(6, SERVER, CLIENT, "SYN", "ACK", seq=500, ack=101),
        packet(7, CLIENT, SERVER, "ACK", seq=101, ack=501),
        packet(8, SERVER, CLIENT, "RST", seq=501, ack=0),
    ]
    (found,) = attribute(seen)
    assert (found.by, found.reason, found.inferred) == ("server", reason, True)


def test_a_listening_sockets_event_names_no_peer() -> None:
    event = Reset(11, "sent", SERVER, Address("0.0.0.0", 0), "LISTEN", "TCP_FLAGS")
    (found,) = attribute(transcript(resets=[event]))
    assert (found.by, found.reason, found.inferred) == ("server", "TCP_FLAGS", False)


def test_a_reset_of_ones_own_challenged_syn() -> None:
    seen = transcript(counters={"TcpExtTCPSYNChallenge": 1})
    seen.captured = [
        packet(1, CLIENT, SERVER, "SYN", seq=100, ack=0),
        packet(2, SERVER, CLIENT, "SYN", "ACK", seq=500, ack=101),
        packet(3, CLIENT, SERVER, "SYN", seq=900, ack=0),
        packet(4, SERVER, CLIENT, "ACK", seq=501, ack=101),
        packet(5, CLIENT, SERVER, "RST", seq=101, ack=0),
        packet(6, CLIENT, SERVER, "SYN", seq=900, ack=0),
    ]
    (found,) = attribute(seen)
    assert (found.by, found.reason) == ("client", "TCP_INVALID_ACK_SEQUENCE")
