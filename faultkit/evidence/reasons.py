"""The kernel's reset reasons, and how each is read where the kernel does not say it. Pure.

Names and meanings follow `enum sk_rst_reason` in include/net/rstreason.h (Linux 6.18), without SK_RST_REASON_.
"""

from __future__ import annotations

import re
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
    unreached: str = ""  # why no cause produces it


_NEVER_SET = "Linux defines it and translates it, but nothing in net/mptcp assigns it"
_NO_REASON = "it stands for the absence of a reason, and no way to it is known"

REASONS: dict[str, Reason] = {
    "NO_SOCKET": Reason("no socket knows that connection or listens on that port", "stack"),
    "TCP_INVALID_ACK_SEQUENCE": Reason("the segment acknowledges what cannot be in that state", "stack"),
    "TCP_RFC7323_PAWS": Reason("the timestamp echo of a SYN,ACK is impossible", "stack", "TcpExtPAWSActive"),
    "TCP_TOO_OLD_ACK": Reason("the acknowledgement is too old", "stack"),
    "TCP_ACK_UNSENT_DATA": Reason("data was acknowledged that was never sent", "stack"),
    "TCP_FLAGS": Reason("the flags make no sense for that state, such as an ACK to a listening socket", "stack"),
    "TCP_OLD_ACK": Reason(
        "the acknowledgement is old, but within the acceptable window",
        "stack",
        unreached="a reset is sent for it in SYN-RECEIVED alone, where nothing has been acknowledged yet, and so every "
        "old number is TCP_TOO_OLD_ACK (tcp_ack(): the window is never more than bytes_acked)",
    ),
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
        "too many orphaned sockets, or no memory for them",
        "active",
        "TcpExtTCPAbortOnMemory",
        unreached="its knobs, tcp_max_orphans and tcp_mem, are the whole machine's and no namespace's: never touched here",
    ),
    "TCP_STATE": Reason(
        "the socket was aborted in that state: close() with SO_LINGER {on, 0}, for one",
        "active",
        "TcpExtTCPAbortOnData",
    ),
    "TCP_KEEPALIVE_TIMEOUT": Reason("keepalive probes went unanswered", "active", "TcpExtTCPAbortOnTimeout"),
    "TCP_DISCONNECT_WITH_DATA": Reason("disconnected with data still to be sent", "active"),
    "MPTCP_RST_EUNSPEC": Reason(
        "MPTCP: the subflow is refused without a reason given (RFC 8684 section 3.6)", "active"
    ),
    "MPTCP_RST_EMPTCP": Reason("MPTCP: a join fits no connection, or its proof is wrong", "stack"),
    "MPTCP_RST_ERESOURCE": Reason("MPTCP: no resources for another subflow", "stack", unreached=_NEVER_SET),
    "MPTCP_RST_EPROHIBIT": Reason("MPTCP: policy forbids that subflow", "stack"),
    "MPTCP_RST_EWQ2BIG": Reason("MPTCP: too much data in flight on that subflow", "stack", unreached=_NEVER_SET),
    "MPTCP_RST_EBADPERF": Reason("MPTCP: that subflow is too slow", "stack", unreached=_NEVER_SET),
    "MPTCP_RST_EMIDDLEBOX": Reason("MPTCP: a middlebox changed the data", "active"),
    "NOT_SPECIFIED": Reason("the code that sent it named no reason", "stack", unreached=_NO_REASON),
    "ERROR": Reason(
        "a reason of a dropped segment that has none of its own for a reset", "stack", unreached=_NO_REASON
    ),
}


def listed(tracepoint_format: str) -> dict[str, int]:
    """The kernel's own list, from the format file of tcp:tcp_send_reset: name and number, in its order."""
    table = tracepoint_format.rpartition("__print_symbolic(REC->reason,")[2]
    found = {name: int(number) for number, name in re.findall(r'{ *(\d+), *"(\w+)" *}', table)}
    found.pop("MAX", None)  # the end of the list, not a reason
    return found
