"""Who sent a RST and why, where the kernel's event names no peer and where there is no event at all."""

from __future__ import annotations

import pytest

from faultkit.evidence.attribution import attribute
from faultkit.evidence.transcript import Address, Call, Packet, Reset, Transcript

CLIENT, SERVER = Address("127.0.0.1", 40000), Address("127.0.0.1", 80)


def packet(at: int, source: Address, destination: Address, *flags: str) -> Packet:
    return Packet(at, source, destination, flags, 1, 0, 0, 0, (), 64, 0, b"")


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
        ((), {}, "NO_SOCKET"),
        (LISTENING, {}, "TCP_FLAGS"),
        (LISTENING, {"TcpExtEmbryonicRsts": 1}, "INVALID_SYN"),
        ((*LISTENING, call(3, "close")), {}, "NO_SOCKET"),
        (LISTENING[:1], {}, "NO_SOCKET"),
    ],
    ids=["nobody", "listening", "embryonic", "closed", "only bound"],
)
def test_without_an_event_the_open_port_tells(calls: tuple[Call, ...], counters: dict[str, int], reason: str) -> None:
    (found,) = attribute(transcript(*calls, counters=counters))
    assert (found.by, found.reason, found.inferred) == ("server", reason, True)


def test_a_listening_sockets_event_names_no_peer() -> None:
    event = Reset(11, "sent", SERVER, Address("0.0.0.0", 0), "LISTEN", "TCP_FLAGS")
    (found,) = attribute(transcript(resets=[event]))
    assert (found.by, found.reason, found.inferred) == ("server", "TCP_FLAGS", False)


def test_a_reset_of_ones_own_challenged_syn() -> None:
    seen = transcript(counters={"TcpExtTCPSYNChallenge": 1})
    seen.captured = [
        packet(1, CLIENT, SERVER, "SYN"),
        packet(2, SERVER, CLIENT, "SYN", "ACK"),
        packet(3, CLIENT, SERVER, "SYN"),
        packet(4, SERVER, CLIENT, "ACK"),
        packet(5, CLIENT, SERVER, "RST"),
    ]
    (found,) = attribute(seen)
    assert (found.by, found.reason) == ("client", "TCP_INVALID_ACK_SEQUENCE")
