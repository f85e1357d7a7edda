"""Connections that ended with a RST: which end of the catalogue it is. From packets alone, one function for each situation.

The order of the situations is that of what is known more surely: what is no reset at all, the handshake, what something in
between has done, a socket's abort, the stack's answer.
"""

from __future__ import annotations

import re
from dataclasses import replace

from faultkit.explaining import payload
from faultkit.explaining.diagnosis import Finding, ResetTold, Sender
from faultkit.explaining.flows import ACK, FIN, PSH, RST, SYN, URG, Packet
from faultkit.explaining.story import SIDES, Story

# Seconds: within them an answer of a program is "at once"; a local one takes microseconds, a distant one its round trip.
AT_ONCE = 1.0
_LAST_WORDS = 128  # bytes: the answer to a farewell is short; arbitrary
_SEGMENT = 500  # bytes on their way beyond what was acknowledged: the upload goes on; arbitrary
_LARGE = 4096  # bytes; a request that is larger is called an upload; arbitrary
# Idle times at which balancers and NATs end a connection, where their documentation gives a default: AWS NLB 350 s, ALB 60 s,
# Azure 240 s, Google 600 s, NetScaler 180 s and 9000 s, BIG-IP 300 s, conntrack 432000 s and others' round minutes.
_ROUND = (30, 60, 90, 120, 180, 240, 300, 350, 400, 600, 900, 1200, 1800, 3600, 7200, 9000)

CAPTURE = "capture at both ends at once (tcpdump -w client.pcap, and the same at the server)"
CALLS = "strace -f -e trace=network,close -p PID at the {who}, or faultkit which --saw"


def explain(story: Story, told: list[ResetTold]) -> Finding:
    """Why the connection was reset."""
    senders = {reset.number: reset for reset in told}
    for situation in (_no_reset, _marked, _handshake, _between, _aborted, _answered):
        found = situation(story, senders)
        if found:
            return _and_later(found, story, senders)
    rst = story.resets[0]
    return Finding(
        _end(senders[rst.number].by, rst),
        "failed",
        (),
        "cannot be told",
        f"Packet {rst.number} is a RST, and what was captured before it does not say why",
        by=senders[rst.number].by,
        plain="unknown",
        tell=CAPTURE,
    )


def _and_later(found: Finding, story: Story, told: dict[int, ResetTold]) -> Finding:
    """What a later RST of the same connection tells beside the first."""
    first = story.resets[0]
    made = [p for p in story.resets[1:] if told[p.number].by == "middlebox"]
    if made and told[first.number].by in SIDES:
        return replace(
            found,
            causes=(*found.causes, *(cause for cause in ("firewall-reset",) if cause not in found.causes)),
            why=f"{found.why}. Beside that, {_listed(made)} {'is' if len(made) == 1 else 'are'} not the {SIDES[made[0].side]}'s: {told[made[0].number].why}",
        )
    last = story.resets[-1]
    deaf = [p for p in story.after(last) if p.side != last.side and story.repeats(p) and p.size]
    waited = story.seconds(last, deaf[-1]) if deaf else None
    if deaf and waited is not None and waited > 1:
        other = SIDES[deaf[-1].side]
        return replace(
            found,
            end=f"gave up: the {SIDES[last.side]} acknowledged nothing any more",
            harm="failed",
            causes=("retransmit-timeout", *found.causes),
            sure="most likely",
            why=f"{found.why}. The {other} did not obey that RST, or did not get it, and sends the same again until packet {deaf[-1].number}, {waited:.0f} s later, "
            "without any answer: it gives up by its own retransmission timeout",
        )
    for rst in story.resets[1:]:
        trigger = story.trigger(rst)
        pause = story.idle_before(trigger) if trigger else None
        if trigger is not None and trigger.size and pause is not None and pause > 1 and trigger.side != first.side and not rst.flags & ACK:
            return replace(
                found,
                causes=(*found.causes, *(cause for cause in ("half-open",) if cause not in found.causes)),
                why=f"{found.why}. {pause:.1f} s later the {SIDES[trigger.side]} sends data all the same (packet {trigger.number}) and is refused "
                f"with the RST in packet {rst.number}: it had not heard of the end",
            )
    return found


def _end(by: Sender, rst: Packet) -> str:
    return f"reset by the {by}" if by in SIDES else "reset by something in between" if by else f"reset in the name of the {SIDES[rst.side]}"


# What is no reset


def _no_reset(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    from faultkit.explaining.senders import both_at_once

    resets = story.resets
    strange = next((p for p in resets if p.flags & (SYN | FIN)), None)
    if strange:
        why = f"packet {strange.number} has {strange.shown} set together: no TCP sends that (RFC 9293 section 3.1), and none takes it for a reset"
        if strange.flags & (SYN | FIN | RST | PSH | ACK | URG) == SYN | FIN | RST | PSH | ACK | URG or len(resets) == 1:
            return _not_one("a made-up packet", why)
    signed = next((p for p in resets if p.has("MD5")), None)
    if signed and any(not p.flags & RST for p in story.after(signed)):
        return _not_one("a RST to be ignored", f"packet {signed.number} carries a TCP-MD5 signature, and the connection goes on")
    numbers = {p.ip_id for p in story.packets}
    if len(story.packets) >= 6 and len(numbers) == 1 and numbers.isdisjoint({None, 0}):
        return _not_one(
            "packets made by a generator", f"every packet of both sides has the IP ID {numbers.pop()}: no two hosts have sent these"
        )
    if both_at_once(story):
        return _not_one(
            "rebuilt packets",
            "both ends send a RST within a millisecond, and the IP IDs of both are those of one counter: "
            "one device has written all these packets",
        )
    if len(story.packets) == len(resets):
        return _alone(story, told)
    survived = _survived(story, resets)
    if survived:
        return survived
    return None


def _not_one(plain: str, why: str) -> Finding:
    return Finding("no reset", "no reset", (), "shown by the packets", _sentence(why), plain=plain)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _alone(story: Story, told: dict[int, ResetTold]) -> Finding:
    rst = story.resets[0]
    name = SIDES[rst.side]
    form = story.form(rst)
    from faultkit.explaining.senders import mark, text

    said = text(rst)
    made = mark(rst)
    if said:
        return Finding(
            "reset, relayed" if "remote system" in said else "reset by something in between",
            "suspicious",
            (),
            "shown by the packets",
            f"Packet {rst.number} says itself why it was sent: {said!r}",
            by="middlebox",
            plain=f"{made.product if made else 'a box in between'} says: {said}",
            tell=CAPTURE,
        )
    if rst.has("MPTCP"):
        found = _of_mptcp(story, rst)
        if found:
            return found
    if form != "abort" and rst.flags & ACK and rst.raw_seq == 0 and not rst.window:
        return Finding(
            "refused",
            "failed",
            ("closed-port", "reject"),
            "most likely",
            f"Packet {rst.number} is RST,ACK with the number 0: so a SYN is refused (RFC 9293 section 3.10.7.1), which was not captured itself",
            tell="capture the SYN too; ss -ltn at the server",
        )
    how = {
        "abort": f"a socket of {story.connection.client if rst.side == 0 else story.connection.server} has aborted: it has a window",
        "answer": "the stack has answered a segment for which it had no connection, or something in between has made it",
    }.get(form, "it has an ACK flag and window 0: the refusal of a SYN, an abort of Windows, or a box in between")
    return Finding(
        "reset, and nothing else seen",
        "suspicious",
        (),
        "cannot be told",
        f"Of this connection there is nothing but packet {rst.number}, a RST: {how}. Why cannot be told from it alone",
        by=name if form == "abort" else "",  # type: ignore[arg-type]
        plain="unknown: one packet",
        tell="capture the whole connection, its beginning included: tcpdump -n -s 128 -w all.pcap host A and port P",
    )


def _survived(story: Story, resets: list[Packet]) -> Finding | None:
    """A RST after which both ends go on was not taken for one: its number was wrong (RFC 9293 section 3.5.3, RFC 5961)."""
    last = resets[-1]
    after = [p for p in story.after(last) if not p.flags & RST]
    fresh = [p for p in after if p.size and not story.repeats(p)]
    sides = {p.side for p in after if p.flags & ACK}
    acked = [p for p in after if p.side == 1 - last.side]
    if not (fresh and sides == {0, 1} and acked) or any(p.flags & SYN for p in after if not p.flags & ACK):
        return None
    rst = resets[0]
    victim = 1 - rst.side
    # What counts is that the receiver of the RST goes on, and that the other hears it.
    speaks = [p for p in after if p.side == victim and (p.size or p.flags & ACK)]
    heard = [p for p in after if p.side == rst.side and p.ack is not None]
    if not speaks or not heard:
        return None
    expected = max((p.ack for p in story.before(rst) if p.side == victim and p.ack is not None), default=None)
    off = None if expected is None or rst.seq is None else rst.seq - expected
    number = "" if off is None else f"its number is {off:+d} from the one expected, " if off else "its number is the one expected, "
    challenged = next(
        (p for p in story.after(rst) if p.side == victim and not p.size and p.flags & (SYN | FIN | RST | ACK) == ACK), None
    )
    if off == 0:
        return None
    echoed = rst.option("TS")
    stamps = {value[0] for p in story.before(rst) if p.side == victim and isinstance(value := p.option("TS"), tuple)}
    if isinstance(echoed, tuple) and stamps and echoed[1] not in stamps:
        return Finding(
            "reset ignored, the connection goes on",
            "no reset",
            ("bad-segment", "injected"),
            "shown by the packets",
            f"Packet {rst.number} is a RST that echoes the timestamp {echoed[1]}, which the {SIDES[victim]} never sent (RFC 7323 section 5.2), and both ends "
            f"go on after it (packets {speaks[0].number} and {heard[0].number})",
            by="middlebox",
            plain="a RST to be ignored",
        )
    causes: tuple[str, ...]
    if off is not None and 0 < off < 1 << 20:
        causes = ("injected --number in-window", "injected --number out-of-window", "bad-segment")
    else:
        causes = ("bad-segment", "injected --number out-of-window") if story.answer in story.after(rst) else (
            "injected --number out-of-window",
            "bad-segment",
        )
    answer = f", and packet {challenged.number} challenges it" if challenged and off and off > 0 else ""
    return Finding(
        "reset ignored, the connection goes on",
        "no reset",
        causes,
        "most likely",
        f"Packet {rst.number} is a RST, {number}and both ends go on after it (packets {speaks[0].number} and {heard[0].number})"
        f"{answer}: a RST whose number is not exactly the next is not obeyed (RFC 5961 section 3.2)",
        by="middlebox",
        plain="a RST to be ignored",
    )


def _marked(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    """RSTs that a product has signed."""
    from faultkit.explaining.senders import mark, text

    rst = story.resets[0]
    made = mark(rst)
    if made is None or story.form(rst) == "refusal":
        return None
    idle = story.idle_before(rst)
    said = text(rst)
    if said:
        relayed = "remote system" in said
        return Finding(
            "reset, relayed by a box in between" if relayed else "reset by a box in between",
            "failed",
            () if relayed else ("load-balancer-idle",) if idle is not None and idle > 1 else ("reject --at established",),
            "shown by the packets",
            f"{made.product} made the RST in packet {rst.number} and says why in its data: {said!r} ({made.source})",
            by="middlebox",
            plain="a relayed reset" if relayed else f"{made.product} says: {said}",
        )
    own = {p.window for p in story.sides[rst.side].packets if not p.flags & RST}
    if rst.window in own or not own:
        return None
    if idle is None or idle < 1:
        return None
    ttl = next(iter(story.sides[rst.side].ttls.most_common(1)), (None, 0))[0]
    other = "" if ttl in (None, rst.ttl) else f", and its TTL {rst.ttl} is not the {ttl} of the {SIDES[rst.side]}"
    return Finding(
        "reset by something in between",
        "failed",
        ("load-balancer-idle", "firewall-reset"),
        "most likely",
        f"After {idle:.1f} s without a packet the RST in packet {rst.number} comes with window {rst.window}, the mark of {made.product}{other}: "
        f"its idle timeout ({made.source})",
        by="middlebox",
        tell=f"the idle timeout set in the {made.product}",
    )


# The handshake


def _handshake(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    sent = told[rst.number]
    mptcp = next((p for p in story.resets if p.has("MPTCP")), None)
    if mptcp or (story.syn and any(p.has("MPTCP") for p in story.packets)):
        found = _of_mptcp(story, mptcp or rst)
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
            f"Packet {odd[-1].number} has neither SYN nor ACK: no program's kernel begins so. It is a {kind} scan, and the RST in packet {rst.number} says that "
            "nobody listens on that port",
            by=sent.by,
            plain=f"a {kind} scan",
        )
    from_server = [p for p in before if p.side == 1 and not p.flags & RST]
    from_client = [p for p in before if p.side == 0 and not p.flags & RST]
    if rst.side == 1 and not from_server and from_client and all(p.flags & SYN for p in from_client):
        return _refused(story, rst, sent)
    if rst.side == 0 and story.answer is not None and story.answer in before:
        if not any(p.flags & ACK for p in from_client):
            return _unwanted_answer(story, rst, from_client)
    if rst.side == 0 and story.syn is not None and story.answer not in before and from_server:
        other = from_server[-1]
        if not other.flags & SYN and other.ack == rst.seq:
            return Finding(
                "an old connection was found dead; the new one goes on",
                "suspicious",
                ("half-open --found-by reconnect",),
                "shown by the packets",
                f"The SYN in packet {story.syn.number} met a connection of the same addresses that the server still had: "
                f"packet {other.number} acknowledges numbers of that one (a challenge ACK, RFC 5961 section 4), and the "
                f"RST in packet {rst.number} ended it",
                by=sent.by,
            )
    if rst.side == 0 and story.syn is not None and from_server and not any(p.flags & ACK for p in from_client):
        return Finding(
            "a segment of the handshake was refused",
            "suspicious",
            ("bad-segment", "injected"),
            "one of these",
            f"The client answers packet {from_server[-1].number}, which fits no handshake of its, with the RST in packet {rst.number}",
            by=sent.by,
            tell=CAPTURE,
        )
    return None


def _refused(story: Story, rst: Packet, sent: ResetTold) -> Finding:
    syn = story.before(rst)[-1]
    from faultkit.explaining.senders import text

    said = text(rst)
    if sent.by == "middlebox" or said:
        return Finding(
            "refused by something in between",
            "failed",
            ("reject",),
            "most likely",
            f"Packet {rst.number} refuses the SYN of packet {syn.number}, and {said and repr(said) + ' stands in it' or sent.why}",
            by="middlebox",
        )
    if re.search(r"\bout slot\d+/tmm\d+", rst.note):
        return Finding(
            "refused by something in between",
            "failed",
            ("reject", "closed-port"),
            "shown by the packets",
            f"Packet {rst.number} refuses the SYN of packet {syn.number}, and its row says that the BIG-IP sent it itself (out slot.../tmm...): no virtual "
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
            f"The SYN in packet {syn.number} is answered with a RST without ACK (packet {rst.number}): no Linux answers a first SYN so",
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
        against="a firewall's REJECT --reject-with tcp-reset sends the same packet, but only where somebody made such a rule",
        tell="ss -ltn at the server; iptables -L -v -n or nft list ruleset on the way",
    )


def _unwanted_answer(story: Story, rst: Packet, from_client: list[Packet]) -> Finding:
    answer = story.answer
    assert answer is not None
    if not from_client:
        return Finding(
            "an unasked SYN,ACK was refused",
            "harmless",
            (),
            "shown by the packets",
            f"Packet {answer.number} is a SYN,ACK to which no SYN was captured, and packet {rst.number} refuses it: a scanner "
            "or another program with its own stack asked for it, or somebody used this address as its own",
            by="client",
            plain="a RST to an unasked SYN,ACK",
        )
    late = story.seconds(from_client[0], answer)
    answers = [p for p in story.before(rst) if p.side == 1 and p.flags & SYN]
    again = story.seconds(from_client[-1], answers[-1])
    if (late is not None and late > 0.9 and len(from_client) >= 1) or (again is not None and again > 0.9):
        return Finding(
            "answered after the client had given up",
            "failed",
            ("connect-timeout --ended-by late-answer",),
            "most likely",
            f"The SYN of packet {from_client[0].number} was answered {again or late:.1f} s later (packet {answers[-1].number}), and the "
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
            f"Packet {answer.number} acknowledges {answer.ack}, and the SYN's next number is {expected}: the RST in packet {rst.number} refuses it",
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
            f"Packet {answer.number} echoes a timestamp that the SYN did not have (RFC 7323 section 5.5), and packet {rst.number} refuses it",
            by="client",
        )
    return Finding(
        "a handshake that its own side cut short",
        "harmless",
        (),
        "most likely",
        f"The SYN,ACK in packet {answer.number} is answered with a bare RST (packet {rst.number}) at once: the SYN was not the kernel's. "
        "That is a SYN scan, or a program with its own stack",
        by="client",
        plain="a SYN scan, or a program with its own stack",
    )


def _of_mptcp(story: Story, rst: Packet) -> Finding | None:
    bodies = [value for name, value in rst.options or () if name == "MPTCP" and isinstance(value, bytes) and value]
    subtypes = {body[0] >> 4: body for body in bodies}
    joins = any(
        isinstance(value, bytes) and value and value[0] >> 4 == 1
        for p in story.packets
        for name, value in p.options or ()
        if name == "MPTCP"
    )
    if 8 in subtypes:
        body = subtypes[8]
        why = {0: "unspecified", 1: "MPTCP specific", 2: "no resources", 3: "prohibited", 4: "too much data", 5: "too slow", 6: "a middlebox"}
        reason = why.get(body[1], str(body[1])) if len(body) > 1 else "none given"
        said = f"packet {rst.number} carries MP_TCPRST, reason {reason!r} (RFC 8684 section 3.6)"
    elif 7 in subtypes:
        said = f"packet {rst.number} carries MP_FASTCLOSE: the whole Multipath TCP connection is aborted (RFC 8684 section 3.5)"
    elif joins:
        said = f"packet {rst.number} resets a path that was to join a Multipath TCP connection"
    elif bodies:
        said = f"packet {rst.number} carries Multipath TCP options"
    else:
        return None
    return Finding(
        f"one path reset by the {SIDES[rst.side]}" if 7 not in subtypes else f"reset by the {SIDES[rst.side]}",
        "suspicious",
        ("mptcp",),
        "shown by the packets",
        _sentence(said),
        by=SIDES[rst.side],  # type: ignore[arg-type]
        tell="nstat -az 'MPTcpExt*' at both ends",
    )


# Something in between


def _between(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    made = [p for p in story.resets if told[p.number].by == "middlebox"]
    rst = story.resets[0]
    if rst not in made:
        return None
    sent = told[rst.number]
    both = {p.side for p in made} == {0, 1}
    trigger = story.trigger(rst)
    from faultkit.explaining.senders import mark, text

    product = mark(rst)
    said = text(rst)
    idle = story.idle_before(trigger or rst)
    at_victim = "" if both else f" It reached the {SIDES[1 - rst.side]} alone."
    why = f"{_sentence(sent.why)}.{at_victim}"
    prompted = trigger is not None and (story.seconds(trigger, rst) or 0.0) < 0.02 and story.before(rst)[-1] is trigger
    if product and idle is not None and _is_round(idle):
        causes: tuple[str, ...] = ("load-balancer-idle", "firewall-reset")
    elif said:
        causes = ("reject --at established", "load-balancer-idle")
        why += f" It says: {said!r}."
    elif prompted:
        causes = ("firewall-reset", "reject --at established", "injected")
        if _foreign(story, rst):
            causes = ("injected", "firewall-reset")
    else:
        causes = ("injected --to both",) if both else ("injected" if rst.side == 1 else "injected --to server", "firewall-reset")
    return Finding(
        "reset by something in between",
        "failed",
        causes,
        "one of these" if len(causes) > 1 else "most likely",
        why,
        by="middlebox",
        against="a firewall answers a segment with the number that was acknowledged; an injected RST needs no segment",
        tell=CAPTURE + "; what one end sent and the other did not get was made in between",
    )


def _foreign(story: Story, rst: Packet) -> bool:
    """Has it an IP ID though it looks like a kernel's answer, which has 0, or another TTL?"""
    own = story.sides[rst.side].ttls
    return bool(rst.ip_id) or bool(own and rst.ttl not in own)


def _is_round(seconds: float) -> bool:
    return any(abs(seconds - usual) <= max(0.02 * usual, 0.6) for usual in _ROUND)


# A socket's abort


def _aborted(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    form = story.form(rst)
    if form not in ("abort", "bare abort"):
        return None
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    by = told[rst.number].by
    end = _end(by, rst)
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
            f"The {name} probed with keepalives (packets {_listed(probes)}), nothing answered, and the RST in packet {rst.number} ends it"
            f"{'' if gap is None else f' {gap:.1f} s after the last'}",
            by=by,
            against="a firewall that drops idle connections looks the same from this side; then the other end still has the connection",
            tell=f"capture at the {other}: do the probes arrive there?",
        )
    if len(again) >= 2:
        closed = any(p.window == 0 for p in before if p.side != side and not p.flags & RST)
        causes = ("zero-window", "retransmit-timeout") if closed else ("retransmit-timeout",)
        return Finding(
            f"gave up: the {other} acknowledged nothing any more",
            "failed",
            causes,
            "most likely",
            f"The {name} sent the same again (packets {_listed(again)}) without an acknowledgement, and resets in packet {rst.number}: "
            "a stack that says so when it gives up (Linux says nothing)",
            by=by,
            tell=f"capture at the {other}: do the segments arrive there?",
        )
    early = _early(story, rst, by, end)
    if early and fin is None and their_fin is None:
        return early
    asked = _unanswered(story, rst)
    sent_data = story.data_before(side, rst)
    if fin is not None:
        return _abort_after_fin(story, rst, fin, by, end)
    if their_fin is not None:
        return _abort_after_their_fin(story, rst, their_fin, by, end)
    answer = sent_data[-1] if sent_data else None
    if side == 1 and answer is not None and not asked and (story.seconds(answer, rst) or 1.0) < 0.5 and story.data_before(0, rst):
        return Finding(
            end,
            "failed",
            ("unread", "linger", "early-response", "disconnect", "crash"),
            "one of these",
            f"The server answered in packet {answer.number} and reset straight after it (packet {rst.number}): it closed with something of the client's "
            "last data unread, or asked for an abort (SO_LINGER 0)",
            by=by,
            tell=CALLS.format(who=name) + "; nstat -az TcpExtTCPAbortOnClose (unread) and TcpExtTCPAbortOnData (linger)",
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
                f"The connection had worked ({_listed(sent_data[-1:])} is an answer) and was idle for {idle:.3g} s; the next request, packet "
                f"{asked[0].number}, met a server that was closing: it never read it, so its close() resets (packet {rst.number}, a socket's own)",
                by=by,
                against="a crash or an abort by chance at just that moment",
                tell="is that idle time the server's keep-alive timeout? faultkit nest compares them",
            )
    if asked and side == 0:
        kept = story.seconds(asked[-1], rst)
        first = ("linger", "unread") if form == "bare abort" else ("unread", "linger")
        return Finding(
            end,
            "failed",
            (*first, "disconnect", "crash"),
            "one of these",
            f"The client aborted (packet {rst.number}){'' if kept is None or kept < 0.5 else f' {kept:.3g} s'} after the server's packet {asked[-1].number}: its program "
            "closed without having read all of that, asked for an abort (SO_LINGER 0), or was killed",
            by=by,
            tell=CALLS.format(who=name),
        )
    if asked:
        causes = ("unread", "crash", "linger", "listener-closed", "disconnect", "keepalive-race")
        sends_on = [p for p in story.after(rst) if p.side != side and (p.size or p.flags & SYN) and not story.repeats(p)]
        if sends_on:
            causes = (*causes, "half-open --vanish-by deaf")
        return Finding(
            end,
            "failed",
            causes,
            "one of these",
            f"The {name}'s socket aborted (packet {rst.number}) with {sum(p.size or 0 for p in asked)} bytes of the {other} received "
            f"(packet {_listed(asked)}) and not answered: its program closed without reading them, was killed, or asked for an abort",
            by=by,
            tell=CALLS.format(who=name) + "; nstat -az TcpExtTCPAbortOnClose (unread, crash) and TcpExtTCPAbortOnData (linger)",
        )
    return _abort_of_its_own(story, rst, by, end)


def _listed(packets: list[Packet]) -> str:
    numbers = [str(p.number) for p in packets]
    return ", ".join(numbers if len(numbers) < 5 else [*numbers[:3], "…", numbers[-1]])


def _early(story: Story, rst: Packet, by: Sender, end: str) -> Finding | None:
    """An answer to an upload that was not read to its end: sent straight before the abort, or while the upload went on."""
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    own = story.data_before(side, rst)
    theirs = [p for p in story.data_before(1 - side, rst) if not story.repeats(p)]
    if side != 1 or not own or not theirs:
        return None
    answer = own[-1]
    soon = story.seconds(answer, rst)
    if soon is None or soon > 0.5:
        return None
    begun = next((p for p in reversed(own[:-1]) if p.number < answer.number and theirs and p.number < theirs[-1].number), None)
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
        f"The {name} answered in packet {answer.number} an upload of which {size} bytes had come (from packet {upload[0].number} on)"
        f"{', while more was under way' if during else ''}, and closed at once without reading all of it: RST in packet {rst.number}, "
        f"which may overtake the answer in the {other}",
        by=by,
        against="a crash would not have answered first",
        tell=CALLS.format(who=name),
    )


def _unanswered(story: Story, rst: Packet) -> list[Packet]:
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
    asked = _unanswered(story, fin)
    if asked and not data:
        return Finding(
            "reset after its own close",
            "failed",
            ("unread", "fin-wait-timeout --end aborted", "fin-wait-timeout --end lowered", "disconnect --state last-ack", "linger"),
            "one of these",
            f"The {name} has answered nothing to packet {_listed(asked)}, sent its FIN (packet {fin.number}) and aborted"
            f"{'' if waited is None else f' {waited:.3g} s later'} (packet {rst.number}): shutdown(), and then close() with that data unread, or an "
            "orphan in FIN-WAIT-2 whose time was over",
            by=by,
            tell=CALLS.format(who=name) + "; nstat -az TcpExtTCPAbortOnClose (unread) and TcpExtTCPAbortOnLinger (its time was over)",
        )
    if data:
        harmless = payload.farewell(data)
        return Finding(
            "reset after its own close: harmless" if harmless else end,
            "harmless" if harmless else "failed",
            ("unread", "late-write"),
            "most likely",
            f"The {name} had sent its FIN (packet {fin.number}), the {other} sent on (packet {_listed(data)}"
            f"{', ' + harmless if harmless else ''}), and nobody was to read that: RST in packet {rst.number}",
            by=by,
        )
    return Finding(
        "reset after its own close",
        "suspicious",
        ("fin-wait-timeout --end aborted", "fin-wait-timeout --end lowered", "disconnect --state last-ack", "linger"),
        "one of these",
        f"The {name} had sent its FIN in packet {fin.number}, and aborts in packet {rst.number}"
        f"{'' if waited is None else f', {waited:.3g} s later'}, with nothing received in between: it did not wait for the other's FIN",
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
            f"The {other} had closed (FIN in packet {fin.number}); the {name} sent on, which is not acknowledged, and aborts in packet {rst.number}",
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
            f"The {other} had sent its answer and its FIN (packet {fin.number}); the {name} closed without reading all of it "
            f"(the last {lost} bytes, packet {_listed(data[-1:])}), or aborted: RST in packet {rst.number}. Nobody waits for anything any more",
            by=by,
            tell=CALLS.format(who=name),
        )
    return Finding(
        "reset after the other's close: harmless",
        "harmless",
        ("linger", "unread"),
        "one of these",
        f"The {other} had closed (FIN in packet {fin.number}), and the {name} ends with an abort instead of a FIN (packet {rst.number}): nothing is lost by it",
        by=by,
        tell=CALLS.format(who=name),
    )


def _abort_of_its_own(story: Story, rst: Packet, by: Sender, end: str) -> Finding:
    name = SIDES[rst.side]
    idle = story.idle_before(rst)
    done = story.data_before(rst.side, rst) or story.data_before(1 - rst.side, rst)
    if idle is not None and rst.side == 1 and _is_round(idle):
        return Finding(
            end,
            "failed",
            ("load-balancer-idle", "linger"),
            "most likely",
            f"After {idle:.1f} s without a packet the server's side sends RST,ACK (packet {rst.number}): a round idle time, as balancers have",
            by=by,
            against="a server that aborts idle connections itself",
            tell="the idle timeout of what stands before the server; is its TTL the server's?",
        )
    causes = ("linger", "disconnect", "listener-closed", "crash") if done else ("linger", "listener-closed", "disconnect")
    pause = "" if idle is None or idle < 0.5 else f" after {idle:.3g} s without a packet"
    return Finding(
        end,
        "failed" if rst.side == 1 else "harmless",
        causes,
        "most likely",
        f"The {name}'s socket aborts in packet {rst.number}{pause}, with nothing that it had still to answer: an abortive close (SO_LINGER 0), "
        "as programs do that drop a connection",
        by=by,
        against="an abort by disconnecting or with its listener looks the same",
        tell=CALLS.format(who=name),
    )


# The stack's answer


def _answered(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    rst = story.resets[0]
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    by = told[rst.number].by
    end = _end(by, rst)
    trigger = story.trigger(rst)
    fin = story.fin_before(side, rst)
    if fin is not None:
        gave_up = trigger is not None and _gave_up(story, rst, trigger, by)
        return gave_up or _answer_after_fin(story, rst, fin, trigger, by, end)
    if trigger is None:
        return None
    spoke = [p for p in story.before(rst) if p.side == side and not p.flags & (RST | SYN)]
    opened = story.answer if side == 1 else story.syn
    if not spoke and opened is not None:
        return _never_accepted(story, rst, trigger, by, end)
    return _forgotten(story, rst, trigger, by, end)


def _answer_after_fin(
    story: Story, rst: Packet, fin: Packet, trigger: Packet | None, by: Sender, end: str
) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    # What met the closed socket: the last of the other's data before the RST that came after the FIN left.
    late = [p for p in story.before(rst) if p.side != side and p.size and p.number > fin.number]
    crossing = [p for p in story.before(rst) if p.side != side and p.size and _under_way(story, p, fin)]
    met = trigger if trigger is not None and (trigger.size or trigger.flags & FIN) else (late or crossing or [None])[-1]
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
                f"The {name}'s FIN (packet {fin.number}) was acknowledged in packet {trigger.number}, and that alone was answered with a RST "
                f"(packet {rst.number}): its socket does not wait for the other's FIN (TCP_LINGER2 below 0)",
                by=by,
            )
        met = met or trigger
    both = story.fin_before(1 - side, rst)
    if both and both is not met and met is not None and (not met.size or both.number < met.number):
        return _after_both(story, rst, met, by)
    data = [p for p in story.before(rst) if p.side != side and p.size and (p.number > fin.number or _under_way(story, p, fin))]
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
    if bye or not data:
        return Finding(
            "reset after its own close: harmless",
            "harmless",
            ("late-write",),
            "shown by the packets",
            f"The {name} had closed (FIN in packet {fin.number}); packet {met_number} of the {other} ({bye or 'an acknowledgement'}) "
            f"came after that, and a closed socket answers with RST (packet {rst.number})",
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
                f"The server's FIN left in packet {fin.number}, and the request of packet {data[0].number} was already under way: it does not "
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
            f"The {name} closed (FIN in packet {fin.number}) while data of the {other} was under way (packet {_listed(data)}): "
            f"RST in packet {rst.number}. What the {other} sent was not read",
            by=by,
        )
    if waited is not None and waited > 59:
        return Finding(
            end,
            "failed",
            ("fin-wait-timeout", "late-write"),
            "most likely",
            f"The {name} closed in packet {fin.number}; {waited:.0f} s later the {other} sent packet {met_number}, and by then the kernel had dropped "
            f"what was left of the connection (tcp_fin_timeout): RST in packet {rst.number}",
            by=by,
        )
    if earlier and side == 1 and payload.request(data[0]):
        return Finding(
            end,
            "failed",
            ("keepalive-race --fin unprocessed", "late-write"),
            "most likely",
            f"The server had closed (FIN in packet {fin.number}), the client's kernel knew it (packet {met_number} acknowledges the FIN), and its "
            f"program sent another request all the same: RST in packet {rst.number}",
            by=by,
            tell="is the idle time before the FIN the server's keep-alive timeout? faultkit nest compares them",
        )
    return Finding(
        end,
        "suspicious",
        ("late-write", "fin-wait-timeout", "crash --request read", "keepalive-race --fin unprocessed"),
        "most likely",
        f"The {name} had closed (FIN in packet {fin.number}), and the {other} wrote again (packet {_listed(data)}): a closed socket answers "
        f"with RST (packet {rst.number})",
        by=by,
        against="a server that was killed, or a kernel that has dropped the connection, answers in the same way",
        tell=CALLS.format(who=name),
    )


def _after_both(story: Story, rst: Packet, met: Packet, by: Sender) -> Finding:
    name, other = SIDES[rst.side], SIDES[1 - rst.side]
    stale = story.repeats(met) and met.size
    if stale:
        return Finding(
            "reset after both had closed: harmless",
            "harmless",
            ("time-wait --arrives stale-data",),
            "most likely",
            f"Both had closed; packet {met.number} brought old data of the {other} once more, and what was left of the connection (TIME-WAIT) was "
            f"reset by it: RST in packet {rst.number} (RFC 1337)",
            by=by,
        )
    return Finding(
        "reset after both had closed: harmless",
        "harmless",
        ("late-write",),
        "shown by the packets",
        f"Both had closed; packet {met.number} of the {other} met what was left of the {name}'s socket, which answers with RST (packet {rst.number})",
        by=by,
    )


def _under_way(story: Story, packet: Packet, fin: Packet) -> bool:
    """Did it cross the FIN, though it was captured before it? Then the FIN does not acknowledge it."""
    return packet.number < fin.number and packet.side != fin.side and None not in (fin.ack, packet.end) and fin.ack < packet.end  # type: ignore[operator]


def _never_accepted(story: Story, rst: Packet, trigger: Packet, by: Sender, end: str) -> Finding:
    side, name, other = rst.side, SIDES[rst.side], SIDES[1 - rst.side]
    repeated = [p for p in story.before(rst) if p.side == side and p.flags & SYN]
    again = [p for p in story.before(rst) if p.side != side and story.repeats(p)]
    if len(repeated) > 1 or again:
        causes: tuple[str, ...] = ("backlog-full --ended-by expiry", "backlog-full --ended-by abort")
        sure = "most likely"
        why = (
            f"The {name} never completed the connection on its side (its SYN,ACK came again, packet {_listed(repeated[1:]) or '-'}; the "
            f"{other} sent packet {trigger.number} again and again), and refuses it in packet {rst.number}: its accept queue was full"
        )
    else:
        causes = ("backlog-full --ended-by abort", "listener-closed --deferred", "half-open", "reject --at established", "injected")
        sure = "one of these"
        why = (
            f"The {name} has sent nothing but its SYN,ACK, and answers packet {trigger.number} with RST (packet {rst.number}): it has no "
            "connection for it. Its accept queue was full, its listener was closed meanwhile, or a firewall lets no data pass"
        )
    return Finding(
        end,
        "failed",
        causes,
        sure,  # type: ignore[arg-type]
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
            f"The {other}'s window was 0 (packet {last.number}), the {name} waited and gave up without a word; packet {trigger.number} of the "
            f"{other} then met no connection: RST in packet {rst.number}",
            by=by,
            tell=f"ss -tm at the {other}: Recv-Q; TCP_USER_TIMEOUT at the {name}",
        )
    if not again:
        return None
    seconds = story.seconds(again[0], again[-1])
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
        "most likely",
        f"The {name} sent the same data {len(again) + 1} times (packets {_listed(again)}{'' if seconds is None else f', over {seconds:.1f} s'}) "
        f"without an acknowledgement and gave up without a word, as Linux does (ETIMEDOUT); what the {other} sent later, packet {trigger.number}, "
        f"met no connection: RST in packet {rst.number}",
        by=by,
        against="a firewall that drops it on the way looks the same from here; one that says so sends ICMP, which was not captured",
        tell=f"capture at the {other}: does what the {name} sent arrive there? And capture ICMP with it",
    )


def _forgotten(story: Story, rst: Packet, trigger: Packet, by: Sender, end: str) -> Finding:
    gave_up = _gave_up(story, rst, trigger, by)
    if gave_up:
        return gave_up
    side, name = rst.side, SIDES[rst.side]
    idle = story.idle_before(trigger)
    if story.is_probe(trigger):
        what = "the keepalive probe of"
    else:
        what = "the data of" if trigger.size else "the segment of"
    pause = "" if idle is None or idle < 0.5 else f", after {idle:.3g} s without a packet,"
    known = trigger.flags & ACK and not story.midway
    causes: tuple[str, ...] = ("half-open", "firewall-reset", "nat-expiry", "load-balancer-idle --expires forget", "injected")
    spoke = [p for p in story.before(rst) if p.side == side and p.size]
    if side == 1 and not spoke and trigger.ack == 1:
        causes = (*causes, "backlog-full --ended-by abort", "listener-closed --deferred")
    if idle is not None and _is_round(idle) and not story.is_probe(trigger):
        causes = ("load-balancer-idle --expires forget", "firewall-reset", "nat-expiry", "half-open")
    return Finding(
        end,
        "failed",
        causes,
        "one of these",
        f"The {name} answers {what} packet {trigger.number}{pause} with a bare RST (packet {rst.number}) and had sent no FIN: whoever "
        "answers knows nothing of this connection. Its host was restarted or has dropped it, or something in between has forgotten it "
        f"and answers in its name{'' if known else '; the beginning of the connection was not captured'}",
        by=by,
        tell=f"capture at the {name}: does packet {trigger.number} arrive there, and does its kernel send the RST (nstat -az TcpOutRsts)?",
    )
