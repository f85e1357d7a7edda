"""Connections in which no RST was seen: closed in order, given up, never answered, or merely not over when the
capture ends."""

from __future__ import annotations

from faultkit.explaining import payload, stuck, unserved
from faultkit.explaining.diagnosis import Finding
from faultkit.explaining.errors import refusing
from faultkit.explaining.flows import ACK, FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import listed

_GENERATED = 4  # packets, of which fewer may have one IP ID by chance
PATIENT = 0.15  # seconds after which an answer is missed: no retransmission timeout is shorter (TCP_RTO_MIN is 0.2)


def explain(story: Story, quiet: float | None, accepted: int, *, one_way: bool = False) -> Finding:
    """What the packets show of the end. `quiet`: seconds from its last packet to the capture's end; `accepted`: handshakes
    that the same server has completed with others; `one_way`: of no connection were both directions captured."""
    refused = _complained(story)
    if refused:
        return refused
    if generated(story):
        return Finding(
            "made by a generator",
            "open",
            (),
            "cannot be told",
            f"Every packet of both sides has the IP ID {story.packets[0].ip_id}, and none of their numbers counts the data "
            f"before it: "
            "no two hosts have sent these, so how the connection ended cannot be told",
            plain="packets made by a generator",
        )
    if story.syn is not None and not story.sides[1].packets and story.deaf == 1:
        return _one_way(story)
    if story.syn is not None and story.answer is None and not story.established and not story.sides[1].packets:
        return _one_way(story) if one_way else _unanswered_syn(story, quiet, accepted)
    if story.behind_answer is not None:
        met = story.behind_answer
        lives = _lives_on(story, met)
        if lives:
            return lives
        return Finding(
            "the SYN was answered with a bare ACK",
            "failed",
            ("half-open --found-by reconnect", "time-wait --arrives old-syn"),
            "one of these",
            f"Packet {met.number} answers the SYN with an acknowledgement and no SYN: whoever answers takes it "
            "for a segment of a connection that it "
            "has already (a challenge ACK, RFC 5961 section 4), or something in between answers in the server's "
            "name. The client answers no RST, or "
            "it does not get through, and so the old connection stays in the way",
            plain="a SYN answered with a bare ACK",
            tell="capture at the server: does it send that ACK? ss -tan there shows the old connection",
        )
    if not story.established and story.answer is not None:
        return _unfinished(story, quiet)
    fins = [story.sides[side].first(FIN) for side in (0, 1)]
    if all(fins) and _acknowledged(story, fins[0]) and _acknowledged(story, fins[1]):
        return unserved.explain(story) or Finding(
            "closed in order", "closed", (), "shown by the packets", _closing(story), plain="nothing wrong"
        )
    waits = stuck.explain(story, quiet)
    if waits:
        return waits
    if all(fins):
        return unserved.explain(story) or Finding(
            "closed in order", "closed", (), "most likely", _closing(story), plain="nothing wrong"
        )
    if any(fins):
        return _half_closed(story, quiet)
    return _still_open(story, quiet)


def generated(story: Story) -> bool:
    """Have all packets of both sides one IP ID, and numbers that do not go on?"""
    ids = {p.ip_id for p in story.packets}
    if len(story.packets) < _GENERATED or len(ids) != 1 or ids & {None, 0}:
        return False
    data = [p for p in story.packets if p.size]
    return any(
        p.side == q.side and p is not q and p.seq == q.seq for p in data for q in story.packets if q.number < p.number
    )


def _lives_on(story: Story, met: Packet) -> Finding | None:
    """A SYN for a connection that is open and goes on: only the challenge answers it (RFC 5961 section 4.2)."""
    assert story.syn is not None
    after = story.after(met)
    if {p.side for p in after if p.size} != {0, 1} or any(p.flags & SYN for p in after):
        return None
    return Finding(
        "a SYN was ignored, the open connection goes on",
        "suspicious",
        ("bad-segment --segment syn", "injected"),
        "most likely",
        f"Packet {story.syn.number} is a SYN with the addresses of a connection that is open; packet {met.number} challenges it "
        "(RFC 5961 section 4), and both ends go on with that connection: neither of them has sent the SYN",
        plain="a SYN that does not fit",
    )


def _still_open(story: Story, quiet: float | None) -> Finding:
    last = story.packets[-1]
    after = "" if quiet is None or quiet < 1 else f"; the capture goes on for {quiet:.0f} s without a packet of it"
    return Finding(
        "still open",
        "open",
        (),
        "shown by the packets",
        f"The last packet of it is {last.number}, and nothing has ended it: the capture merely stops{after}",
        plain="still open",
    )


def _closing(story: Story) -> str:
    fins = [p for p in story.packets if p.flags & FIN and not p.flags & RST]
    first = fins[0]
    first_side, other = SIDES[first.side], SIDES[1 - first.side]
    data = [p for p in story.packets if p.size and not p.flags & RST and not story.is_probe(p)]
    closed = f"The {first_side} closed first (FIN in packet {first.number}), the {other} after it"
    if (
        first.side == 1
        and data
        and data[-1].side == 0
        and data[-1].number < first.number
        and not payload.farewell(data[-1:])
    ):
        return f"{closed}. Nothing had answered packet {data[-1].number}: whether an answer was due cannot be told"
    return f"{closed}: nothing was lost"


def _acknowledged(story: Story, packet: Packet | None) -> bool:
    if packet is None:
        return False
    return any(
        p.side != packet.side and p.ack is not None and packet.end is not None and p.ack >= packet.end
        for p in story.packets
    )


def _complained(story: Story) -> Finding | None:
    errors = [c for c in story.connection.complaints if c.kind != "fragmentation-needed"]
    if not errors:
        return None
    first = errors[0]
    kind, side = first.kind, SIDES[first.side]
    went_on = [p for p in story.packets if p.number > first.number and p.side != first.side and p.flags & ACK]
    if went_on:
        return None
    if kind == "time-exceeded":
        return Finding(
            "never answered",
            "failed",
            (),
            "shown by the packets",
            f"{first.by} says in packet {first.number} that the TTL of a segment of the {side} ran out: a routing "
            "loop, or traceroute",
            by="middlebox",
            plain="TTL exceeded on the way",
        )
    known = kind if kind != "unreachable" else "host-unreachable"
    if story.established:
        causes: tuple[str, ...] = (*refusing(known, story, first.number), "retransmit-timeout")
        end = "gave up: an ICMP error, and no answer"
    else:
        causes, end = (f"reject --answer {known}",), "refused by an ICMP error"
    ends = (story.connection.client.host, story.connection.server.host)
    here = first.by in ends
    return Finding(
        end,
        "failed",
        causes,
        "shown by the packets" if len(causes) == 1 else "one of these",
        f"{first.by}{' itself' if here else ''} answers a segment of the {side} with the ICMP error {kind} "
        f"(packet {', '.join(str(c.number) for c in errors[:4])}{', …' if len(errors) > 4 else ''})",
        by=SIDES[ends.index(first.by)] if here else "middlebox",
        tell="iptables -L -v -n, nft list ruleset or the routing table at " + first.by,
    )


def _unanswered_syn(story: Story, quiet: float | None, accepted: int) -> Finding:
    syns = [p for p in story.sides[0].packets if p.flags & SYN]
    waited = story.seconds(syns[0], syns[-1])
    times = f"sent {len(syns)} times" if len(syns) > 1 else "sent once"
    over = "" if waited is None or len(syns) < 2 else f" in {waited:.1f} s"
    if len(syns) == 1 and quiet is not None and quiet < PATIENT:
        return Finding(
            "still open",
            "open",
            ("connect-timeout", "reject --answer port-unreachable", "backlog-full"),
            "cannot be told",
            f"The SYN in packet {syns[0].number} has no answer yet when the capture ends, {quiet * 1000:.0f} ms later",
            plain="still open",
        )
    if "Retransmission]" in syns[0].note:
        return Finding(
            "no answer to the SYN in these rows",
            "suspicious",
            ("connect-timeout", "backlog-full"),
            "cannot be told",
            f"The SYN in packet {syns[0].number} was sent again ({times}{over} here), and the first one is not among the rows: "
            "they are a choice, and an answer may have been left out with it",
            plain="rows are missing",
            tell="all rows of this connection, or the capture itself",
        )
    join = syns[0].option("MPTCP")
    if isinstance(join, bytes) and join and join[0] >> 4 == 1:  # MP_JOIN (RFC 8684 section 3.2)
        return Finding(
            "a further path was not answered",
            "suspicious",
            ("mptcp", "connect-timeout"),
            "most likely",
            f"The SYN in packet {syns[0].number} was to join a Multipath TCP connection, {times}{over}, and nothing answers it; "
            "the connection goes on over its other paths",
            tell="nstat -az 'MPTcpExt*' at both ends",
        )
    causes: tuple[str, ...]
    if accepted and (story.connection.from_rows or syns[0].options):  # a SYN without options is a generator's
        causes, against = ("backlog-full", "connect-timeout"), "a firewall would have dropped the others' SYNs too"
        others = (
            f"; meanwhile the same server completed {accepted} other handshake{'s' if accepted > 1 else ''}, so its accept "
            "queue may be full"
        )
    else:
        causes, against = ("connect-timeout", "backlog-full"), "a server with a full accept queue answers some SYNs"
        others = ""
    return Finding(
        "never answered",
        "failed",
        causes,
        "most likely",
        f"The SYN (packet {', '.join(str(p.number) for p in syns[:4])}{', …' if len(syns) > 4 else ''}) was "
        f"{times}{over} and nothing answers it{others}",
        against=against,
        tell="capture at the server: does the SYN arrive there? nstat -az TcpExtListenDrops TcpExtListenOverflows",
    )


def _one_way(story: Story) -> Finding:
    return Finding(
        "one direction captured",
        "open",
        (),
        "cannot be told",
        f"Of {'this connection' if story.deaf == 1 else 'the connections of this capture'} one direction alone is there: whether "
        f"the SYN in packet {story.packets[0].number} was answered cannot be seen",
        plain="one direction captured",
        tell="capture both directions",
    )


def _unfinished(story: Story, quiet: float | None) -> Finding:
    answers = [p for p in story.sides[1].packets if p.flags & SYN]
    own = [p for p in story.sides[0].packets if p.flags & SYN]
    further = [p for p in story.sides[1].packets if not p.flags & SYN]
    if not own and further:
        return Finding(
            "one direction captured",
            "open",
            (),
            "cannot be told",
            f"The server answers a SYN in packet {answers[0].number} and goes on (packet {listed(further)}), and nothing of the "
            "client was captured: how it ended for the client cannot be seen",
            plain="one direction captured",
            tell="capture both directions",
        )
    if not own:
        comes = (
            "nothing came after it" if len(answers) == 1 else f"nothing but that again (packet {listed(answers[1:])})"
        )
        return Finding(
            "an unasked SYN,ACK",
            "suspicious",
            (),
            "most likely",
            f"Packet {answers[0].number} is a SYN,ACK to a SYN that was not captured, and {comes}",
            plain="an unasked SYN,ACK, or only one direction was captured",
            tell="capture both directions",
        )
    return Finding(
        "the handshake was not completed",
        "failed" if len(answers) > 1 else "open",
        ("connect-timeout",) if len(answers) > 1 else (),
        "most likely" if len(answers) > 1 else "cannot be told",
        f"The SYN,ACK (packet {', '.join(str(p.number) for p in answers[:4])}) was sent {len(answers)} times and "
        "the client does not answer it: "
        "it does not arrive there, or the client has gone",
        plain="still open",
        tell="capture at the client: does the SYN,ACK arrive there?",
    )


def _half_closed(story: Story, quiet: float | None) -> Finding:
    fin = next(p for p in story.packets if p.flags & FIN and not p.flags & RST)
    name, other = SIDES[fin.side], SIDES[1 - fin.side]
    acked = _acknowledged(story, fin)
    after = [p for p in story.after(fin) if p.side != fin.side and p.size]
    if not story.sides[1 - fin.side].packets:
        return Finding(
            "one direction captured",
            "open",
            (),
            "cannot be told",
            f"The {name} has closed its direction (FIN in packet {fin.number}), and nothing of the {other} was captured: how it "
            "ended cannot be seen",
            plain="one direction captured",
            tell="capture both directions",
        )
    if after or quiet is None or quiet < 60:
        return Finding(
            "half closed",
            "open",
            (),
            "shown by the packets",
            f"The {name} has closed its direction (FIN in packet "
            f"{fin.number}{', acknowledged' if acked else ''}), the {other} has not yet",
            plain="still open",
        )
    return Finding(
        f"half closed: the {other} does not close",
        "suspicious",
        ("fin-wait-timeout",),
        "most likely",
        f"The {name} closed in packet {fin.number}, and the {other} has not within {quiet:.0f} s: its program has "
        "not seen the end, or does not look",
        tell=f"ss -tn state close-wait at the {other}",
    )
