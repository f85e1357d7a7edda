"""RSTs that end nothing: made up, rebuilt, not obeyed; and RSTs of whose connection nothing else was captured."""

from __future__ import annotations

from faultkit.explaining import multipath
from faultkit.explaining.diagnosis import Finding, ResetTold
from faultkit.explaining.flows import ACK, FIN, PSH, RST, SYN, URG, Packet
from faultkit.explaining.senders import both_at_once, mark, text
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CAPTURE, sentence

_UNDER_WAY = 1.0  # seconds: no way is so long; arbitrary


def explain(story: Story, told: dict[int, ResetTold]) -> Finding | None:

    resets = story.resets
    strange = next((p for p in resets if p.flags & (SYN | FIN)), None)
    if strange:
        goes_on = any(not p.flags & RST for p in story.after(strange))
        why = f"packet {strange.number} has {strange.shown} set together, which no TCP has a reason to send"
        everything = SYN | FIN | RST | PSH | ACK | URG
        if strange.flags & everything == everything:
            return _not_one("a made-up packet", why)
        # A RST is one whatever stands beside it (RFC 9293 section 3.10.7.4), and some stacks send it with their FIN.
        if all(p.flags & (SYN | FIN) for p in resets) and (goes_on or strange.flags & (SYN | URG)):
            return _not_one("a made-up packet", why + (", and the connection goes on" if goes_on else ""))
    signed = next((p for p in resets if p.has("MD5")), None)
    if signed and any(not p.flags & RST for p in story.after(signed)):
        return _not_one(
            "a RST to be ignored", f"packet {signed.number} carries a TCP-MD5 signature, and the connection goes on"
        )
    numbers = {p.ip_id for p in story.packets}
    if len(story.packets) >= 6 and len(numbers) == 1 and numbers.isdisjoint({None, 0}):
        return _not_one(
            "packets made by a generator",
            f"every packet of both sides has the IP ID {numbers.pop()}: no two hosts have sent these",
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
    return Finding("no reset", "no reset", (), "shown by the packets", sentence(why), plain=plain)


def _alone(story: Story, told: dict[int, ResetTold]) -> Finding:
    rst = story.resets[0]
    name = SIDES[rst.side]
    form = story.form(rst)

    said = text(rst)
    made = mark(story, rst)
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
        found = multipath.explain(story, rst)
        if found:
            return found
    if form != "abort" and rst.flags & ACK and rst.raw_seq == 0 and not rst.window:
        return Finding(
            "refused",
            "failed",
            ("closed-port", "reject"),
            "most likely",
            f"Packet {rst.number} is RST,ACK with the number 0: so a SYN is refused (RFC 9293 section 3.10.7.1), "
            "which was not captured itself",
            tell="capture the SYN too; ss -ltn at the server",
        )
    if rst.window and not rst.flags & ACK:
        return Finding(
            "reset, and nothing else seen",
            "suspicious",
            ("load-balancer-idle", "firewall-reset", "injected"),
            "cannot be told",
            f"Of this connection there is nothing but {told[rst.number].why}",
            tell="capture the whole connection: how long was it idle before, and does the end itself send that RST?",
        )
    how = {
        "abort": f"a socket of {story.connection.client if rst.side == 0 else story.connection.server} has "
        "aborted: it has a window",
        "answer": "the stack has answered a segment for which it had no connection, or something in between has "
        "made it",
    }.get(form, "it has an ACK flag and window 0: the refusal of a SYN, an abort of Windows, or a box in between")
    return Finding(
        "reset, and nothing else seen",
        "suspicious",
        (),
        "cannot be told",
        f"Of this connection there is nothing but packet {rst.number}, a RST: {how}. Why cannot be told from it alone",
        by=name if form == "abort" else "",
        plain="unknown: one packet",
        tell="capture the whole connection, its beginning included: tcpdump -n -s 128 -w all.pcap host A and port P",
    )


def _heard_of(story: Story, rst: Packet, last: Packet) -> Finding | None:
    """The one who should have obeyed was not captured, but what the other acknowledges afterwards was sent by it."""
    known = max((p.ack for p in story.before(rst) if p.ack is not None), default=None)
    heard = next((p for p in story.after(last) if p.ack is not None and known is not None and p.ack > known), None)
    passed = story.seconds(last, heard) if heard is not None else None
    if heard is None or passed is None or passed < _UNDER_WAY:
        return None  # what it acknowledges may have been under way when the RST came
    return Finding(
        "reset ignored, the connection goes on",
        "no reset",
        ("injected --number out-of-window", "injected --number in-window", "bad-segment"),
        "one of these",
        f"Packet {rst.number} is a RST, and packet {heard.number} acknowledges what the {SIDES[1 - rst.side]} has sent after it: "
        "it was not obeyed (RFC 5961 section 3.2)",
        by="middlebox",
        plain="a RST to be ignored",
    )


def _survived(story: Story, resets: list[Packet]) -> Finding | None:
    """A RST after which both ends go on was not taken for one: its number was wrong (RFC 9293 section 3.5.3, RFC
    5961)."""
    last = resets[-1]
    after = [p for p in story.after(last) if not p.flags & RST]
    fresh = [p for p in after if p.size and not story.repeats(p)]
    sides = {p.side for p in after if p.flags & ACK}
    acked = [p for p in after if p.side == 1 - last.side]
    if story.deaf == 1 - last.side:
        return _heard_of(story, resets[0], last)
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
    number = (
        ""
        if off is None
        else f"its number is {off:+d} from the one expected, "
        if off
        else "its number is the one expected, "
    )
    challenged = next(
        (p for p in story.after(rst) if p.side == victim and not p.size and p.flags & (SYN | FIN | RST | ACK) == ACK),
        None,
    )
    if challenged and challenged.ack != expected:
        challenged = None  # a challenge acknowledges what was acknowledged before; this one tells of new data
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
            f"Packet {rst.number} is a RST that echoes the timestamp {echoed[1]}, which the {SIDES[victim]} never "
            "sent (RFC 7323 section 5.2), and both ends "
            f"go on after it (packets {speaks[0].number} and {heard[0].number})",
            by="middlebox",
            plain="a RST to be ignored",
        )
    causes: tuple[str, ...]
    if off is not None and 0 < off < 1 << 20:
        causes = ("injected --number in-window", "injected --number out-of-window", "bad-segment")
    else:
        causes = (
            ("bad-segment", "injected --number out-of-window")
            if story.answer in story.after(rst)
            else (
                "injected --number out-of-window",
                "bad-segment",
            )
        )
    answer = f", and packet {challenged.number} challenges it" if challenged and off and off > 0 else ""
    return Finding(
        "reset ignored, the connection goes on",
        "no reset",
        causes,
        "most likely",
        f"Packet {rst.number} is a RST, {number}and both ends go on after it (packets {speaks[0].number} and "
        f"{heard[0].number})"
        f"{answer}: a RST whose number is not exactly the next is not obeyed (RFC 5961 section 3.2)",
        by="middlebox",
        plain="a RST to be ignored",
    )
