"""Resets by a socket that aborts: what its program did, as far as the packets before it tell."""

from __future__ import annotations

from faultkit.explaining import payload
from faultkit.explaining.diagnosis import Finding, ResetTold, Sender
from faultkit.explaining.flows import RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CALLS, ended, is_round, listed

# Seconds: within them an answer of a program is "at once"; a local one takes microseconds, a distant one its round trip.
AT_ONCE = 1.0
_SEGMENT = 500  # bytes on their way beyond what was acknowledged: the upload goes on; arbitrary
_LARGE = 4096  # bytes; a request that is larger is called an upload; arbitrary


def explain(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    form = story.form(rst)
    if form not in ("abort", "bare abort"):
        return None
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    by = told[rst.number].by
    end = ended(by, rst)
    before = story.before(rst)
    mine = [p for p in before if p.side == side]
    last_heard = next((p for p in reversed(before) if p.side != side), None)
    since = [p for p in mine if last_heard is None or p.number > last_heard.number]
    # What the other end sends again shows only that it does not hear.
    fresh = next((p for p in reversed(before) if p.side != side and not story.repeats(p)), None)
    probes = [p for p in mine if story.is_probe(p) and (fresh is None or p.number > fresh.number)]
    again = [p for p in since if story.repeats(p) and not p.flags & SYN]
    fin, their_fin = story.fin_before(side, rst), story.fin_before(1 - side, rst)
    if probes and not again:
        gap = story.seconds(probes[-1], rst)
        return Finding(
            f"gave up: the {other} answered no keepalive probe",
            "failed",
            ("keepalive-timeout", "idle-firewall"),
            "most likely",
            f"The {name} probed with keepalives (packets {listed(probes)}), nothing answered, and the RST in "
            f"packet {rst.number} ends it"
            f"{'' if gap is None else f' {gap:.1f} s after the last'}",
            by=by,
            against="a firewall that drops idle connections looks the same from this side; then the other end "
            "still has the connection",
            tell=f"capture at the {other}: do the probes arrive there?",
        )
    if len(again) >= 2:
        closed = any(p.window == 0 for p in before if p.side != side and not p.flags & RST)
        causes: tuple[str, ...] = ("zero-window", "retransmit-timeout") if closed else ("retransmit-timeout",)
        return Finding(
            f"gave up: the {other} acknowledged nothing any more",
            "failed",
            causes,
            "most likely",
            f"The {name} sent the same again (packets {listed(again)}) without an acknowledgement, and resets in "
            f"packet {rst.number}: "
            "a stack that says so when it gives up (Linux says nothing)",
            by=by,
            tell=f"capture at the {other}: do the segments arrive there?",
        )
    early = _early(story, rst, by, end)
    if early and fin is None and their_fin is None:
        return early
    asked = unanswered(story, rst)
    sent_data = story.data_before(side, rst)
    if fin is not None:
        return _abort_after_fin(story, rst, fin, by, end)
    if their_fin is not None:
        return _abort_after_their_fin(story, rst, their_fin, by, end)
    answer = sent_data[-1] if sent_data else None
    if (
        side == 1
        and answer is not None
        and not asked
        and (story.seconds(answer, rst) or 1.0) < 0.5
        and story.data_before(0, rst)
    ):
        return Finding(
            end,
            "failed",
            ("unread", "linger", "early-response", "disconnect", "crash"),
            "one of these",
            f"The server answered in packet {answer.number} and reset straight after it (packet {rst.number}): it "
            "closed with something of the client's "
            "last data unread, or asked for an abort (SO_LINGER 0)",
            by=by,
            tell=CALLS.format(who=name)
            + "; nstat -az TcpExtTCPAbortOnClose (unread) and TcpExtTCPAbortOnData (linger)",
        )
    quick = asked and (story.seconds(asked[-1], rst) is None or (story.seconds(asked[-1], rst) or 0) < AT_ONCE)
    if asked and sent_data:
        idle = story.idle_before(asked[0])
        if idle is not None and quick and side == 1:
            return Finding(
                end,
                "failed",
                ("keepalive-race", "unread", "crash", "linger", "disconnect"),
                "most likely",
                f"The connection had worked ({listed(sent_data[-1:])} is an answer) and was idle for {idle:.3g} "
                "s; the next request, packet "
                f"{asked[0].number}, met a server that was closing: it never read it, so its close() resets "
                f"(packet {rst.number}, a socket's own)",
                by=by,
                against="a crash or an abort by chance at just that moment",
                tell="is that idle time the server's keep-alive timeout? faultkit nest compares them",
            )
    if asked and side == 0:
        kept = story.seconds(asked[-1], rst)
        first = ("linger", "unread") if form == "bare abort" else ("unread", "linger")
        return Finding(
            end,
            # Who has had the answer for so long, and asked nothing more, drops a connection that it does not need.
            "harmless" if sent_data and kept is not None and kept >= AT_ONCE else "failed",
            (*first, "disconnect", "crash"),
            "one of these",
            f"The client aborted (packet {rst.number}){'' if kept is None or kept < 0.5 else f' {kept:.3g} s'} "
            f"after the server's packet {asked[-1].number}: its program "
            "closed without having read all of that, asked for an abort (SO_LINGER 0), or was killed",
            by=by,
            tell=CALLS.format(who=name),
        )
    if asked:
        causes = ("unread", "crash", "linger", "listener-closed", "disconnect", "keepalive-race")
        sends_on = [
            p for p in story.after(rst) if p.side != side and (p.size or p.flags & SYN) and not story.repeats(p)
        ]
        if sends_on:
            causes = (*causes, "half-open --vanish-by deaf")
        return Finding(
            end,
            "failed",
            causes,
            "one of these",
            f"The {name}'s socket aborted (packet {rst.number}) with {sum(p.size or 0 for p in asked)} bytes of "
            f"the {other} received "
            f"(packet {listed(asked)}) and not answered: its program closed without reading them, was killed, or "
            "asked for an abort",
            by=by,
            tell=CALLS.format(who=name)
            + "; nstat -az TcpExtTCPAbortOnClose (unread, crash) and TcpExtTCPAbortOnData (linger)",
        )
    return _abort_of_its_own(story, rst, by, end)


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


def unanswered(story: Story, rst: Packet) -> list[Packet]:
    """The other side's last data that the resetting side has not answered with data of its own."""
    asked: list[Packet] = []
    for p in reversed(story.before(rst)):
        if not p.size or story.is_probe(p) or p.flags & RST:
            continue
        if p.side == rst.side:
            break
        asked.insert(0, p)
    return asked


def _abort_after_fin(story: Story, rst: Packet, fin: Packet, by: Sender, end: str) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    data = [p for p in story.before(rst) if p.side != side and p.size and p.number > fin.number]
    waited = story.seconds(fin, rst)
    asked = unanswered(story, fin)
    if asked and not data:
        return Finding(
            "reset after its own close",
            "failed",
            (
                "unread",
                "fin-wait-timeout --end aborted",
                "fin-wait-timeout --end lowered",
                "disconnect --state last-ack",
                "linger",
            ),
            "one of these",
            f"The {name} has answered nothing to packet {listed(asked)}, sent its FIN (packet {fin.number}) and "
            "aborted"
            f"{'' if waited is None else f' {waited:.3g} s later'} (packet {rst.number}): shutdown(), and then "
            "close() with that data unread, or an "
            "orphan in FIN-WAIT-2 whose time was over",
            by=by,
            tell=CALLS.format(who=name)
            + "; nstat -az TcpExtTCPAbortOnClose (unread) and TcpExtTCPAbortOnLinger (its time was over)",
        )
    if data:
        harmless = payload.farewell(data)
        return Finding(
            "reset after its own close: harmless" if harmless else end,
            "harmless" if harmless else "failed",
            ("unread", "late-write"),
            "most likely",
            f"The {name} had sent its FIN (packet {fin.number}), the {other} sent on (packet {listed(data)}"
            f"{', ' + harmless if harmless else ''}), and nobody was to read that: RST in packet {rst.number}",
            by=by,
        )
    return Finding(
        "reset after its own close",
        "suspicious",
        ("fin-wait-timeout --end aborted", "fin-wait-timeout --end lowered", "disconnect --state last-ack", "linger"),
        "one of these",
        f"The {name} had sent its FIN in packet {fin.number}, and aborts in packet {rst.number}"
        f"{'' if waited is None else f', {waited:.3g} s later'}, with nothing received in between: it did not "
        "wait for the other's FIN",
        by=by,
        tell=CALLS.format(who=name),
    )


def _abort_after_their_fin(story: Story, rst: Packet, fin: Packet, by: Sender, end: str) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    data = [p for p in story.before(rst) if p.side != side and p.size]
    answered = [p for p in story.before(rst) if p.side == side and p.size and data and p.number > data[-1].number]
    mine = [p for p in story.before(rst) if p.side == side and p.size]
    acks = [p.ack for p in story.before(rst) if p.side != side and p.ack is not None]
    unacked = bool(mine and acks and mine[-1].end is not None and mine[-1].end > max(acks))
    if unacked and story.form(rst) == "abort":
        return Finding(
            end,
            "failed",
            ("disconnect --state last-ack", "linger", "unread"),
            "one of these",
            f"The {other} had closed (FIN in packet {fin.number}); the {name} sent on, which is not acknowledged, "
            f"and aborts in packet {rst.number}",
            by=by,
            tell=CALLS.format(who=name),
        )
    if data and not answered:
        lost = sum(p.size or 0 for p in data[-3:])
        return Finding(
            "reset after the other's close: harmless",
            "harmless",
            ("unread", "linger"),
            "one of these",
            f"The {other} had sent its answer and its FIN (packet {fin.number}); the {name} closed without "
            "reading all of it "
            f"(the last {lost} bytes, packet {listed(data[-1:])}), or aborted: RST in packet {rst.number}. "
            "Nobody waits for anything any more",
            by=by,
            tell=CALLS.format(who=name),
        )
    return Finding(
        "reset after the other's close: harmless",
        "harmless",
        ("linger", "unread"),
        "one of these",
        f"The {other} had closed (FIN in packet {fin.number}), and the {name} ends with an abort instead of a FIN "
        f"(packet {rst.number}): nothing is lost by it",
        by=by,
        tell=CALLS.format(who=name),
    )


def _abort_of_its_own(story: Story, rst: Packet, by: Sender, end: str) -> Finding:
    name = SIDES[rst.side]
    idle = story.idle_before(rst)
    done = story.data_before(rst.side, rst) or story.data_before(1 - rst.side, rst)
    if idle is not None and rst.side == 1 and is_round(idle):
        return Finding(
            end,
            "failed",
            ("load-balancer-idle", "linger"),
            "most likely",
            f"After {idle:.1f} s without a packet the server's side sends RST,ACK (packet {rst.number}): a round "
            "idle time, as balancers have",
            by=by,
            against="a server that aborts idle connections itself",
            tell="the idle timeout of what stands before the server; is its TTL the server's?",
        )
    causes = (
        ("linger", "disconnect", "listener-closed", "crash") if done else ("linger", "listener-closed", "disconnect")
    )
    pause = "" if idle is None or idle < 0.5 else f" after {idle:.3g} s without a packet"
    return Finding(
        end,
        "failed" if rst.side == 1 else "harmless",
        causes,
        "most likely",
        f"The {name}'s socket aborts in packet {rst.number}{pause}, with nothing that it had still to answer: an "
        "abortive close (SO_LINGER 0), "
        "as programs do that drop a connection",
        by=by,
        against="an abort by disconnecting or with its listener looks the same",
        tell=CALLS.format(who=name),
    )
