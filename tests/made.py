"""A made-up transcript: linger as the three witnesses see it, for tests of what only reads transcripts."""

from __future__ import annotations

from faultkit.evidence.transcript import Address, Call, Packet, Reset, Transcript
from faultkit.evidence.verdict import Promise, Rst

CLIENT, SERVER = Address("127.0.0.1", 40001), Address("127.0.0.1", 7654)
BEGAN = 1_700_000_000_000_000_000

PROMISE = Promise(
    calls={
        "client": ("connect ok", "send 1", "recv ECONNRESET", "recv EOF", "send EPIPE"),
        "server": ("accept ok", "recv 1", "close ok"),
    },
    packets=("client SYN", "server SYN,ACK", "client PSH,ACK 1", "server RST,ACK"),
    resets=(Rst("server", "TCP_STATE"),),
    counters={"TcpExtTCPAbortOnData": 1, "TcpOutRsts": 1, "TcpEstabResets": 2},
)


def call(at: int, role: str, name: str, outcome: str) -> Call:
    """One that began and ended `at` microseconds after the beginning."""
    return Call(role, 1, name, "", outcome, BEGAN + at * 1000, BEGAN + at * 1000)


def packet(at: int, source: Address, flags: str, seq: int, ack: int, payload: int = 0, window: int = 64) -> Packet:
    """One with the options of an ordinary segment, or those of a stack's answer where the window is 0."""
    return Packet(
        time_ns=BEGAN + at * 1000,
        source=source,
        destination=SERVER if source == CLIENT else CLIENT,
        flags=tuple(flags.split(",")),
        seq=seq,
        ack=ack,
        window=window,
        payload=payload,
        options=(("TS", (1, 1)),) if window else (),
        ttl=64,
        ip_id=1 if window else 0,
        frame=bytes(54 + payload),
    )


def linger() -> Transcript:
    return Transcript(
        began_ns=BEGAN,
        ended_ns=BEGAN + 1_000_000,
        calls=[
            call(4, "client", "connect", "ok"),
            call(5, "client", "send", "1"),
            call(6, "server", "accept", "ok"),
            call(8, "server", "recv", "1"),
            call(9, "server", "close", "ok"),
            call(11, "client", "recv", "ECONNRESET"),
            call(12, "client", "recv", "EOF"),
            call(13, "client", "send", "EPIPE"),
        ],
        captured=[
            packet(1, CLIENT, "SYN", 1000, 0),
            packet(2, SERVER, "SYN,ACK", 5000, 1001),
            packet(3, CLIENT, "ACK", 1001, 5001),
            packet(5, CLIENT, "PSH,ACK", 1001, 5001, 1),
            packet(7, SERVER, "ACK", 5001, 1002),
            packet(10, SERVER, "RST,ACK", 5001, 1002),
        ],
        traced=[
            Reset(BEGAN + 10_000, "sent", SERVER, CLIENT, "CLOSE", "TCP_STATE"),
            Reset(BEGAN + 10_100, "received", SERVER, CLIENT, "", ""),
        ],
        counted={"TcpExtTCPAbortOnData": 1, "TcpOutRsts": 1, "TcpEstabResets": 2, "TcpInSegs": 6},
        roles={CLIENT: "client", SERVER: "server"},
    )
