"""The kernel's reset reasons, and how each is read where the kernel does not say it. Pure.

Names and meanings follow `enum sk_rst_reason` in include/net/rstreason.h (Linux 6.18), without SK_RST_REASON_.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How a RST looks on the wire: "active" is sent by a socket that aborts (RST,ACK with a window and options), "stack" is an
# answer of the stack to a segment that no socket wants (window 0, no options).
Form = Literal["active", "stack"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: what it means, how its RST looks, and the counter that gives it away, where one does."""

    meaning: str
    form: Form
    counter: str = ""


REASONS: dict[str, Reason] = {
    "NO_SOCKET": Reason("no socket knows that connection or listens on that port", "stack"),
    "TCP_INVALID_ACK_SEQUENCE": Reason("the segment acknowledges what cannot be in that state", "stack"),
    "TCP_RFC7323_PAWS": Reason("the timestamp echo of a SYN,ACK is impossible", "stack", "TcpExtPAWSActive"),
    "TCP_TOO_OLD_ACK": Reason("the acknowledgement is too old", "stack"),
    "TCP_ACK_UNSENT_DATA": Reason("data was acknowledged that was never sent", "stack"),
    "TCP_FLAGS": Reason("the flags make no sense for that state, such as an ACK to a listening socket", "stack"),
    "TCP_OLD_ACK": Reason("the acknowledgement is old, but within the acceptable window", "stack"),
    "TCP_ABORT_ON_DATA": Reason(
        "data arrived for a socket that its program had already closed", "stack", "TcpExtTCPAbortOnData"
    ),
    "TCP_TIMEWAIT_SOCKET": Reason(
        "a segment arrived for what is left of a closed connection (TIME-WAIT or FIN-WAIT-2)", "stack"
    ),
    "INVALID_SYN": Reason(
        "a SYN arrived that does not fit the connection being made, or the accept queue is full",
        "stack",
        "TcpExtEmbryonicRsts",
    ),
    "TCP_ABORT_ON_CLOSE": Reason("close() found received data that nobody had read", "active", "TcpExtTCPAbortOnClose"),
    "TCP_ABORT_ON_LINGER": Reason(
        "the linger time of a closed socket in FIN-WAIT-2 is negative", "active", "TcpExtTCPAbortOnLinger"
    ),
    "TCP_ABORT_ON_MEMORY": Reason(
        "too many orphaned sockets, or no memory for them", "active", "TcpExtTCPAbortOnMemory"
    ),
    "TCP_STATE": Reason(
        "the socket was aborted in that state: close() with SO_LINGER {on, 0}, for one",
        "active",
        "TcpExtTCPAbortOnData",
    ),
    "TCP_KEEPALIVE_TIMEOUT": Reason("keepalive probes went unanswered", "active", "TcpExtTCPAbortOnTimeout"),
    "TCP_DISCONNECT_WITH_DATA": Reason("disconnected with data still to be sent", "active"),
}
