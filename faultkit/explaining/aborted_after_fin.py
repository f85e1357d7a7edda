"""Aborts of a socket after a FIN: its own, or the other end's."""

from __future__ import annotations

from faultkit.explaining import owed, payload
from faultkit.explaining.diagnosis import Finding, Sender
from faultkit.explaining.flows import RST, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CALLS, lasting, listed

_AT_ONCE = 0.01  # seconds: close() straight after shutdown(); arbitrary
_LAST_WORDS = 128  # bytes: the answer to a farewell is short; arbitrary
_LARGE = 4096  # bytes: what is larger is an upload, which may not have been read; arbitrary


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


def own(story: Story, rst: Packet, fin: Packet, by: Sender, end: str) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    data = [p for p in story.before(rst) if p.side != side and p.size and (p.number > fin.number or _under_way(p, fin))]
    waited = story.seconds(fin, rst)
    their_fin = story.fin_before(1 - side, rst)
    if their_fin is not None and _is_acknowledged(story, rst, fin) and _is_acknowledged(story, rst, their_fin):
        return Finding(
            "reset after both had closed: harmless",
            "harmless",
            (),
            "most likely",
            f"Both had closed (FINs in packets {listed(sorted((fin, their_fin)))}) and acknowledged that; the RST in packet "
            f"{rst.number}{'' if waited is None else f', {lasting(waited)} later,'} of the {name} ends nothing any more",
            by=by,
            plain="a RST after the close",
        )
    if their_fin is not None and their_fin.number < fin.number and not data:
        waits = owed.waited_for(story, rst)
        if not waits and (fin.ack or 0) >= (their_fin.end or 0):
            return Finding(
                "reset after both had closed: harmless",
                "harmless",
                ("linger", "unread", "disconnect --state last-ack"),
                "one of these",
                f"Both had closed (FINs in packets {listed([their_fin, fin])}), the {name} last, and it aborts in packet "
                f"{rst.number} without waiting for the acknowledgement of its own: nothing is lost by it",
                by=by,
                tell=CALLS.format(who=name),
            )
    if not data and their_fin is not None and their_fin.number > fin.number and story.form(rst) == "bare abort":
        return Finding(
            "reset after its own close: harmless",
            "harmless",
            ("late-write",),
            "most likely",
            f"The {name} had closed (FIN in packet {fin.number}) and nothing waits there any more; the {other}'s FIN (packet "
            f"{their_fin.number}) is answered with RST,ACK (packet {rst.number}), as Windows does it",
            by=by,
        )
    asked = unanswered(story, fin)
    if asked and not data and side == 0:
        return _done_with_it(story, rst, fin, by, end)
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
            f"{'' if waited is None else f' {lasting(waited)} later'} (packet {rst.number}): shutdown(), and then "
            "close() with that data unread, or an "
            "orphan in FIN-WAIT-2 whose time was over",
            by=by,
            tell=CALLS.format(who=name)
            + "; nstat -az TcpExtTCPAbortOnClose (unread) and TcpExtTCPAbortOnLinger (its time was over)",
        )
    if data:
        harmless = payload.farewell(data)
        # Windows answers what meets a closed socket with RST,ACK too; a socket of Linux does so where it is closed with
        # data unread.
        bare = story.form(rst) == "bare abort"
        crossed = all(p.ack is not None and fin.seq is not None and p.ack <= fin.seq for p in data)
        return Finding(
            "reset after its own close: harmless" if harmless else end,
            "harmless" if harmless else "suspicious" if bare else "failed",
            ("late-write", "unread") if bare else ("unread", "late-write"),
            "most likely",
            f"The {name} had sent its FIN (packet {fin.number}), data of the {other} "
            f"{'was under way then' if crossed else 'came after it'}"
            f" (packet {listed(data)}{', ' + harmless if harmless else ''}), and nobody was to read that: RST in packet "
            f"{rst.number}",
            by=by,
        )
    causes: tuple[str, ...] = (
        "fin-wait-timeout --end aborted",
        "fin-wait-timeout --end lowered",
        "disconnect --state last-ack",
        "linger",
        "unread",
    )
    came = [p.size or 0 for p in story.before(rst) if p.side != side and p.size]
    if side == 1 and waited is not None and waited < _AT_ONCE and sum(came) > _LARGE:
        causes = ("unread", "early-response", *causes[:-1])
    return Finding(
        "reset after its own close",
        "suspicious",
        causes,
        "one of these",
        f"The {name} had sent its FIN in packet {fin.number}, and aborts in packet {rst.number}"
        f"{'' if waited is None else f', {lasting(waited)} later'}, with nothing received in between: it did not "
        "wait for the other's FIN",
        by=by,
        tell=CALLS.format(who=name),
    )


def _done_with_it(story: Story, rst: Packet, fin: Packet, by: Sender, end: str) -> Finding:
    """A client that has its answer, closes, and aborts instead of waiting for the server's FIN."""
    waits = owed.waited_for(story, fin)
    whole = not waits and owed.is_answered_whole(story, fin)
    known = (
        "the response had come whole before" if whole else waits or "whether it had all that it wanted cannot be told"
    )
    return Finding(
        "reset after its own close: harmless" if whole else end,
        "harmless" if whole else "suspicious",
        (
            "linger",
            "unread",
            "fin-wait-timeout --end aborted",
            "fin-wait-timeout --end lowered",
            "disconnect --state last-ack",
        ),
        "one of these",
        f"The client had sent its FIN (packet {fin.number}) and aborts in packet {rst.number} without waiting for the server's: "
        f"{known}",
        by=by,
        tell=CALLS.format(who=SIDES[0]),
    )


def _under_way(packet: Packet, fin: Packet) -> bool:
    """Did it cross the FIN? Then the FIN does not acknowledge it."""
    return bool(packet.size) and fin.ack is not None and packet.end is not None and fin.ack < packet.end


def _is_acknowledged(story: Story, rst: Packet, fin: Packet) -> bool:
    others = (p.ack for p in story.before(rst) if p.side != fin.side and p.ack is not None)
    return fin.end is not None and any(ack >= fin.end for ack in others)


def theirs(story: Story, rst: Packet, fin: Packet, by: Sender, end: str) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    data = [p for p in story.before(rst) if p.side != side and p.size]
    answered = [p for p in story.before(rst) if p.side == side and p.size and data and p.number > data[-1].number]
    mine = [p for p in story.before(rst) if p.side == side and p.size]
    acks = [p.ack for p in story.before(rst) if p.side != side and p.ack is not None]
    unacked = bool(mine and acks and mine[-1].end is not None and mine[-1].end > max(acks))
    last_words = (payload.farewell(mine[-1:]) or _answer_to_last_words(data, mine)) if unacked else ""
    if last_words:
        return Finding(
            "reset after the other's close: harmless",
            "harmless",
            ("linger", "disconnect --state last-ack", "unread"),
            "one of these",
            f"The {other} had closed (FIN in packet {fin.number}); the {name} sent {last_words} (packet {mine[-1].number}) and "
            f"ends "
            f"with an abort instead of a FIN (packet {rst.number}): nothing is lost by it",
            by=by,
            tell=CALLS.format(who=name),
        )
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
    waits = owed.waited_for(story, rst)
    if waits:
        return _unserved(story, rst, fin, waits, by, end)
    if data and not answered:
        lost = sum(p.size or 0 for p in data[-3:])
        unclear = owed.unclear(story, rst) if side == 0 else ""
        return Finding(
            end if unclear else "reset after the other's close: harmless",
            "suspicious" if unclear else "harmless",
            ("unread", "linger"),
            "one of these",
            f"The {other} had sent its {'answer' if fin.side else 'last data'} and its FIN (packet {fin.number}); the {name} "
            f"closed without "
            "reading all of it "
            f"(the last {lost} bytes, packet {listed(data[-1:])}), or aborted: RST in packet {rst.number}. "
            f"{f'But {unclear}' if unclear else 'Nobody waits for anything any more'}",
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


def _answer_to_last_words(asked: list[Packet], answers: list[Packet]) -> str:
    """What a program says to a QUIT before it closes; "" where it is something else."""
    bye = payload.farewell(asked[-1:]) if asked else ""
    said = [p for p in answers if bye and p.number > asked[-1].number]
    return f"the answer to {bye}" if bye and said and sum(p.size or 0 for p in said) <= _LAST_WORDS else ""


def _unserved(story: Story, rst: Packet, fin: Packet, waits: str, by: Sender, end: str) -> Finding:
    """The other end had closed its direction and may have waited all the same: for the answer to what it had sent."""
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    lacks = owed.response_lacks(story, rst) if fin.side == 1 else ""
    if lacks:
        return Finding(
            "closed by the server before the response was whole",
            "failed",
            (),
            "most likely",
            f"The server closed (FIN in packet {fin.number}) although {lacks}; the client's RST (packet {rst.number}) ends "
            "what was over by that",
            by="server",
            plain="a response that was cut short",
            tell="the server's log at that time",
        )
    asked = fin.side == 0 and unanswered(story, rst)
    pause = story.seconds(fin, rst)
    return Finding(
        end,
        "failed" if asked and (owed.is_request(story, rst) or (pause is not None and pause >= 1.0)) else "suspicious",
        ("unread", "linger", "crash", "disconnect"),
        "one of these",
        f"The {other} had closed its direction (FIN in packet {fin.number}), and the {name} aborts in packet {rst.number}"
        f"{'' if pause is None else f', {lasting(pause)} later'}: {waits}. Whether the "
        f"{f'{other} still waited' if fin.side == 0 else f'{name} wanted the rest'} cannot be told",
        by=by,
        tell=CALLS.format(who=name),
    )
