"""Resets that something in between has made: by its own mark, or because the end whose address they carry has not."""

from __future__ import annotations

from faultkit.explaining.diagnosis import Finding, ResetTold
from faultkit.explaining.flows import RST, Packet
from faultkit.explaining.senders import mark, text, window
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CAPTURE, is_round, listed, sentence


def signed(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    """RSTs that a product has signed."""

    rst = story.resets[0]
    made = mark(story, rst)
    if made is None or story.form(rst) == "refusal":
        return None
    pauses = [story.idle_before(rst)]
    trigger = story.trigger(rst)
    if trigger is not None and story.before(rst)[-1] is trigger:
        pauses.append(story.idle_before(trigger))  # what it answers came after the pause
    idle = max((pause for pause in pauses if pause is not None), default=None)
    said = text(rst)
    if said:
        relayed = "remote system" in said
        return Finding(
            "reset, relayed by a box in between" if relayed else "reset by a box in between",
            "failed",
            ()
            if relayed
            else ("load-balancer-idle",)
            if idle is not None and idle > 1
            else ("reject --at established",),
            "shown by the packets",
            f"{made.product} made the RST in packet {rst.number} and says why in its data: {said!r} ({made.source})",
            by="middlebox",
            plain="a relayed reset" if relayed else f"{made.product} says: {said}",
        )
    own = {window(story, p) for p in story.sides[rst.side].packets if not p.flags & RST}
    code = window(story, rst)
    if code in own or not own:
        return None
    if idle is None or idle < 1:
        return Finding(
            "reset by something in between",
            "failed",
            (),
            "most likely",
            f"The RST in packet {rst.number} has the window {code}, with which {made.product} says why it resets "
            f"({made.source})",
            by="middlebox",
            plain=f"{made.product}, code {code}",
            tell=f"what the documentation of {made.product} says of that code",
        )
    ttl = next(iter(story.sides[rst.side].ttls.most_common(1)), (None, 0))[0]
    other = "" if ttl in (None, rst.ttl) else f", and its TTL {rst.ttl} is not the {ttl} of the {SIDES[rst.side]}"
    return Finding(
        "reset by something in between",
        "failed",
        ("load-balancer-idle", "firewall-reset"),
        "most likely",
        f"After {idle:.1f} s without a packet the RST in packet {rst.number} comes with window {code}, the "
        f"mark of {made.product}{other}: "
        f"its idle timeout ({made.source})",
        by="middlebox",
        tell=f"the idle timeout set in the {made.product}",
    )


def explain(story: Story, told: dict[int, ResetTold]) -> Finding | None:
    made = [p for p in story.resets if told[p.number].by == "middlebox"]
    rst = story.resets[0]
    if rst not in made:
        return None
    sent = told[rst.number]
    fins = [fin for side in (0, 1) if (fin := story.fin_before(side, rst))]
    if len(fins) == 2 and all(_is_acknowledged(story, rst, fin) for fin in fins):
        return Finding(
            "reset after both had closed: harmless",
            "harmless",
            (),
            "most likely",
            f"Both had closed (FINs in packets {listed(sorted(fins))}) and acknowledged that. {sentence(sent.why)}: it ends "
            "nothing any more",
            by="middlebox",
            plain="a RST after the close, made in between",
        )
    both = {p.side for p in made} == {0, 1}
    trigger = story.trigger(rst)

    product = mark(story, rst)
    said = text(rst)
    idle = story.idle_before(trigger or rst)
    at_victim = "" if both else f" It reached the {SIDES[1 - rst.side]} alone."
    why = f"{sentence(sent.why)}.{at_victim}"
    prompted = trigger is not None and (story.seconds(trigger, rst) or 0.0) < 0.02 and story.before(rst)[-1] is trigger
    if product and idle is not None and is_round(idle):
        causes: tuple[str, ...] = ("load-balancer-idle", "firewall-reset")
    elif said:
        causes = ("reject --at established", "load-balancer-idle")
        why += f" It says: {said!r}."
    elif prompted:
        worked = any(p.size and p.side == rst.side for p in story.before(rst))
        causes = ("firewall-reset", "reject --at established", "injected")
        if not worked and trigger is not None and trigger.side == 0:
            causes = ("reject --at established", "firewall-reset", "injected")
        if _foreign(story, rst):
            causes = ("injected", "firewall-reset")
    else:
        causes = (
            ("injected --to both",)
            if both
            else ("injected" if rst.side == 1 else "injected --to server", "firewall-reset")
        )
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


def _is_acknowledged(story: Story, rst: Packet, fin: Packet) -> bool:
    return any(
        p.side != fin.side and p.ack is not None and fin.end is not None and p.ack >= fin.end for p in story.before(rst)
    )


def _foreign(story: Story, rst: Packet) -> bool:
    """Has it an IP ID though it looks like a kernel's answer, which has 0, or another TTL?"""
    own = story.sides[rst.side].ttls
    return bool(rst.ip_id) or bool(own and rst.ttl not in own)
