"""Resets with which a closed socket answers: what came after the FIN, or was under way when it left."""

from __future__ import annotations

from faultkit.explaining import payload
from faultkit.explaining.diagnosis import Finding, Sender
from faultkit.explaining.flows import ACK, FIN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CALLS, listed

_LAST_WORDS = 128  # bytes: the answer to a farewell is short; arbitrary


def explain(story: Story, rst: Packet, fin: Packet, trigger: Packet | None, by: Sender, end: str) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    # What met the closed socket: the last of the other's data before the RST that came after the FIN left.
    late = [p for p in story.before(rst) if p.side != side and p.size and p.number > fin.number]
    crossing = [p for p in story.before(rst) if p.side != side and p.size and _under_way(story, p, fin)]
    met = (
        trigger
        if trigger is not None and (trigger.size or trigger.flags & FIN)
        else next(iter((late or crossing)[-1:]), None)
    )
    if met is None or not (met.size or met.flags & FIN):
        if trigger is not None and trigger.number > fin.number:
            both = story.fin_before(1 - side, rst)
            if both:
                return _after_both(story, rst, trigger, by)
            return Finding(
                "reset after its own close",
                "suspicious",
                ("fin-wait-timeout --end skipped",),
                "most likely",
                f"The {name}'s FIN (packet {fin.number}) was acknowledged in packet {trigger.number}, and that "
                "alone was answered with a RST "
                f"(packet {rst.number}): its socket does not wait for the other's FIN (TCP_LINGER2 below 0)",
                by=by,
            )
        met = met or trigger
    both = story.fin_before(1 - side, rst)
    if both and both is not met and met is not None and (not met.size or both.number < met.number):
        return _after_both(story, rst, met, by)
    data = [
        p
        for p in story.before(rst)
        if p.side != side and p.size and (p.number > fin.number or _under_way(story, p, fin))
    ]
    bye = payload.farewell(data)
    if not bye and data and sum(p.size or 0 for p in data) <= _LAST_WORDS:
        goodbye = [p for p in story.before(fin) if p.side == side and p.size]
        last_words = payload.farewell(goodbye[-1:]) if goodbye else ""
        bye = f"the answer to {last_words}" if last_words else ""
    in_flight = met is not None and met.ack is not None and fin.seq is not None and met.ack <= fin.seq
    waited = story.seconds(fin, met)
    earlier = [p for p in story.before(data[0]) if p.side == side and p.size] if data else []
    idle = story.idle_before(min(fin, data[0], key=lambda p: p.number)) if data else None
    met_number = met.number if met else rst.number
    crossed = met is not None and met.number < fin.number
    if bye or not data:
        return Finding(
            "reset after its own close: harmless",
            "harmless",
            ("late-write",),
            "shown by the packets" if bye else "most likely",
            f"The {name} had closed (FIN in packet {fin.number}); packet {met_number} of the {other} "
            f"({bye or 'an acknowledgement'}) "
            f"{'was under way then' if crossed else 'came after that'}, and a closed socket answers with RST "
            f"(packet {rst.number})",
            by=by,
        )
    if in_flight:
        request = earlier and side == 1 and payload.request(data[0])
        if request:
            return Finding(
                end,
                "failed",
                ("keepalive-race --fin in-flight", "late-write"),
                "shown by the packets",
                f"The server's FIN left in packet {fin.number}, and the request of packet {data[0].number} was "
                "already under way: it does not "
                f"acknowledge the FIN. It met a closed socket, which answers with RST (packet {rst.number})"
                f"{'' if idle is None else f'; the connection had been idle for {idle:.3g} s'}",
                by=by,
                tell="is that idle time the server's keep-alive timeout? faultkit nest compares them",
            )
        return Finding(
            end,
            "suspicious",
            ("late-write", "keepalive-race --fin in-flight"),
            "most likely",
            f"The {name} closed (FIN in packet {fin.number}) while data of the {other} was under way (packet "
            f"{listed(data)}): "
            f"RST in packet {rst.number}. What the {other} sent was not read",
            by=by,
        )
    if waited is not None and waited > 59:
        return Finding(
            end,
            "failed",
            ("fin-wait-timeout", "late-write"),
            "most likely",
            f"The {name} closed in packet {fin.number}; {waited:.0f} s later the {other} sent packet "
            f"{met_number}, and by then the kernel had dropped "
            f"what was left of the connection (tcp_fin_timeout): RST in packet {rst.number}",
            by=by,
        )
    if earlier and side == 1 and payload.request(data[0]):
        return Finding(
            end,
            "failed",
            ("keepalive-race --fin unprocessed", "late-write"),
            "most likely",
            f"The server had closed (FIN in packet {fin.number}), the client's kernel knew it (packet "
            f"{met_number} acknowledges the FIN), and its "
            f"program sent another request all the same: RST in packet {rst.number}",
            by=by,
            tell="is the idle time before the FIN the server's keep-alive timeout? faultkit nest compares them",
        )
    return Finding(
        end,
        "suspicious",
        ("late-write", "fin-wait-timeout", "crash --request read", "keepalive-race --fin unprocessed"),
        "most likely",
        f"The {name} had closed (FIN in packet {fin.number}), and the {other} wrote again (packet "
        f"{listed(data)}): a closed socket answers "
        f"with RST (packet {rst.number})",
        by=by,
        against="a server that was killed, or a kernel that has dropped the connection, answers in the same way",
        tell=CALLS.format(who=name),
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
