"""Connections in which one side waits for the other at the end: data, probes, a FIN or a window unanswered."""

from __future__ import annotations

from faultkit.explaining import payload
from faultkit.explaining.diagnosis import Finding
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import lasting, listed

RETRIES = 5  # retransmissions after which some stack gives up: Windows' TcpMaxDataRetransmissions; Linux has 15
_AGAIN = 4  # times the same data was sent from which that is no chance loss; arbitrary
_SMALL = 1000  # bytes: what is larger may be too large for the path (RFC 1191); arbitrary
_SYNACK_AGAIN = 0.5  # seconds: no timer sends a SYN,ACK again sooner (RFC 6298 says 1); arbitrary
_PATIENCE = 5.0  # seconds with a window of 0 from which somebody is said not to read; arbitrary


def explain(story: Story, quiet: float | None) -> Finding | None:
    """Who waits, and for what. `quiet`: seconds from its last packet to the capture's end."""
    for look in (_waiting, _never_arrived):
        found = _unheard(story) or next((told for side in (0, 1) if (told := look(story, side, quiet))), None)
        if found:
            return found
    return None


def _waiting(story: Story, side: int, quiet: float | None) -> Finding | None:
    other = [p for p in story.sides[1 - side].packets if not p.flags & RST]
    last_heard = other[-1].number if other else 0
    own = [p for p in story.sides[side].packets if p.number > last_heard]
    answers = [p for p in story.sides[1].packets if p.flags & SYN]
    if side == 0 and len(answers) > 1 and not any(p.size or not p.flags & SYN for p in story.sides[1].packets):
        found = _not_accepted(story, answers)
        if found:
            return found
    again = [p for p in own if story.repeats(p) and not p.flags & SYN]
    if again and story.deaf is None:
        return _repeating(story, side, again, other, quiet)
    probes = [p for p in own if story.is_probe(p)]
    if probes and own[-1] in probes and (quiet is None or quiet > 1):
        return _probing(side, probes, quiet)
    acked = max((p.ack for p in other if p.ack is not None), default=0)
    if other and other[-1].window == 0 and not other[-1].flags & (SYN | FIN | RST) and (acked > 1 or story.midway):
        name, peer = SIDES[side], SIDES[1 - side]
        closed = _since_closed(story, 1 - side)
        waited = story.seconds(closed, story.packets[-1])
        long = waited is None or waited + (quiet or 0) >= _PATIENCE
        return Finding(
            f"the {peer} does not read",
            "failed" if long else "suspicious",
            ("zero-window",),
            "shown by the packets" if long else "most likely",
            f"The {peer}'s window is 0 since packet {closed.number}, to the end: its program "
            f"does not read, and the {name} must wait{'' if long else '; for less than 5 s so far, as anybody may be busy'}",
            tell=f"ss -tm at the {peer}: Recv-Q",
        )
    return None


def _never_arrived(story: Story, side: int, quiet: float | None) -> Finding | None:
    """The same data again and again, and the other end goes on, or closes, without having got them."""
    name, peer = SIDES[side], SIDES[1 - side]
    other = [p for p in story.sides[1 - side].packets if p.ack is not None and not p.flags & RST]
    if story.deaf is not None or story.connection.omitted or not other:
        return None
    acked = max(p.ack or 0 for p in other)
    sent = [p for p in story.sides[side].data if p.seq is not None and p.seq <= acked < (p.end or 0)]
    again = [p for p in sent if not p.flags & (SYN | RST) and not story.is_probe(p)]
    if len(again) < _AGAIN or payload.farewell(again):
        return None
    later = [p for p in other if p.number > again[-2].number]
    if not later or any(p.window == 0 for p in later):
        return None
    arrived = [p.size or 0 for p in story.sides[side].data if (p.end or 0) <= acked]
    large = min(p.size or 0 for p in again) > max((_SMALL, *arrived))
    over = story.seconds(again[0], again[-1])
    return Finding(
        f"what the {name} sent does not arrive",
        "failed",
        ("retransmit-timeout", "firewall-reset --answer drop"),
        "most likely",
        f"The {name} sent the same data {len(again)} times (packets {listed(again)}"
        f"{'' if over is None else f', over {over:.3g} s'}), and the {peer}, of which packet {later[-1].number} came meanwhile, "
        "has not acknowledged them: they do not arrive, and what the "
        f"{peer} sends does"
        f"{'. They are larger than all that did arrive: does the path carry packets of that size?' if large else ''}",
        against="what drops them on the way is not seen from here",
        tell=f"capture at the {peer}: do the segments arrive there? And capture ICMP with it"
        f"{'; ping -M do -s 1472 to the ' + peer if large else ''}",
    )


def _not_accepted(story: Story, answers: list[Packet]) -> Finding | None:
    """The client has finished its handshake, and the server's timer sends its SYN,ACK again all the same."""
    finished = next((p for p in story.after(answers[0]) if p.side == 0 and p.flags & ACK), None)
    apart = story.seconds(answers[0], answers[1])
    if finished is None or finished.number > answers[1].number or (apart is not None and apart < _SYNACK_AGAIN):
        return None  # each answers a SYN, or the client's acknowledgement was still under way
    data = [p for p in story.sides[0].packets if p.size and not story.is_probe(p) and p.number < answers[-1].number]
    again = f"the server's SYN,ACK comes again all the same (packet {', '.join(str(p.number) for p in answers[1:4])})"
    if data:
        return Finding(
            "accepted by nobody",
            "failed",
            ("backlog-full --ended-by expiry",),
            "most likely",
            f"The client has finished its handshake and sent data (packet {listed(data)}), {again}: the server's accept queue is "
            "full, and it drops both",
            against="something on the way that drops what the client sends looks the same",
            tell="ss -ltn and nstat -az TcpExtListenOverflows at the server",
        )
    return Finding(
        "accepted by nobody so far",
        "suspicious",
        ("backlog-full --ended-by expiry",),
        "cannot be told",
        f"The client has finished its handshake and sent no data, {again}. The server's accept queue is full, or its listener "
        "waits for data (TCP_DEFER_ACCEPT), or the client's acknowledgement was lost",
        tell="ss -ltn and nstat -az TcpExtListenOverflows at the server; does the client send data?",
    )


def _repeating(
    story: Story, side: int, again: list[Packet], other: list[Packet], quiet: float | None
) -> Finding | None:
    """The same segments once more, and nothing that answers them."""
    name, peer = SIDES[side], SIDES[1 - side]
    gap = story.seconds(again[-2], again[-1]) if len(again) > 1 else None
    over_now = quiet is not None and quiet > 2.5 * max(gap or 0.4, 0.4)
    if len(again) < 2 and not over_now:
        return None
    gone = story.sides[1 - side].first(FIN)
    first = story.first_sent(again[-1])
    late = [p for p in story.sides[side].packets if p.size and p.number >= first.number]
    if gone is not None and gone.number < again[0].number and (not late or payload.farewell(late)):
        return Finding(
            f"closed by the {peer}, which does not hear the end: harmless",
            "harmless",
            ("late-write",),
            "most likely",
            f"The {peer} had closed (FIN in packet {gone.number}); the {name}'s last words (packet "
            f"{listed([first, *again])}{', ' + payload.farewell(late) if late else ', its own FIN'}) are acknowledged by nobody: "
            "its socket is gone, or something in between has dropped the connection with the FIN. Nothing is lost by it",
        )
    given_up = over_now and len(again) >= RETRIES
    kind = "its FIN" if again[-1].flags & FIN and not again[-1].size else "the same data"
    sent = [first, *(p for p in again if story.first_sent(p) is first)]
    over = story.seconds(first, sent[-1])
    later = f"; it tried no longer in the {lasting(quiet)} after that" if over_now and quiet is not None else ""
    return Finding(
        f"gave up: the {peer} acknowledged nothing any more"
        if given_up
        else f"the {peer} acknowledges nothing any more",
        "failed" if len(again) > 1 and late else "suspicious",  # where the FIN alone is not heard, nothing is lost
        _why_unanswered(story, again[0], closed=any(p.window == 0 for p in other[-3:])),
        "most likely" if len(again) > 1 else "one of these",
        f"The {name} sent {kind} {len(sent)} times (packets "
        f"{listed(sent)}{'' if over is None else f', over {over:.3g} s'}), and nothing "
        f"of the {peer} came any more{later}"
        f"{'' if given_up or not over_now else ', which is too early to have given up by itself, unless it was told to'}",
        against="what drops the segments on the way looks the same as a host that is gone",
        tell=f"capture at the {peer}: do the segments arrive there?",
    )


def _why_unanswered(story: Story, first: Packet, *, closed: bool) -> tuple[str, ...]:
    if closed:
        return ("zero-window", "retransmit-timeout")
    if _was_idle(story, first):
        return (
            "retransmit-timeout",
            "idle-firewall --no-heal",
            "firewall-reset --answer drop",
            "nat-expiry --answer drop",
            "half-open",
        )
    return ("retransmit-timeout", "firewall-reset --answer drop", "half-open")


def _probing(side: int, probes: list[Packet], quiet: float | None) -> Finding:
    name, peer = SIDES[side], SIDES[1 - side]
    given_up = bool(quiet and quiet > 75)  # net.ipv4.tcp_keepalive_intvl
    return Finding(
        f"gave up: the {peer} answered no keepalive probe" if given_up else f"the {peer} answers no keepalive probe",
        "failed",
        ("keepalive-timeout", "idle-firewall"),
        "most likely",
        f"The {name} probes with keepalives (packets {listed(probes)}), and nothing answers",
        tell=f"capture at the {peer}: do the probes arrive there?",
    )


def _unheard(story: Story) -> Finding | None:
    """Does one side send again at the end what the other has acknowledged, time after time? Then it does not hear."""
    for side in (0, 1):
        last = story.packets[-1].number
        answered = [
            (p, later)
            for p in story.sides[side].packets
            if p.size and story.repeats(p)
            for later in [next((q for q in story.after(p) if q.side != side and q.ack is not None), None)]
            if later is not None and p.end is not None and (later.ack or 0) >= p.end
        ]
        if len(answered) < 2 or last not in (answered[-1][0].number, answered[-1][1].number):
            continue
        first, end = answered[0][0], answered[-1][0]
        if first.seq != end.seq:
            continue
        name, other = SIDES[side], SIDES[1 - side]
        return Finding(
            f"the {name} does not hear the {other} any more",
            "failed",
            (
                "firewall-reset --answer drop --first server" if side else "firewall-reset --answer drop",
                "nat-expiry --answer drop",
            ),
            "most likely",
            f"The {name} sends the same data again and again (packets {listed([p for p, _ in answered])}) although the {other} "
            f"acknowledges it each time (packet {answered[0][1].number}): what the {other} sends does not get there. Something "
            f"between the place of the capture and the {name} drops it",
            tell=f"capture at the {name}; iptables -L -v -n or nft list ruleset on the way",
        )
    return None


def _since_closed(story: Story, side: int) -> Packet:
    """The first of its last packets that all have a window of 0. There must be one."""
    first = story.sides[side].packets[-1]
    for p in reversed(story.sides[side].packets):
        if p.window:
            break
        first = p
    return first


def _was_idle(story: Story, packet: Packet) -> bool:
    first = next((p for p in story.packets if p.side == packet.side and p.seq == packet.seq and p.size), packet)
    idle = story.idle_before(first)
    return idle is not None and idle > 1
