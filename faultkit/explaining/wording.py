"""Words and measures that several situations of a reset share."""

from __future__ import annotations

from faultkit.explaining.diagnosis import Sender
from faultkit.explaining.flows import Packet
from faultkit.explaining.story import SIDES

# Idle times at which balancers and NATs end a connection, where their documentation gives a default: AWS NLB 350 s, ALB 60 s,
# Azure 240 s, Google 600 s, NetScaler 180 s and 9000 s, BIG-IP 300 s, conntrack 432000 s and others' round minutes.
_ROUND = (30, 60, 90, 120, 180, 240, 300, 350, 400, 600, 900, 1200, 1800, 3600, 7200, 9000)

CAPTURE = "capture at both ends at once (tcpdump -w client.pcap, and the same at the server)"
CALLS = "strace -f -e trace=network,close -p PID at the {who}, or faultkit which --saw"


def ended(by: Sender, rst: Packet) -> str:
    return (
        f"reset by the {by}"
        if by in SIDES
        else "reset by something in between"
        if by
        else f"reset in the name of the {SIDES[rst.side]}"
    )


def listed(packets: list[Packet]) -> str:
    numbers = [str(p.number) for p in packets]
    return ", ".join(numbers if len(numbers) < 5 else [*numbers[:3], "…", numbers[-1]])


def lasting(seconds: float) -> str:
    """A duration as a person writes it: "3 s", "1.2 ms", "less than 0.1 ms"."""
    if seconds >= 1:
        return f"{seconds:.4g} s"
    return f"{seconds * 1000:.3g} ms" if seconds >= 0.0001 else "less than 0.1 ms"


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def is_round(seconds: float) -> bool:
    return any(abs(seconds - usual) <= max(0.02 * usual, 0.6) for usual in _ROUND)
