"""Connections in which one side waits for the other at the end: data, probes, a FIN or a window unanswered."""

from __future__ import annotations

from faultkit.explaining.diagnosis import Finding
from faultkit.explaining.flows import FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import listed

_PATIENCE = 5.0  # seconds with a window of 0 from which somebody is said not to read; arbitrary


def explain(story: Story, quiet: float | None) -> Finding | None:
    """Who waits, and for what. `quiet`: seconds from its last packet to the capture's end."""
    return _unheard(story) or next((found for side in (0, 1) if (found := _waiting(story, side, quiet))), None)


def _waiting(story: Story, side: int, quiet: float | None) -> Finding | None:
    other = [p for p in story.sides[1 - side].packets if not p.flags & RST]
    last_heard = other[-1].number if other else 0
    own = [p for p in story.sides[side].packets if p.number > last_heard]
    answers = [p for p in story.sides[1].packets if p.flags & SYN]
    if side == 0 and len(answers) > 1 and not any(p.size or not p.flags & SYN for p in story.sides[1].packets):
        return Finding(
            "accepted by nobody",
            "failed",
            ("backlog-full --ended-by expiry",),
            "most likely",
            "The client has finished its handshake, the server's SYN,ACK comes again all the same (packet "
            f"{', '.join(str(p.number) for p in answers[1:4])}): the server's accept queue is full, and it drops the ACK",
            tell="ss -ltn and nstat -az TcpExtListenOverflows at the server",
        )
    again = [p for p in own if story.repeats(p) and not p.flags & SYN]
    if again and story.deaf is None:
        return _repeating(story, side, again, other, quiet)
    probes = [p for p in own if story.is_probe(p)]
    if probes and own[-1] in probes and (quiet is None or quiet > 1):
        return _probing(side, probes, quiet)
    acked = max((p.ack for p in other if p.ack is not None), default=0)
    if other and other[-1].window == 0 and not other[-1].flags & (SYN | FIN | RST) and acked > 1:
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


def _repeating(
    story: Story, side: int, again: list[Packet], other: list[Packet], quiet: float | None
) -> Finding | None:
    """The same segments once more, and nothing that answers them."""
    name, peer = SIDES[side], SIDES[1 - side]
    gap = story.seconds(again[-2], again[-1]) if len(again) > 1 else None
    given_up = quiet is not None and quiet > 2.5 * max(gap or 0.4, 0.4)
    if len(again) < 2 and not given_up:
        return None
    kind = "its FIN" if again[-1].flags & FIN and not again[-1].size else "the same data"
    over = story.seconds(again[0], again[-1])
    return Finding(
        f"gave up: the {peer} acknowledged nothing any more"
        if given_up
        else f"the {peer} acknowledges nothing any more",
        "failed",
        _why_unanswered(story, again[0], closed=any(p.window == 0 for p in other[-3:])),
        "most likely",
        f"The {name} sent {kind} {len(again) + 1} times (packets "
        f"{listed(again)}{'' if over is None else f', over {over:.1f} s'}), and nothing "
        f"of the {peer} came any more{'; then it tried no longer' if given_up else ''}",
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
