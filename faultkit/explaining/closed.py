"""Resets with which a closed socket answers: what came after the FIN, or was under way when it left."""

from __future__ import annotations

from dataclasses import dataclass

from faultkit.explaining import owed, payload
from faultkit.explaining.diagnosis import Finding, Sender
from faultkit.explaining.flows import ACK, FIN, RST, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CALLS, lasting, listed

_FIN_TIMEOUT = 59  # seconds: net.ipv4.tcp_fin_timeout is 60 where nobody has changed it
_PAUSE = 0.05  # seconds: a shorter one lies within one exchange; arbitrary
_LARGE = 4096  # bytes: a request that is larger is called an upload; arbitrary
_LAST_WORDS = 128  # bytes: the answer to a farewell is short; arbitrary


@dataclass(frozen=True, slots=True)
class _Meeting:
    """What met a closed socket: its FIN, what came after that or crossed it, and the RST that answers."""

    story: Story
    rst: Packet
    fin: Packet
    met: Packet | None
    data: list[Packet]  # of the other end, not read
    by: Sender
    end: str

    @property
    def name(self) -> str:
        return SIDES[self.rst.side]

    @property
    def other(self) -> str:
        return SIDES[1 - self.rst.side]

    @property
    def number(self) -> int:
        """Of the packet that was answered; of the RST itself where that is not known."""
        return self.met.number if self.met else self.rst.number

    @property
    def in_flight(self) -> bool:
        """Does what met it not acknowledge the FIN?"""
        met, fin = self.met, self.fin
        return met is not None and met.ack is not None and fin.seq is not None and met.ack <= fin.seq

    @property
    def is_request(self) -> bool:
        """Is it another request to a server that has answered one before?"""
        answered = any(p.size and p.side == 1 for p in self.story.before(self.data[0]))
        return self.rst.side == 1 and answered and payload.request(self.data[0])


def explain(story: Story, rst: Packet, fin: Packet, trigger: Packet | None, by: Sender, end: str) -> Finding:
    theirs = [p for p in story.before(rst) if p.side != rst.side and p.size]
    data = [p for p in theirs if p.number > fin.number or _under_way(story, p, fin)]
    both = story.fin_before(1 - rst.side, rst)
    if both and trigger is None and all(_acknowledged(story, rst, one) for one in (fin, both)):
        waited = story.idle_before(rst)
        return Finding(
            "reset after both had closed: harmless",
            "harmless",
            (),
            "most likely",
            f"Both had closed (FINs in packets {listed(sorted((fin, both)))}) and acknowledged that; the RST in packet "
            f"{rst.number}"
            f"{'' if waited is None else f', {lasting(waited)} later,'} answers nothing that was captured and ends nothing any "
            f"more",
            by=by,
            plain="a RST after the close",
        )
    met = _met(rst, fin, trigger, data)
    if met is None or not (met.size or met.flags & FIN):
        if trigger is not None and trigger.number > fin.number:
            return _after_both(story, rst, trigger, by) if both else _skipped(story, rst, fin, trigger, by)
        met = met or trigger
    if both and both is not met and met is not None and (not met.size or both.number < met.number):
        return _after_both(story, rst, met, by)
    if met is None:
        return _unseen(story, rst, fin, by, end)
    meeting = _Meeting(story, rst, fin, met, data, by, end)
    crossed = meeting.in_flight or (meeting.met is not None and not meeting.met.size and _all_crossed(data, fin))
    return _harmless(meeting) or (_crossed(meeting) if crossed else _written_later(meeting))


def _all_crossed(data: list[Packet], fin: Packet) -> bool:
    """Was all of the data sent without knowing of the FIN? What was answered is another segment, without data."""
    return bool(data) and all(p.ack is not None and fin.seq is not None and p.ack <= fin.seq for p in data)


def _acknowledged(story: Story, rst: Packet, fin: Packet) -> bool:
    return any(
        p.side != fin.side and p.ack is not None and fin.end is not None and p.ack >= fin.end for p in story.before(rst)
    )


def _met(rst: Packet, fin: Packet, trigger: Packet | None, data: list[Packet]) -> Packet | None:
    """What the RST answers: its trigger if that carries anything, else the last of the other's data after the FIN left."""
    if trigger is not None and (trigger.size or trigger.flags & FIN):
        return trigger
    late = [p for p in data if p.number > fin.number]
    return next(iter((late or data)[-1:]), None)


def _unseen(story: Story, rst: Packet, fin: Packet, by: Sender, end: str) -> Finding:
    """What met the closed socket was not captured."""
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    deaf = not story.sides[1 - rst.side].packets
    return Finding(
        "reset after its own close",
        "suspicious",
        ("late-write", "fin-wait-timeout", "time-wait"),
        "cannot be told",
        f"The {name} had closed (FIN in packet {fin.number}), and its RST in packet {rst.number} answers something of the "
        f"{other} that was not captured{', as nothing of it was' if deaf else ''}: an acknowledgement or old data, which is "
        "harmless, or new data, which is lost",
        by=by,
        tell=f"a capture that has the {other}'s packets",
    )


def _skipped(story: Story, rst: Packet, fin: Packet, trigger: Packet, by: Sender) -> Finding:
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    first = next(p for p in story.after(fin) if p.side != fin.side and p.ack == trigger.ack and not p.flags & RST)
    if first is not trigger:
        waited = story.seconds(fin, trigger)
        later = "" if waited is None else f", {lasting(waited)} after the FIN"
        probe = " (a keepalive probe)" if story.is_probe(trigger) else ""
        return Finding(
            "reset after its own close",
            "suspicious",
            ("fin-wait-timeout",),
            "most likely",
            f"The {name}'s FIN (packet {fin.number}) was acknowledged in packet {first.number}, and the {other} did not close. "
            f"Its packet {trigger.number}{later}, brings nothing new{probe} and "
            f"meets no socket: the {name}'s kernel had dropped what was left of it (FIN-WAIT-2), and answers with RST (packet "
            f"{rst.number})",
            by=by,
        )
    return Finding(
        "reset after its own close",
        "suspicious",
        ("fin-wait-timeout --end skipped",),
        "most likely",
        f"The {SIDES[rst.side]}'s FIN (packet {fin.number}) was acknowledged in packet {trigger.number}, and that alone was "
        f"answered with a RST (packet {rst.number}): its socket does not wait for the other's FIN (TCP_LINGER2 below 0)",
        by=by,
    )


def _harmless(m: _Meeting) -> Finding | None:
    """Nothing but the last words of a protocol, or no data at all."""
    bye = payload.farewell(m.data)
    if not bye and m.data and sum(p.size or 0 for p in m.data) <= _LAST_WORDS:
        goodbye = [p for p in m.story.before(m.fin) if p.side == m.rst.side and p.size]
        last_words = payload.farewell(goodbye[-1:]) if goodbye else ""
        bye = f"the answer to {last_words}" if last_words else ""
    if m.data and not bye:
        return None
    crossed = m.met is not None and m.met.number < m.fin.number
    waits = "" if m.rst.side == 0 or m.fin.size else owed.unanswered(m.story, m.fin)
    return Finding(
        "reset after its own close" if waits else "reset after its own close: harmless",
        "suspicious" if waits else "harmless",
        ("late-write",),
        "shown by the packets" if bye else "most likely",
        f"The {m.name} had closed (FIN in packet {m.fin.number}); packet {m.number} of the {m.other} "
        f"({bye or 'an acknowledgement'}) {'was under way then' if crossed else 'came after that'}, and a closed socket "
        f"answers with RST (packet {m.rst.number}){f'. But when it closed, {waits}' if waits else ''}",
        by=m.by,
    )


def _crossed(m: _Meeting) -> Finding:
    """It was under way when the FIN left."""
    idle = m.story.idle_before(min(m.fin, m.data[0], key=lambda p: p.number))
    hidden = payload.encrypted(m.data[0])
    # Of encrypted data that follows the answer at once nothing shows that it is another request.
    if m.is_request and not (hidden and idle is not None and idle < _PAUSE):
        return Finding(
            m.end,
            "failed",
            ("keepalive-race --fin in-flight", "late-write"),
            "most likely" if hidden else "shown by the packets",
            f"The server's FIN left in packet {m.fin.number}, and the {'data' if hidden else 'request'} of packet "
            f"{m.data[0].number} was already under "
            f"way: it does not acknowledge the FIN. It met a closed socket, which answers with RST (packet {m.rst.number})"
            f"{'' if idle is None else f'; the connection had been idle for {lasting(idle)}'}",
            by=m.by,
            tell="is that idle time the server's keep-alive timeout? faultkit nest compares them",
        )
    if m.rst.side == 0 and (lacks := owed.response_lacks(m.story, m.rst)):
        return Finding(
            m.end,
            "failed",
            ("late-write",),
            "most likely",
            f"The client closed (FIN in packet {m.fin.number}) while data of the server were under way (packet "
            f"{listed(m.data)}), and {lacks}: RST in packet {m.rst.number}. It gave the response up",
            by=m.by,
            tell="the client's timeout and its log",
        )
    if m.rst.side == 1 and _is_upload(m):
        return Finding(
            m.end,
            "failed",
            ("early-response", "late-write"),
            "most likely",
            f"The server answered and closed (FIN in packet {m.fin.number}) while an upload of the client was under way (packet "
            f"{listed(m.data)}): nobody reads that, and the RST in packet {m.rst.number} may overtake the answer in the client",
            by=m.by,
            tell=CALLS.format(who=m.name),
        )
    return Finding(
        m.end,
        "suspicious",
        ("late-write", "keepalive-race --fin in-flight"),
        "most likely",
        f"The {m.name} closed (FIN in packet {m.fin.number}) while data of the {m.other} was under way (packet "
        f"{listed(m.data)}): RST in packet {m.rst.number}. What the {m.other} sent was not read",
        by=m.by,
    )


def _is_upload(m: _Meeting) -> bool:
    """Had the server answered in the middle of something large that the client sent?"""
    before = m.story.before(m.rst)
    answers = [p for p in before if p.side == 1 and p.size]
    begun = [p for p in before if p.side == 0 and p.size and answers and p.number < answers[-1].number]
    sent = sum(p.size or 0 for p in (*begun[-1:], *m.data) if not m.story.repeats(p))
    return bool(begun) and sent > _LARGE and any(payload.asks(p) for p in begun)


def _written_later(m: _Meeting) -> Finding:
    """The other end's kernel knew of the FIN when its program wrote."""
    waited = m.story.seconds(m.fin, m.met)
    if waited is not None and waited > _FIN_TIMEOUT:
        return Finding(
            m.end,
            "failed",
            ("fin-wait-timeout", "late-write"),
            "most likely",
            f"The {m.name} closed in packet {m.fin.number}; {waited:.0f} s later the {m.other} sent packet {m.number}, and by "
            f"then the kernel had dropped what was left of the connection (tcp_fin_timeout): RST in packet {m.rst.number}",
            by=m.by,
        )
    if m.is_request:
        return Finding(
            m.end,
            "failed",
            ("keepalive-race --fin unprocessed", "late-write"),
            "most likely",
            f"The server had closed (FIN in packet {m.fin.number}), the client's kernel knew it (packet {m.number} acknowledges "
            f"the FIN), and its program sent another request all the same: RST in packet {m.rst.number}",
            by=m.by,
            tell="is the idle time before the FIN the server's keep-alive timeout? faultkit nest compares them",
        )
    return Finding(
        m.end,
        "suspicious",
        ("late-write", "fin-wait-timeout", "crash --request read", "keepalive-race --fin unprocessed"),
        "most likely",
        f"The {m.name} had closed (FIN in packet {m.fin.number}), and the {m.other} wrote again (packet {listed(m.data)}): a "
        f"closed socket answers with RST (packet {m.rst.number})",
        by=m.by,
        against="a server that was killed, or a kernel that has dropped the connection, answers in the same way",
        tell=CALLS.format(who=m.name),
    )


def _after_both(story: Story, rst: Packet, met: Packet, by: Sender) -> Finding:
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    again = [p for p in story.before(met) if p.side == rst.side and p.size and story.repeats(p)]
    challenged = met.flags & ACK and not met.size and again
    stale = (story.repeats(met) and met.size) or challenged
    if challenged:
        met, other = again[-1], name
    if stale:
        return Finding(
            "reset after both had closed: harmless",
            "harmless",
            ("time-wait --arrives stale-data",),
            "most likely",
            f"Both had closed; packet {met.number} brought old data of the {other} once more, and what was left "
            "of the connection (TIME-WAIT) was "
            f"reset by it: RST in packet {rst.number} (RFC 1337)",
            by=by,
        )
    return Finding(
        "reset after both had closed: harmless",
        "harmless",
        ("late-write",),
        "shown by the packets" if met.size else "most likely",
        f"Both had closed; packet {met.number} of the {other} met what was left of the {name}'s socket, which "
        f"answers with RST (packet {rst.number})",
        by=by,
    )


def _under_way(story: Story, packet: Packet, fin: Packet) -> bool:
    """Did it cross the FIN, though it was captured before it? Then the FIN does not acknowledge it."""
    if packet.number > fin.number or packet.side == fin.side or fin.ack is None or packet.end is None:
        return False
    return fin.ack < packet.end
