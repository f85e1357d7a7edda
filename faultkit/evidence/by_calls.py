"""What the programs' own calls, the kernel's lists and what was done to the stage leave of the explanations of a RST. Pure.

A call tells only of its own program: of an end whose calls were not recorded nothing is left out.
"""

from __future__ import annotations

from faultkit.evidence.by_packets import MIDDLEBOX, SECOND, WAITING, Explanation, Waiting
from faultkit.evidence.segments import form
from faultkit.evidence.standing import Standing
from faultkit.evidence.transcript import Address, Call, Packet, Transcript

LISTENING, NOT_LISTENING = "its listening on that port", "nobody's listening on that port"
CALLS = "its program's calls"
NO_FORGER = "the stage's having no rule and no actor that could make one"
_ABORTED = "SO_LINGER {1, 0}"
_OF_A_SOCKET = ("NO_SOCKET", "TCP_FLAGS", "TCP_TIMEWAIT_SOCKET")  # what no segment for a socket that there is can bring


def recorded(role: str, transcript: Transcript) -> bool:
    """Were that end's calls written down?"""
    return any(call.role == role for call in transcript.calls)


def left(
    found: list[Explanation], rst: Packet, stood: Standing, transcript: Transcript
) -> tuple[list[Explanation], list[str]]:
    """Those that the calls and the steps allow, and what left the others out."""
    if form(rst) == "active":
        if not recorded(transcript.role(rst.source), transcript):
            return found, []
        program = _Program(rst, stood, transcript)
        kept = [one for one in found if one.by == MIDDLEBOX or program.may(one)]
        return kept, [CALLS] if len(kept) < len(found) else []
    listens = listening(rst.source, rst.time_ns, transcript)
    here = {True: ("NO_SOCKET",), False: ("TCP_FLAGS", "INVALID_SYN"), None: ()}[listens]
    clues = []
    for wrong, clue in (
        (here, LISTENING if listens else NOT_LISTENING),
        (_OF_A_SOCKET if _connecting(rst, stood, transcript) else (), CALLS),
    ):
        kept = [one for one in found if one.reason not in wrong]
        if len(kept) < len(found):
            found = kept
            clues.append(clue)
    return found, clues


def waiting(rst: Packet, transcript: Transcript) -> Waiting:
    """How long what is left of the sender's connection waits: TCP_LINGER2, tcp_fin_timeout, else 60 s (tcp(7))."""
    listed = [one for one in transcript.listed if (one.local, one.remote) == (rst.source, rst.destination)]
    before = [one for one in listed if one.time_ns < rst.time_ns]
    if before and not before[-1].state:
        return Waiting(0, 0)
    role = transcript.role(rst.source)
    set_to = [step.text.split()[-1] for step in transcript.steps if step.text.startswith("net.ipv4.tcp_fin_timeout = ")]
    set_to += [
        call.argument.split()[-1]
        for call in transcript.calls
        if call.role == role and call.argument.startswith("TCP_LINGER2 ")
    ]
    if not set_to:
        return WAITING
    times = [int(text) * SECOND for text in set_to]
    return Waiting(max(min(times) - SECOND // 10, 0), max(times) * 9 // 8 + SECOND // 2)


def listening(address: Address, at: int, transcript: Transcript) -> bool | None:
    """Did a socket of the run listen on that address at that time? None where nobody knows, or it was about to change."""
    anywhere = Address("::" if ":" in address.host else "0.0.0.0", address.port)
    if not recorded(transcript.role(address), transcript):
        return _listed(
            {address, anywhere, Address("::", address.port)}, at, transcript.places.get(address.host, ""), transcript
        )
    calls = [call for call in transcript.calls if call.outcome == "ok"]
    names = (str(address), str(anywhere))
    bound = {(c.role, c.socket) for c in calls if c.name == "bind" and c.argument in names}
    told = {
        _between(at, (call.began_ns, call.ended_ns), _closed((call.role, call.socket), transcript))
        for call in calls
        if call.name == "listen" and (call.role, call.socket) in bound
    }
    return True if True in told else None if None in told else False


def _listed(names: set[Address], at: int, place: str, transcript: Transcript) -> bool | None:
    """By the kernel's lists before and after that time, where both say the same."""
    before = [count.listeners for count in transcript.counts if count.place == place and count.ended_ns < at]
    after = [count.listeners for count in transcript.counts if count.place == place and count.passed_ns >= at]
    if not before or not after or before[-1] is None or after[0] is None:
        return None
    was, will = bool(names & before[-1]), bool(names & after[0])
    return was if was == will else None


def _between(at: int, began: tuple[int, int], ended: tuple[int, int] | None) -> bool | None:
    """Is that time after the one and before the other? None where it is within either."""
    if at < began[0] or (ended and at > ended[1]):
        return False
    return None if at <= began[1] or (ended and at >= ended[0]) else True


def _closed(key: tuple[str, int], transcript: Transcript) -> tuple[int, int] | None:
    """From when to when that socket was closed, by a call or with its process; None for one that was not."""
    for call in transcript.calls:
        if call.name == "close" and (call.role, call.socket) == key:
            return call.began_ns, call.ended_ns
    return transcript.deaths.get(key)


def may_be_forged(rst: Packet, transcript: Transcript) -> bool:
    """Was there something by then that makes segments in others' names?"""
    return forges(transcript, rst.time_ns)


def forges(transcript: Transcript, until_ns: int) -> bool:
    """In a namespace of our own only what the run itself put there makes segments: a rule that resets, or a forger."""
    return not transcript.alone or any(
        step.time_ns <= until_ns and (step.actor == "forged" or (step.actor == "firewall" and "reset" in step.text))
        for step in transcript.steps
    )


def _connecting(rst: Packet, stood: Standing, transcript: Transcript) -> bool:
    """Was the sender's program in connect() with that very SYN?"""
    return stood.syn is not None and any(
        call.name == "connect"
        and call.role == transcript.role(rst.source)
        and call.argument == str(rst.destination)
        and call.began_ns <= stood.syn.time_ns
        and rst.time_ns < call.ended_ns
        for call in transcript.calls
    )


class _Program:
    """What the program did whose socket sent that RST."""

    def __init__(self, rst: Packet, stood: Standing, transcript: Transcript) -> None:
        role, at = transcript.role(rst.source), rst.time_ns
        own = [call for call in transcript.calls if call.role == role]
        ends = frozenset((rst.source, rst.destination))
        holders = {key for key, connection in transcript.connections.items() if connection == ends and key[0] == role}
        sockets = {(call.role, call.socket) for call in own}
        self.lingering = {(c.role, c.socket) for c in own if c.argument == _ABORTED and c.ended_ns <= at}
        self.listeners = {(c.role, c.socket) for c in own if c.name == "listen"}
        closed = {key: when for key in sockets if (when := _closed(key, transcript))}
        self.closing = {key for key, (began, ended) in closed.items() if began <= at <= ended}
        self.dissolving = {(c.role, c.socket) for c in own if c.name == "disconnect" and c.began_ns <= at <= c.ended_ns}
        self.held = any(key not in closed or at < closed[key][0] for key in holders)
        self.keepalive = any(call.argument.startswith("SO_KEEPALIVE ") for call in own)
        # A program may be told before its RST has come through loopback's queue, to where it is captured.
        self.timed_out = any(
            (c.role, c.socket) in holders and c.outcome == "ETIMEDOUT" and (c.name != "connect" or c.ended_ns >= at)
            for c in own
        )
        shut = any((c.role, c.socket) in holders and _shuts(c) and c.ended_ns <= at for c in own)
        self.last = stood.peer_fin and shut  # LAST-ACK or CLOSING

    def may(self, one: Explanation) -> bool:
        """May that be it? Whether it was counted is not asked here."""
        acting = self.closing | self.dissolving
        if self.dissolving and not self.closing and one.reason not in ("TCP_STATE", "TCP_DISCONNECT_WITH_DATA"):
            return False  # tcp_disconnect() has no others
        if one.reason == "TCP_KEEPALIVE_TIMEOUT":
            return not acting and self.keepalive
        if one.moves == "TcpExtTCPAbortOnData" and not self.closing & self.lingering:
            return False
        if one.reason in ("TCP_STATE", "TCP_DISCONNECT_WITH_DATA") and not one.moves:
            if acting:
                return bool(self.dissolving or self.closing & self.listeners) and self._of_its_state(one)
            # By itself: a timer of what its program had closed before, or somebody else's tcp_abort() (ss -K).
            return one.reason == "TCP_STATE" and not (self.held and self.timed_out)
        return self._of_its_state(one)

    def _of_its_state(self, one: Explanation) -> bool:
        """tcp_disconnect() resets in LAST-ACK and CLOSING with data unsent, and in the states before those always."""
        if one.reason in ("TCP_STATE", "TCP_DISCONNECT_WITH_DATA"):
            return self.last == (one.reason == "TCP_DISCONNECT_WITH_DATA")
        return True


def _shuts(call: Call) -> bool:
    return call.name == "shutdown" and call.outcome == "ok" and call.argument in ("SHUT_WR", "SHUT_RDWR")
