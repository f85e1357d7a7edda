"""Resets before a connection was made: refusals, unwanted answers, old connections in the way."""

from __future__ import annotations

import re

from faultkit.explaining import multipath
from faultkit.explaining.diagnosis import Finding, ResetTold
from faultkit.explaining.filtered import refuses
from faultkit.explaining.flows import ACK, FIN, PSH, RST, SYN, URG, Packet
from faultkit.explaining.senders import text
from faultkit.explaining.story import Story
from faultkit.explaining.wording import CALLS, CAPTURE, lasting, listed

_AT_ONCE = 0.9  # seconds: a round trip, and no retransmission (RFC 6298)


def explain(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    sent = told[rst.number]
    mptcp = next((p for p in story.resets if p.has("MPTCP")), None)
    if mptcp or (story.syn and any(p.has("MPTCP") for p in story.packets)):
        found = multipath.explain(story, mptcp or rst)
        if found:
            return found
    before = story.before(rst)
    odd = [p for p in before if not p.flags & (SYN | ACK | RST)]
    if odd and len(odd) == len(before) and rst.side != odd[-1].side:
        kind = {FIN: "FIN", FIN | PSH | URG: "Xmas (FIN, PSH, URG)", 0: "NULL"}.get(odd[-1].flags & 63, odd[-1].shown)
        return Finding(
            "refused",
            "harmless",
            ("closed-port",),
            "most likely",
            f"Packet {odd[-1].number} has neither SYN nor ACK: no program's kernel begins so. It is a {kind} "
            f"scan, and the RST in packet {rst.number} says that "
            "nobody listens on that port",
            by=sent.by,
            plain=f"a {kind} scan",
        )
    from_server = [p for p in before if p.side == 1 and not p.flags & RST]
    from_client = [p for p in before if p.side == 0 and not p.flags & RST]
    if rst.side == 1 and not from_server and from_client and all(p.flags & SYN for p in from_client):
        return _refused(story, rst, sent)
    if rst.side == 0 and from_client and not from_server and all(p.flags & SYN for p in from_client):
        return _given_up(story, rst, from_client, sent)
    unfinished = from_server and all(p.flags & SYN for p in (*from_server, *from_client))
    if rst.side == 1 and unfinished and from_client and story.form(rst) in ("abort", "bare abort"):
        return Finding(
            "the handshake was not completed, and the server gave up",
            "failed" if len(from_server) > 1 else "suspicious",
            ("connect-timeout", "firewall-reset --answer drop", "half-open"),
            "one of these",
            f"The server's SYN,ACK (packet {listed(from_server)}) was not answered by the client, and the server ends it in "
            f"packet "
            f"{rst.number}: the SYN,ACK does not arrive there, the client's answer does not arrive here, or the client has gone",
            by=sent.by,
            tell="capture at the client: does the SYN,ACK arrive there?",
        )
    met = before[-1] if before else None
    second = met is not None and met.side == 0 and met.flags & (SYN | ACK) == SYN and story.syn is not met
    if rst.side == 1 and second and rst.flags & ACK and not rst.window and not any(p.flags & ACK for p in from_client):
        return Finding(
            "a second SYN was refused",
            "suspicious",
            ("bad-segment --segment second-syn",),
            "most likely",
            f"The handshake was not finished when another SYN came from the same port (packet {met.number if met else 0}): "
            f"RST,ACK in packet {rst.number}. Two programs behind one address, or a forged SYN",
            by=sent.by,
        )
    answered = story.answer is not None and story.answer in before
    if rst.side == 0 and answered and not any(p.flags & ACK for p in from_client):
        return _unwanted_answer(story, rst, from_client)
    if rst.side == 0 and story.syn is not None and story.answer not in before and from_server:
        other = from_server[-1]
        if not other.flags & SYN and other.ack == rst.seq:
            goes_on = any(p.flags & SYN and p.side == 1 for p in story.after(rst))
            return Finding(
                f"an old connection was found dead{'; the new one goes on' if goes_on else ''}",
                "suspicious",
                ("half-open --found-by reconnect", "time-wait --arrives old-syn"),
                "most likely",
                f"The SYN in packet {story.syn.number} met a connection of the same addresses that the server "
                "still had: "
                f"packet {other.number} acknowledges numbers of that one (a challenge ACK, RFC 5961 section 4), "
                "and the "
                f"RST in packet {rst.number} ended it",
                by=sent.by,
            )
    if rst.side == 0 and story.syn is not None and from_server and not any(p.flags & ACK for p in from_client):
        return Finding(
            "a segment of the handshake was refused",
            "suspicious",
            ("bad-segment", "injected"),
            "one of these",
            f"The client answers packet {from_server[-1].number}, which fits no handshake of its, with the RST in "
            f"packet {rst.number}",
            by=sent.by,
            tell=CAPTURE,
        )
    return None


# What stacks descended from Mentat's write into their RSTs: names of the function that refuses, or why.
_STACKS = re.compile(r"(?i)no (?:listener|tcp\b)|tcp_\w+|go away, we're not home")


def _given_up(story: Story, rst: Packet, syns: list[Packet], sent: ResetTold) -> Finding | None:
    """Nothing but SYNs, and the RST of the same end."""
    heard = next((p for p in (rst, *story.after(rst)) if p.flags & ACK and p.raw_ack and p.raw_seq), None)
    if heard and not any(p.side for p in story.packets):
        return Finding(
            "one direction captured",
            "suspicious",
            ("linger", "unread", "disconnect", "crash") if heard is rst else ("bad-segment", "injected", "half-open"),
            "cannot be told",
            f"Packet {rst.number} is a RST of the client, and packet {heard.number} acknowledges something of the server, of "
            "which nothing was captured: what the client ended or refused is not known",
            by=sent.by,
            plain="one direction captured",
            tell="capture both directions",
        )
    if not rst.flags & ACK:
        its = rst.seq == syns[-1].end
        answered = (
            "a SYN,ACK: it came too late, was not asked for, or is another's"
            if its
            else "a segment of another connection"
        )
        return Finding(
            "an answer that was not captured was refused, as it seems",
            "suspicious",
            ("connect-timeout --ended-by late-answer", "half-open", "bad-segment", "injected")
            if its
            else ("half-open --found-by reconnect", "time-wait --arrives old-syn", "bad-segment", "injected"),
            "one of these",
            f"Packet {rst.number} is a RST of the client behind its SYN (packet {listed(syns)}). Who gives up a SYN sends no RST "
            f"(ABORT in SYN-SENT, RFC 9293 section 3.10.5), and one with this number answers {answered}",
            by=sent.by,
            tell="capture both directions",
        )
    waited = story.seconds(syns[0], rst)
    return Finding(
        "never answered, and the client gave up",
        "failed" if len(syns) > 1 else "suspicious",
        ("connect-timeout --ended-by own-timeout", "connect-timeout", "backlog-full", "injected"),
        "one of these",
        f"The SYN (packet {listed(syns)}) was answered by nobody, and the RST in packet {rst.number}"
        f"{'' if waited is None else f', {lasting(waited)} after the first,'} carries the client's address",
        by=sent.by,
        tell="capture at the server: does the SYN arrive there?",
    )


def _refused(story: Story, rst: Packet, sent: ResetTold) -> Finding:
    syn = story.before(rst)[-1]

    said = text(rst)
    later = next((p for p in story.after(rst) if p.side == 1 and p.flags & (SYN | RST) == SYN), None)
    if sent.by == "middlebox" and later is not None:
        return Finding(
            "refused in the server's name, and answered by the server",
            "suspicious",
            ("injected", "reject"),
            "one of these",
            f"Packet {rst.number} refuses the SYN of packet {syn.number}, and {sent.why}. The server itself answers with SYN,ACK "
            f"(packet {later.number})",
            by="middlebox",
        )
    own_words = _STACKS.match(said)
    if own_words:
        return Finding(
            "refused",
            "failed",
            ("closed-port",),
            "most likely",
            f"Packet {rst.number} answers the SYN of packet {syn.number} with RST,ACK and says {said!r} in it, as the stacks of "
            f"HP-UX and Mac OS do (RFC 9293 section 3.5.3): nobody listens on port {story.connection.server.port} there",
            by=sent.by,
            tell="netstat -an at the server",
        )
    if sent.by == "middlebox" or said:
        return Finding(
            "refused by something in between",
            "failed",
            ("reject",),
            "most likely",
            f"Packet {rst.number} refuses the SYN of packet {syn.number}, and "
            f"{(said and repr(said) + ' stands in it') or sent.why}",
            by="middlebox",
        )
    if re.search(r"\bout slot\d+/tmm\d+", rst.note):
        return Finding(
            "refused by something in between",
            "failed",
            ("reject", "closed-port"),
            "shown by the packets",
            f"Packet {rst.number} refuses the SYN of packet {syn.number}, and its row says that the BIG-IP sent "
            "it itself (out slot.../tmm...): no virtual "
            "server listens there, or a filter refuses it",
            by="middlebox",
            tell="tmsh modify sys db tm.rstcause.pkt value enable: then the RST says why",
        )
    if story.form(rst) == "answer":
        return Finding(
            "refused",
            "failed",
            ("bad-segment", "backlog-full --ended-by abort", "reject", "injected"),
            "one of these",
            f"The SYN in packet {syn.number} is answered with a RST without ACK (packet {rst.number}): no Linux "
            "answers a first SYN so",
            by=sent.by,
            tell=CAPTURE,
        )
    if rst.ack is not None and syn.end is not None and rst.ack != syn.end and not refuses(story, rst):
        return Finding(
            "reset in the name of the server",
            "suspicious",
            ("bad-segment", "injected", "half-open"),
            "one of these",
            f"RST,ACK in packet {rst.number} acknowledges {rst.ack}, where the SYN of packet {syn.number} asks for {syn.end}. "
            "It refuses something else, which was not captured, or was made in between",
            by=sent.by,
            tell=CAPTURE,
        )
    return Finding(
        "refused",
        "failed",
        ("closed-port", "reject"),
        "most likely",
        f"Packet {rst.number} answers the SYN of packet {syn.number} with RST,ACK: nobody listens on port "
        f"{story.connection.server.port} there",
        by=sent.by,
        against="a firewall's REJECT --reject-with tcp-reset sends the same packet, but only where somebody made "
        "such a rule",
        tell="ss -ltn at the server; iptables -L -v -n or nft list ruleset on the way",
    )


def _is_a_kernels(syn: Packet) -> bool:
    """Has it the options of an operating system's SYN? Scanners send none, or the MSS alone."""
    return syn.has("SACK_PERM") and (syn.has("WS") or syn.has("TS"))


def _unwanted_answer(story: Story, rst: Packet, from_client: list[Packet]) -> Finding:
    answer = story.answer
    assert answer is not None
    if not from_client:
        return Finding(
            "an unasked SYN,ACK was refused",
            "harmless",
            (),
            "most likely",
            f"Packet {answer.number} is a SYN,ACK to which no SYN was captured, and packet {rst.number} refuses "
            "it: a scanner "
            "or another program with its own stack asked for it, or somebody used this address as its own",
            by="client",
            plain="a RST to an unasked SYN,ACK",
        )
    late = story.seconds(from_client[0], answer)
    answers = [p for p in story.before(rst) if p.side == 1 and p.flags & SYN]
    again, first = (story.seconds(syn, answers[-1]) for syn in (from_client[-1], from_client[0]))
    if (late is not None and late > _AT_ONCE and len(from_client) >= 1) or (again is not None and again > _AT_ONCE):
        return Finding(
            "answered after the client had given up",
            "failed",
            ("connect-timeout --ended-by late-answer",),
            "most likely",
            f"The SYN of packet {from_client[0].number} was answered {first or again or 0.0:.1f} s later (packet "
            f"{answers[-1].number}), and the "
            f"client had no such connection any more: its kernel answers with the RST in packet {rst.number}",
            by="client",
            against="a scanner resets at once",
            tell="the client's connect timeout against that time",
        )
    expected = story.syn.end if story.syn else None
    if answer.ack is not None and expected is not None and answer.ack != expected:
        return Finding(
            "a SYN,ACK with wrong numbers was refused",
            "suspicious",
            ("bad-segment", "injected"),
            "most likely",
            f"Packet {answer.number} acknowledges {answer.ack}, and the SYN's next number is {expected}: the RST "
            f"in packet {rst.number} refuses it",
            by="client",
        )
    timestamps = answer.option("TS")
    sent_ts = story.syn.option("TS") if story.syn else None
    if isinstance(timestamps, tuple) and isinstance(sent_ts, tuple) and timestamps[1] not in (0, sent_ts[0]):
        return Finding(
            "a SYN,ACK with an impossible timestamp was refused",
            "suspicious",
            ("bad-segment --segment handshake-echo",),
            "shown by the packets",
            f"Packet {answer.number} echoes a timestamp that the SYN did not have (RFC 7323 section 5.5), and "
            f"packet {rst.number} refuses it",
            by="client",
        )
    at_once = (story.seconds(answers[-1], rst) or 0.0) < _AT_ONCE
    if at_once and story.form(rst) == "abort" and rst.ack == answer.end:
        return Finding(
            "reset by the client as soon as it was connected",
            "harmless",
            ("linger", "disconnect"),
            "most likely",
            f"The SYN,ACK in packet {answer.number} had arrived (packet {rst.number} acknowledges it), and the client's socket "
            "aborts in the same breath, before a byte was sent: a check whether somebody listens, as HAProxy makes it, or a "
            "scan that connects",
            by="client",
            against="a program that gives up in just that moment does the same",
            tell=CALLS.format(who="client"),
        )
    if not at_once or from_client[0].options is None or _is_a_kernels(from_client[0]):
        return Finding(
            "a handshake that its own side cut short",
            "suspicious",
            ("connect-timeout --ended-by late-answer",),
            "cannot be told",
            f"The SYN,ACK in packet {answer.number} is answered with a bare RST (packet {rst.number}): the client had no such "
            "socket any more, or never had. Its program had cancelled connect() (a short timeout, or another address that was "
            "quicker, RFC 8305), or the SYN was a scanner's",
            by="client",
            plain="a cancelled connect(), or a SYN scan",
            tell="the client's log; does it connect to another address of that name at the same moment?",
        )
    return Finding(
        "a handshake that its own side cut short",
        "harmless",
        (),
        "most likely",
        f"The SYN,ACK in packet {answer.number} is answered with a bare RST (packet {rst.number}) at once: the "
        "SYN was not the kernel's. "
        "That is a SYN scan, or a program with its own stack",
        by="client",
        plain="a SYN scan, or a program with its own stack",
    )
