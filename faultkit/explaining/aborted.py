"""Resets by a socket that aborts: what its program did, as far as the packets before it tell."""

from __future__ import annotations

from faultkit.explaining import aborted_after_fin, owed, payload
from faultkit.explaining.aborted_after_fin import unanswered
from faultkit.explaining.diagnosis import Finding, ResetTold, Sender
from faultkit.explaining.flows import RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CALLS, ended, is_round, lasting, listed

# Seconds: within them an answer of a program is "at once"; a local one takes microseconds, a distant one its round trip.
AT_ONCE = 1.0
_IDLE = 0.2  # seconds: a shorter pause lies within one exchange; arbitrary
_DELAYED = 0.25  # seconds: an acknowledgement is delayed by no more than 200 ms on any stack
_SEGMENT = 500  # bytes on their way beyond what was acknowledged: the upload goes on; arbitrary
_RETRIES = 4  # times that one segment is sent again before a stack gives up by itself; Windows does it 5 times
_LARGE = 4096  # bytes; a request that is larger is called an upload; arbitrary


def explain(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    if story.form(rst) not in ("abort", "bare abort"):
        return None
    by = told[rst.number].by
    end = ended(by, rst)
    found = _gave_up(story, rst, by)
    if found:
        return found
    fin, their_fin = story.fin_before(rst.side, rst), story.fin_before(1 - rst.side, rst)
    if fin is not None:
        return aborted_after_fin.own(story, rst, fin, by, end)
    if their_fin is not None:
        return aborted_after_fin.theirs(story, rst, their_fin, by, end)
    found = _early(story, rst, by, end)
    if found:
        return found
    asked = unanswered(story, rst)
    bye = payload.farewell(asked) if asked else ""
    if bye:
        return Finding(
            f"reset by the {SIDES[rst.side]} after the other's last words: harmless",
            "harmless",
            ("unread", "linger", "late-write"),
            "one of these",
            f"The {SIDES[1 - rst.side]}'s last data is {bye} (packet {listed(asked)}), after which nobody waits for anything; "
            f"the "
            f"{SIDES[rst.side]} ends with an abort instead of a FIN (packet {rst.number})",
            by=by,
            tell=CALLS.format(who=SIDES[rst.side]),
        )
    if not asked:
        return _straight_after_answer(story, rst, by, end) or _abort_of_its_own(story, rst, by, end)
    if rst.side == 0:
        return _by_client(story, rst, asked, by, end)
    return _met_while_closing(story, rst, asked, by, end) or _with_data_unanswered(story, rst, asked, by, end)


def _gave_up(story: Story, rst: Packet, by: Sender) -> Finding | None:
    """Probes or the same segments again, and then the RST: a stack that says so when nothing answers."""
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    before = story.before(rst)
    mine = [p for p in before if p.side == side]
    last_heard = next((p for p in reversed(before) if p.side != side), None)
    since = [p for p in mine if last_heard is None or p.number > last_heard.number]
    # What the other end sends again shows only that it does not hear.
    fresh = next((p for p in reversed(before) if p.side != side and not story.repeats(p)), None)
    probes = [p for p in mine if story.is_probe(p) and (fresh is None or p.number > fresh.number)]
    again = [p for p in since if story.repeats(p) and not p.flags & SYN]
    heard = next((p for p in reversed(before) if p.side != side and not p.flags & RST), None)
    if probes and not again and heard is not None and heard.window == 0:
        return Finding(
            f"reset by the {name}: the {other} does not read",
            "failed",
            ("zero-window", "linger", "disconnect", "crash"),
            "most likely",
            f"The {other}'s window is 0 (packet {heard.number}): its program does not read. The {name} probed it (packets "
            f"{listed(probes)}) and ends the connection in packet {rst.number}, by a timeout of its program or of its socket",
            by=by,
            tell=f"ss -tm at the {other}: Recv-Q; the {name}'s timeouts for sending",
        )
    if probes and not again:
        gap = story.seconds(probes[-1], rst)
        return Finding(
            f"gave up: the {other} answered no keepalive probe",
            "failed",
            ("keepalive-timeout", "idle-firewall"),
            "most likely",
            f"The {name} probed with keepalives (packets {listed(probes)}), nothing answered, and the RST in "
            f"packet {rst.number} ends it{'' if gap is None else f' {lasting(gap)} after the last'}",
            by=by,
            against="a firewall that drops idle connections looks the same from this side; then the other end "
            "still has the connection",
            tell=f"capture at the {other}: do the probes arrive there?",
        )
    same = max((sum(story.first_sent(p) is story.first_sent(q) for q in again) for p in again), default=0)
    if len(again) < 2:
        return None
    closed = any(p.window == 0 for p in before if p.side != side and not p.flags & RST)
    if same < _RETRIES and not closed:
        return Finding(
            ended(by, rst),
            "failed",
            ("linger", "retransmit-timeout", "disconnect", "crash", "unread"),
            "one of these",
            f"The {name} sent the same again (packets {listed(again)}) without an acknowledgement, and resets in packet "
            f"{rst.number}. So few attempts are not those after which a stack gives up: its program did, it was ended, or the "
            "stack was told to give up early",
            by=by,
            tell=f"the timeouts of the {name}'s program; capture at the {other}: do the segments arrive there?",
        )
    return Finding(
        f"gave up: the {other} acknowledged nothing any more",
        "failed",
        ("zero-window", "retransmit-timeout") if closed else ("retransmit-timeout",),
        "most likely",
        f"The {name} sent the same again (packets {listed(again)}) without an acknowledgement, and resets in "
        f"packet {rst.number}: a stack that says so when it gives up (Linux says nothing)",
        by=by,
        tell=f"capture at the {other}: do the segments arrive there?",
    )


def _straight_after_answer(story: Story, rst: Packet, by: Sender, end: str) -> Finding | None:
    sent = story.data_before(rst.side, rst)
    if rst.side != 1 or not sent or not story.data_before(0, rst) or (story.seconds(sent[-1], rst) or 1.0) >= 0.5:
        return None
    if (story.idle_before(rst) or 0.0) >= _IDLE and owed.is_answered_whole(story, rst):
        return None
    return Finding(
        end,
        "failed",
        ("unread", "linger", "early-response", "disconnect", "crash"),
        "one of these",
        f"The server answered in packet {sent[-1].number} and reset straight after it (packet {rst.number}): it closed with "
        "something of the client's last data unread, or asked for an abort (SO_LINGER 0)",
        by=by,
        tell=CALLS.format(who=SIDES[rst.side])
        + "; nstat -az TcpExtTCPAbortOnClose (unread) and TcpExtTCPAbortOnData (linger)",
    )


def _met_while_closing(story: Story, rst: Packet, asked: list[Packet], by: Sender, end: str) -> Finding | None:
    """A request on a connection that had worked and was idle, reset at once."""
    answers = story.data_before(rst.side, rst)
    idle = story.idle_before(asked[0])
    took = story.seconds(asked[-1], rst) or 0.0
    if not answers or idle is None or idle < _IDLE or took >= AT_ONCE:
        return None
    if took >= _DELAYED and any(p.side == rst.side and p.number > asked[-1].number for p in story.before(rst)):
        return None  # its kernel had acknowledged the request, and its program let it lie
    if owed.left_at_once(story, asked[-1]):
        return None
    return Finding(
        end,
        "failed",
        ("keepalive-race", "unread", "crash", "linger", "disconnect"),
        "most likely",
        f"The connection had worked (packet {answers[-1].number} is an answer) and was idle for {lasting(idle)}; the next "
        f"request, packet {asked[0].number}, met a server that was closing: it never read it, so its close() resets "
        f"(packet {rst.number}, a socket's own)",
        by=by,
        against="a crash or an abort by chance at just that moment",
        tell="is that idle time the server's keep-alive timeout? faultkit nest compares them",
    )


def _by_client(story: Story, rst: Packet, asked: list[Packet], by: Sender, end: str) -> Finding:
    kept = story.seconds(asked[-1], rst)
    first = ("linger", "unread") if story.form(rst) == "bare abort" else ("unread", "linger")
    # Who has had the answer for so long, and asked nothing more, drops a connection that it does not need.
    waits = owed.waited_for(story, rst)
    whole = owed.is_answered_whole(story, rst)
    dropped = bool(story.data_before(0, rst)) and kept is not None and (kept >= AT_ONCE or whole) and not waits
    pending = f". It was not over: {waits}" if waits and kept is not None and kept >= AT_ONCE else ""
    unclear = owed.unclear(story, rst) or owed.greeted(story, rst)
    if dropped:
        pending = ". It had acknowledged all that the server had sent, and asked for nothing more"
        pending += f"; but {unclear}" if unclear else ""
    return Finding(
        end,
        ("suspicious" if unclear else "harmless") if dropped else "failed",
        (*first, "disconnect", "crash"),
        "one of these",
        f"The client aborted (packet {rst.number}){'' if kept is None or kept < 0.5 else f' {lasting(kept)}'} "
        f"after the server's packet {asked[-1].number}: its program "
        f"closed without having read all of that, asked for an abort (SO_LINGER 0), or was killed{pending}",
        by=by,
        tell=CALLS.format(who=SIDES[0]),
    )


def _with_data_unanswered(story: Story, rst: Packet, asked: list[Packet], by: Sender, end: str) -> Finding:
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    causes: tuple[str, ...] = ("unread", "crash", "linger", "listener-closed", "disconnect", "keepalive-race")
    if any(p.side != rst.side and (p.size or p.flags & SYN) and not story.repeats(p) for p in story.after(rst)):
        causes = (*causes, "half-open --vanish-by deaf")
    left = owed.left_at_once(story, asked[-1]) if rst.side == 1 else None
    bye = f". The {other} itself closed with that (FIN in packet {left.number})" if left else ""
    return Finding(
        end,
        "suspicious" if left else "failed",
        causes,
        "one of these",
        f"The {name}'s socket aborted (packet {rst.number}) with {sum(p.size or 0 for p in asked)} bytes of the {other} received "
        f"(packet {listed(asked)}) and not answered: its program closed without reading them, was killed, or asked for an "
        f"abort{bye}",
        by=by,
        tell=CALLS.format(who=name)
        + "; nstat -az TcpExtTCPAbortOnClose (unread, crash) and TcpExtTCPAbortOnData (linger)",
    )


def _early(story: Story, rst: Packet, by: Sender, end: str) -> Finding | None:
    """An answer to an upload that was not read to its end: sent straight before the abort, or while the upload
    went on."""
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    own = story.data_before(side, rst)
    theirs = [p for p in story.data_before(1 - side, rst) if not story.repeats(p)]
    if side != 1 or not own or not theirs:
        return None
    answer = own[-1]
    soon = story.seconds(answer, rst)
    if soon is None or soon > 0.5:
        return None
    begun = next(
        (p for p in reversed(own[:-1]) if p.number < answer.number and theirs and p.number < theirs[-1].number), None
    )
    upload = [p for p in theirs if begun is None or p.number > begun.number]
    size = sum(p.size or 0 for p in upload)
    # The next request acknowledges the answer; what was under way does not.
    during = [p for p in upload if p.number > answer.number and (p.ack or 0) <= (answer.seq or 0)]
    if len([p for p in upload if p.number > answer.number]) > len(during):
        return None
    sent_so_far = max((p.end for p in theirs if p.end is not None), default=0)
    outstanding = sent_so_far - (rst.ack or sent_so_far) if story.form(rst) == "abort" else 0
    if size <= _LARGE and not (during and len(upload) > 1) and outstanding < _SEGMENT:
        return None
    return Finding(
        end,
        "failed",
        ("early-response", "unread", "linger", "crash"),
        "most likely",
        f"The {name} answered in packet {answer.number} an upload of which {size} bytes had come (from packet "
        f"{upload[0].number} on)"
        f"{', while more was under way' if during else ''}, and closed at once without reading all of it: RST in "
        f"packet {rst.number}, "
        f"which may overtake the answer in the {other}",
        by=by,
        against="a crash would not have answered first",
        tell=CALLS.format(who=name),
    )


def _abort_of_its_own(story: Story, rst: Packet, by: Sender, end: str) -> Finding:
    name = SIDES[rst.side]
    idle = story.idle_before(rst)
    done = story.data_before(rst.side, rst) or story.data_before(1 - rst.side, rst)
    if (
        idle is not None
        and rst.side == 1
        and (idle >= AT_ONCE or (idle >= _IDLE and owed.is_answered_whole(story, rst)))
    ):
        return _server_idle(story, rst, idle, by, end)
    waits = owed.waited_for(story, rst) if rst.side == 0 else ""
    if waits:
        return _gave_up_waiting(story, rst, waits, by, end)
    unclear = (owed.unclear(story, rst) or owed.greeted(story, rst)) if rst.side == 0 else ""
    if story.midway and not done:
        unclear = "its beginning was not captured, nor any data, so what was under way cannot be told"
    causes = (
        ("linger", "disconnect", "listener-closed", "crash") if done else ("linger", "listener-closed", "disconnect")
    )
    pause = "" if idle is None or idle < 0.5 else f" after {lasting(idle)} without a packet"
    return Finding(
        end,
        "failed" if rst.side == 1 else "suspicious" if unclear else "harmless",
        causes,
        "most likely",
        f"The {name}'s socket aborts in packet {rst.number}{pause}, with nothing that it had still to answer: an "
        "abortive close (SO_LINGER 0), "
        f"as programs do that drop a connection{f'. But {unclear}' if unclear else ''}",
        by=by,
        against="an abort by disconnecting or with its listener looks the same",
        tell=CALLS.format(who=name),
    )


def _server_idle(story: Story, rst: Packet, idle: float, by: Sender, end: str) -> Finding:
    """The server's side ends a connection on which nothing had come for a while, and nothing was owed."""
    near = next((p for p in story.after(rst) if p.side == 0 and p.size), None)
    whole = owed.is_answered_whole(story, rst) and near is None
    waits = owed.waited_for(story, rst)
    balanced = is_round(idle) or not by
    causes = (
        ("load-balancer-idle", "linger", "disconnect") if balanced else ("linger", "load-balancer-idle", "disconnect")
    )
    round_time = ", a round time, as balancers have," if is_round(idle) else ""
    lost = ". The last response had come whole, and nobody had asked for more: nothing is lost by it" if whole else ""
    lost = f". But {waits}" if waits else lost
    return Finding(
        end,
        "failed" if waits or near is not None else "harmless" if whole else "suspicious",
        causes,
        "most likely" if is_round(idle) and not whole else "one of these",
        f"After {idle:.4g} s without a packet{round_time} the server's side sends RST,ACK (packet {rst.number}): its own limit "
        f"for "
        f"idle connections, or that of a balancer before it{lost}",
        by=by,
        against="a server that aborts idle connections itself"
        if balanced
        else "a balancer that answers with the server's numbers",
        tell="the idle timeouts of the server and of what stands before it; is its TTL the server's?",
    )


def _gave_up_waiting(story: Story, rst: Packet, waits: str, by: Sender, end: str) -> Finding:
    """A client that drops a connection before it has what it asked for."""
    idle = story.idle_before(rst)
    long = idle is not None and idle >= AT_ONCE
    pause = f" after {lasting(idle)} without a packet" if idle is not None and long else ""
    return Finding(
        end,
        "failed" if owed.is_request(story, rst) else "suspicious",
        ("linger", "disconnect", "crash", "unread"),
        "one of these",
        f"The client's socket aborts in packet {rst.number}{pause}: "
        f"{waits}. It gave up waiting, if it waited at all; or its program was ended or dropped the connection",
        by=by,
        against="a client that never waits for answers does the same",
        tell="the client's timeout and its log; what the server did with it meanwhile. " + CALLS.format(who=SIDES[0]),
    )
