"""Resets with which a stack answers a segment of a connection of which it knows nothing, any more or yet."""

from __future__ import annotations

from faultkit.explaining import closed, owed
from faultkit.explaining.diagnosis import Finding, ResetTold, Sender, Sureness
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CALLS, ended, is_round, lasting, listed

_MOMENT = 0.01  # seconds between a last write and the abort that follows it; arbitrary
_ANSWERED = 3.0  # seconds after which an answer is none any more: longer than any way; arbitrary
_AGAIN = 3.0  # seconds within which a SYN,ACK is sent again: TCP_TIMEOUT_INIT, 1 s, and then 2 s


def explain(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    side = rst.side
    by = told[rst.number].by
    end = ended(by, rst)
    trigger = story.trigger(rst)
    fin = story.fin_before(side, rst)
    if fin is not None:
        gave_up = trigger is not None and _gave_up(story, rst, trigger, by)
        return gave_up or closed.explain(story, rst, fin, trigger, by, end)
    if _unprompted(story, rst):
        return _bare_abort(story, rst, by, end)
    if trigger is None:
        return _out_of_nothing(story, rst, by, end)
    pause = story.seconds(trigger, rst)
    if pause is not None and pause > _ANSWERED and not trigger.flags & SYN and story.before(rst)[-1] is trigger:
        return _after_a_pause(story, rst, trigger, pause, by, end)
    spoke = [p for p in story.before(rst) if p.side == side and not p.flags & (RST | SYN)]
    opened = story.answer if side == 1 else story.syn
    sent = story.next_of(side, rst)
    if sent is not None and trigger.ack is not None and trigger.ack > sent:
        return _unseen(story, rst, trigger, by, end)
    # A kernel that has no room for a connection sends its SYN,ACK again, after 1 s first (tcp_synack_timer()). One that
    # does not has the connection.
    waited = story.idle_before(trigger)
    if not spoke and opened is not None and (waited is None or waited < _AGAIN or _opened_again(story, rst)):
        return _never_accepted(story, rst, trigger, by, end)
    return _forgotten(story, rst, trigger, by, end)


def _unprompted(story: Story, rst: Packet) -> bool:
    """Does it follow its sender's own data at once, with the number after them?"""
    last = story.before(rst)[-1] if story.before(rst) else None
    if last is None or last.side != rst.side or not last.size or rst.seq is None or rst.seq != last.end:
        return False
    pause = story.seconds(last, rst)
    return pause is not None and pause < _MOMENT


def _bare_abort(story: Story, rst: Packet, by: Sender, end: str) -> Finding:
    """Older Windows aborts a socket with a RST that has no ACK flag."""
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    their_fin = story.fin_before(1 - rst.side, rst)
    harmless = their_fin is not None and (rst.side == 0 or not owed.waited_for(story, rst))
    lost = (
        f". The {other} had closed before (FIN in packet {their_fin.number}): nothing is lost by it"
        if their_fin
        else ""
    )
    last = story.before(rst)[-1]
    return Finding(
        "reset after the other's close: harmless" if harmless else end,
        "harmless" if harmless else "failed",
        ("linger", "unread", "crash") if harmless else ("linger", "unread", "crash", "injected", "firewall-reset"),
        "one of these",
        f"Nothing of the {other} came between the {name}'s own packet {last.number} and its bare RST (packet {rst.number}), "
        "whose number is the next: it answers nothing, so a socket aborts, as older Windows does it"
        f"{lost if harmless else ''}",
        by=by,
        tell=CALLS.format(who=name),
    )


def _out_of_nothing(story: Story, rst: Packet, by: Sender, end: str) -> Finding | None:
    """Everything that it could answer had been acknowledged before it."""
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    own = [p for p in story.before(rst) if p.side == rst.side]
    if not own or rst.flags & ACK or rst.seq != story.next_of(rst.side, rst) or not story.sides[1 - rst.side].packets:
        return None
    last = own[-1]
    pause = story.seconds(last, rst)
    return Finding(
        end,
        "suspicious",
        ("linger", "disconnect", "crash", "half-open", "firewall-reset", "injected"),
        "one of these",
        f"Packet {rst.number} is a bare RST of the {name}{'' if pause is None or pause < 0 else f', {lasting(pause)} after'} "
        f"{'its own' if pause is not None and pause >= 0 else 'after its own'} packet {last.number}, which had acknowledged what "
        f"the {other} had sent: it answers nothing that was captured. Either a socket aborts without the ACK flag, as older "
        "Windows and Apple's systems do it, or something in between made it, or what it answers is missing here",
        by=by,
        tell=CALLS.format(who=name),
    )


def _after_a_pause(story: Story, rst: Packet, trigger: Packet, pause: float, by: Sender, end: str) -> Finding:
    """So long after the last segment it answers none: no way is so long."""
    waits = owed.waited_for(story, rst)
    return Finding(
        end,
        "failed" if waits else "suspicious",
        ("load-balancer-idle", "linger", "firewall-reset", "nat-expiry", "injected"),
        "one of these",
        f"The bare RST in packet {rst.number} comes {lasting(pause)} after the last packet ({trigger.number}), too late to "
        f"answer "
        f"that: something ends the connection because it was idle, or a program drops "
        f"it{f'. Meanwhile {waits}' if waits else ''}",
        by=by,
        tell="the idle timeouts of both ends and of what stands between them; is its TTL that end's?",
    )


def _opened_again(story: Story, rst: Packet) -> bool:
    return sum(bool(p.flags & SYN) for p in story.before(rst) if p.side == rst.side) > 1


def _unseen(story: Story, rst: Packet, trigger: Packet, by: Sender, end: str) -> Finding:
    """The other end acknowledges what was never captured of this one: its FIN may have been in it."""
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    return Finding(
        end,
        "suspicious",
        ("late-write", "half-open", "firewall-reset", "load-balancer-idle --expires forget"),
        "one of these",
        f"The {name} answers packet {trigger.number} with a bare RST (packet {rst.number}). That packet acknowledges more of the "
        f"{name} than was captured: if its FIN was in that, the {other} wrote to a closed connection; if not, whoever answers "
        "has forgotten the connection",
        by=by,
        tell=f"a capture that misses nothing of the {name}",
    )


def _never_accepted(story: Story, rst: Packet, trigger: Packet, by: Sender, end: str) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    repeated = [p for p in story.before(rst) if p.side == side and p.flags & SYN]
    again = [p for p in story.before(rst) if p.side != side and p.size and story.repeats(p)]
    if len(repeated) > 1:
        causes: tuple[str, ...] = ("backlog-full --ended-by expiry", "backlog-full --ended-by abort")
        sure: Sureness = "most likely"
        why = (
            f"The {name} never completed the connection on its side (its SYN,ACK came again, packet {listed(repeated[1:])}"
            f"{f'; the {other} sent packet {listed(again)} once more' if again else ''}), and refuses it in packet {rst.number}: "
            "its accept queue was full"
        )
    elif again:
        causes = (
            "backlog-full --ended-by expiry",
            "backlog-full --ended-by abort",
            "half-open",
            "firewall-reset",
            "injected",
        )
        sure = "one of these"
        why = (
            f"The {name} has sent nothing but its SYN,ACK, packet {listed(again)} brought the {other}'s data once more, and it "
            f"is "
            f"refused in packet {rst.number}: its accept queue was full, its connection was reset meanwhile by what was not "
            "captured, or something in between drops what the other sends"
        )
    else:
        causes = (
            "backlog-full --ended-by abort",
            "listener-closed --deferred",
            "half-open",
            "reject --at established",
            "injected",
        )
        sure = "one of these"
        why = (
            f"The {name} has sent nothing but its SYN,ACK, and answers packet {trigger.number} with RST (packet "
            f"{rst.number}): it has no "
            "connection for it. Its accept queue was full, its listener was closed meanwhile, or a firewall lets "
            "no data pass"
        )
    return Finding(
        end,
        "failed",
        causes,
        sure,
        why,
        by=by,
        tell="nstat -az TcpExtListenOverflows TcpEmbryonicRsts at the server; ss -ltn shows its queue",
    )


def _gave_up(story: Story, rst: Packet, trigger: Packet, by: Sender) -> Finding | None:
    """Linux gives a connection up without a word; what comes for it later is answered with RST."""
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    heard = [p for p in story.before(trigger) if p.side != side and not p.flags & RST]
    if not heard:
        return None
    # What the other end sends again it had sent before we were silent.
    last = next((p for p in reversed(heard) if not story.repeats(p)), heard[-1])
    since = [p for p in story.before(trigger) if p.side == side and p.number > last.number]
    again = [p for p in since if story.repeats(p) and p.size]
    if story.fin_before(side, rst) and story.fin_before(1 - side, rst):
        return None  # both had closed: what came again was late
    probes = [p for p in since if story.is_probe(p)]
    closed = last.window == 0 and not last.flags & SYN
    acked = max((p.ack for p in heard if p.ack is not None), default=0)
    stuck = [p for p in since if p.end is not None and p.end > acked and p.size]
    if closed and (probes or stuck or again):
        return Finding(
            f"gave up: the {other} does not read",
            "failed",
            ("zero-window", "retransmit-timeout"),
            "most likely",
            f"The {other}'s window was 0 (packet {last.number}), the {name} waited and gave up without a word; "
            f"packet {trigger.number} of the "
            f"{other} then met no connection: RST in packet {rst.number}",
            by=by,
            tell=f"ss -tm at the {other}: Recv-Q; TCP_USER_TIMEOUT at the {name}",
        )
    if not again:
        return None
    if all(p.end is not None and p.end <= acked for p in again):
        return _deaf(story, rst, again, last, by)
    first = story.first_sent(again[-1])
    sent = [first, *(p for p in again if story.first_sent(p) is first)]
    seconds = story.seconds(first, sent[-1])
    return Finding(
        f"gave up: the {other} acknowledged nothing any more",
        "failed",
        (
            "retransmit-timeout",
            "firewall-reset --answer drop",
            "idle-firewall --no-heal",
            "keepalive-timeout --with-data",
            "reject --answer host-unreachable --at established",
            "zero-window",
        ),
        "most likely" if len(sent) > 2 else "one of these",
        f"The {name} sent the same data {len(sent)} times (packets "
        f"{listed(sent)}{'' if seconds is None else f', over {seconds:.3g} s'}) "
        f"without an acknowledgement and gave up without a word, as Linux does (ETIMEDOUT); what the {other} sent "
        f"later, packet {trigger.number}, "
        f"met no connection: RST in packet {rst.number}",
        by=by,
        against="a firewall that drops it on the way looks the same from here; one that says so sends ICMP, which "
        "was not captured",
        tell=f"capture at the {other}: does what the {name} sent arrive there? And capture ICMP with it",
    )


def _deaf(story: Story, rst: Packet, again: list[Packet], last: Packet, by: Sender) -> Finding:
    """It sends again what was acknowledged: the acknowledgements do not get there."""
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    return Finding(
        f"the {name} does not hear the {other} any more",
        "failed",
        ("firewall-reset --answer drop", "nat-expiry --answer drop", "retransmit-timeout"),
        "most likely",
        f"The {name} sends again (packets {listed(again)}) what the {other} has acknowledged (packet {last.number}), and gives "
        f"up: RST in packet {rst.number}. What the {other} sends does not get there: something between the place of the capture "
        f"and the {name} drops it",
        by=by,
        tell=f"capture at the {name}; iptables -L -v -n or nft list ruleset on the way",
    )


def _forgotten(story: Story, rst: Packet, trigger: Packet, by: Sender, end: str) -> Finding:
    gave_up = _gave_up(story, rst, trigger, by)
    if gave_up:
        return gave_up
    side, name = rst.side, SIDES[rst.side]
    idle = story.idle_before(trigger)
    what = "the data of" if trigger.size else "the segment of"
    if story.is_probe(trigger):
        what = "the keepalive probe of"
    pause = "" if idle is None or idle < 0.5 else f", after {idle:.3g} s without a packet,"
    known = trigger.flags & ACK and not story.midway
    causes: tuple[str, ...] = (
        "half-open",
        "firewall-reset",
        "nat-expiry",
        "load-balancer-idle --expires forget",
        "injected",
    )
    spoke = [p for p in story.before(rst) if p.side == side and p.size]
    if side == 1 and not spoke and trigger.ack == 1:
        causes = (*causes, "backlog-full --ended-by abort", "listener-closed --deferred")
    if idle is not None and is_round(idle) and not story.is_probe(trigger):
        causes = ("load-balancer-idle --expires forget", "firewall-reset", "nat-expiry", "half-open")
    nothing = trigger.flags & FIN and not trigger.size and not owed.waited_for(story, rst)
    return Finding(
        end,
        "suspicious" if nothing else "failed",
        causes,
        "one of these",
        f"The {name} answers {what} packet {trigger.number}{pause} with a bare RST (packet {rst.number}) and had "
        "sent no FIN: whoever "
        "answers knows nothing of this connection. Its host was restarted or has dropped it, or something in "
        "between has forgotten it "
        f"and answers in its name{'' if known else '; the beginning of the connection was not captured'}",
        by=by,
        tell=f"capture at the {name}: does packet {trigger.number} arrive there, and does its kernel send the RST "
        "(nstat -az TcpOutRsts)?",
    )
