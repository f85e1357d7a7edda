"""Every explanation that a captured RST has by the packets alone: who may have sent it, and for which of the kernel's reasons.

Pure. Each rule leaves out only what Linux cannot have done; sources are the functions of net/ipv4 that are named. Where
nothing else is known than a capture, this is all that can be said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from faultkit.evidence import multipath
from faultkit.evidence.reasons import REASONS
from faultkit.evidence.segments import form
from faultkit.evidence.standing import Standing, after
from faultkit.evidence.transcript import Packet

MIDDLEBOX = "middlebox"
SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Explanation:
    """One way in which a RST may have come about."""

    by: str  # a role, or MIDDLEBOX
    reason: str = ""  # the kernel's, "" where none sent it
    moves: str = ""  # the counter that it moves beside TcpOutRsts
    clue: str = ""  # what in the packets speaks for it

    @property
    def named(self) -> tuple[str, str]:
        """What is said of it."""
        return self.by, self.reason


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long what is left of a closed connection waits for the other end's FIN, in ns, once its own is acknowledged."""

    least: int
    most: int


# tcp_fin_timeout is 60 s unless somebody has set it (tcp(7)); a timer fires late by up to an eighth (kernel/time/timer.c).
WAITING = Waiting(59 * SECOND, 69 * SECOND)


def explanations(rst: Packet, by: str, stood: Standing, waiting: Waiting = WAITING) -> list[Explanation]:
    """All that the packets allow, a middlebox always among them. `by` is the role in whose name the RST came."""
    if stood.goes_on:
        return [Explanation(MIDDLEBOX, clue="its going on with the connection afterwards")]
    if form(rst) == "stack" and stood.trigger is None:
        return [Explanation(MIDDLEBOX, clue="the RST's number, which answers nothing that was sent to it")]
    if any(name == "opt30" for name, _ in rst.options):
        own = _of_mptcp(rst)
    elif form(rst) == "active":
        own = _of_a_socket(stood)
    elif rst.ip_id:  # ip_send_unicast_reply() sends an answer of the stack unfragmentable and unnumbered
        own = []
    else:
        own = [one for one in _of_the_stack(rst, stood, waiting) if one[0] in _IN_HANDSHAKE or not stood.repeats]
    return [*(Explanation(by, reason, moves, clue) for reason, moves, clue in own), Explanation(MIDDLEBOX)]


_Own = Iterable[tuple[str, str, str]]  # reason, counter, clue


def _of_mptcp(rst: Packet) -> _Own:
    """MPTCP says why in the RST itself."""
    if said := multipath.reason(rst):
        yield said, "", "its own MP_TCPRST option"
    else:  # MP_FASTCLOSE: mptcp_do_fastclose()
        yield "TCP_ABORT_ON_CLOSE", "", "its MPTCP option"


def _of_a_socket(stood: Standing) -> _Own:
    """tcp_send_active_reset() and who calls it."""
    for name, reason in REASONS.items():
        if reason.form == "active" and reason.counter and name != "TCP_STATE":
            yield name, reason.counter, ""
    # close() with SO_LINGER {on, 0} counts (__tcp_close()); tcp_disconnect() by itself, a listener that closes with
    # connections nobody accepted (inet_csk_listen_stop()) and a timer in FIN-WAIT-2 (tcp_keepalive_timer()) do not.
    yield "TCP_STATE", "TcpExtTCPAbortOnData", ""
    yield "TCP_STATE", "", ""
    if stood.peer_fin:  # CLOSING or LAST-ACK: tcp_disconnect()
        yield "TCP_DISCONNECT_WITH_DATA", "TcpExtTCPAbortOnData", "the other end's FIN before it"
        yield "TCP_DISCONNECT_WITH_DATA", "", "the other end's FIN before it"


EMBRYONIC = "TcpExtEmbryonicRsts"
# What a socket answers before it is established, and is there all the same afterwards (tcp_rcv_state_process()).
_IN_HANDSHAKE = ("TCP_INVALID_ACK_SEQUENCE", "TCP_RFC7323_PAWS", "TCP_TOO_OLD_ACK", "TCP_ACK_UNSENT_DATA")


def _of_the_stack(rst: Packet, stood: Standing, waiting: Waiting) -> _Own:
    """tcp_v4_send_reset() and who calls it, by the segment that it answers."""
    trigger = stood.trigger
    assert trigger is not None
    if "SYN" in trigger.flags and "ACK" not in trigger.flags:
        return _to_a_syn(rst, stood, waiting)
    if "SYN" in trigger.flags:
        return _to_a_syn_ack(rst, stood, waiting)
    return _to_an_ack(rst, stood, waiting)


def _bucket(rst: Packet, stood: Standing, waiting: Waiting) -> tuple[bool, bool]:
    """May there be, and must there be, a bucket in FIN-WAIT-2? One in TIME-WAIT resets nothing (tcp_timewait_state_process())."""
    if not stood.fin or not stood.fin_acked_ns or stood.peer_fin or stood.peer_reset:
        return False, False
    age = rst.time_ns - stood.fin_acked_ns
    return age < waiting.most, age < waiting.least


def _to_a_syn(rst: Packet, stood: Standing, waiting: Waiting) -> _Own:
    may, must = _bucket(rst, stood, waiting)
    if may:
        yield "TCP_TIMEWAIT_SOCKET", "", "its own FIN before it"
    if stood.syn and "ACK" in stood.syn.flags and not stood.spoke:  # tcp_check_req()
        yield "INVALID_SYN", EMBRYONIC, "its own SYN,ACK to another SYN before it"
    if not must:
        yield "NO_SOCKET", "", "its answering a SYN"


def _to_a_syn_ack(rst: Packet, stood: Standing, waiting: Waiting) -> _Own:
    trigger, syn = stood.trigger, stood.syn
    assert trigger is not None
    if syn and "ACK" not in syn.flags and not stood.answered:  # SYN-SENT: tcp_rcv_synsent_state_process()
        echo = next((value[1] for name, value in trigger.options if name == "TS" and isinstance(value, tuple)), None)
        if trigger.ack != after(syn):
            yield "TCP_INVALID_ACK_SEQUENCE", "", "its own SYN before it, and a number that is not the next"
        elif echo is not None and stood.stamps and echo not in stood.stamps:
            yield "TCP_RFC7323_PAWS", "TcpExtPAWSActive", "the echo of a timestamp that it did not send"
    if _bucket(rst, stood, waiting)[0]:
        yield "TCP_TIMEWAIT_SOCKET", "", "its own FIN before it"
    yield "NO_SOCKET", "", "its answering a SYN,ACK"
    yield "TCP_FLAGS", "", "its answering a SYN,ACK"


def _to_an_ack(rst: Packet, stood: Standing, waiting: Waiting) -> _Own:
    trigger, syn = stood.trigger, stood.syn
    assert trigger is not None
    if syn and not stood.answered and not stood.spoke:
        off = (trigger.ack - after(syn)) & 0xFFFFFFFF
        if "ACK" not in syn.flags and not stood.crossed and off:  # SYN-SENT: tcp_rcv_synsent_state_process()
            yield "TCP_INVALID_ACK_SEQUENCE", "", "its own SYN before it, and a number that is not the next"
        if stood.crossed:  # SYN-RECEIVED of a socket: tcp_ack(). A listener's is no socket yet, and answers as LISTEN
            if off >= 0x80000000:
                yield "TCP_TOO_OLD_ACK", "", "its own SYN,ACK before it, and a number below"
            elif off:
                yield "TCP_ACK_UNSENT_DATA", "", "its own SYN,ACK before it, and a number beyond"
    if (
        syn and "ACK" in syn.flags and not stood.spoke and trigger.ack == after(syn)
    ):  # listen_overflow in tcp_check_req()
        yield "INVALID_SYN", EMBRYONIC, "its answering the end of a handshake"
    # tcp_rcv_state_process(): after close() data resets, and with TCP_LINGER2 below 0 the acknowledgement of the FIN does
    if trigger.payload or (stood.fin and trigger.ack == after(stood.fin)):
        yield "TCP_ABORT_ON_DATA", "TcpExtTCPAbortOnData", "data after its own FIN" if stood.fin else ""
    may, must = _bucket(rst, stood, waiting)
    if may and trigger.payload:
        yield "TCP_TIMEWAIT_SOCKET", "", "its own FIN before it"
        if must:
            return
    if stood.fin:
        late = "after the other end's" if stood.peer_fin else "longer ago than the connection may wait"
        gone = f"its own FIN before it, {late}"
    else:
        gone = "there being no FIN before it"
    yield "NO_SOCKET", "", gone
    yield "TCP_FLAGS", "", gone
