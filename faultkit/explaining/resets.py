"""Connections that ended with a RST: which end of the catalogue it is. From packets alone, one file for each situation.

The order of the situations is that of what is known more surely: what is no reset at all, what a product has signed, the
handshake, what something in between has done, a socket's abort, the stack's answer.
"""

from __future__ import annotations

from dataclasses import replace

from faultkit.explaining import aborted, answered, between, filtered, handshake, senders, strange, unreset
from faultkit.explaining.diagnosis import Finding, ResetTold
from faultkit.explaining.flows import ACK
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import CAPTURE, ended, listed

_SITUATIONS = (
    unreset.explain,
    between.signed,
    strange.refused,
    filtered.explain,
    handshake.explain,
    between.explain,
    aborted.explain,
    answered.explain,
)


def explain(story: Story, told: list[ResetTold]) -> Finding:
    """Why the connection was reset."""
    by_number = {reset.number: reset for reset in told}
    for situation in _SITUATIONS:
        found = situation(story, by_number)
        if found:
            return _and_later(_doubted(found, story, by_number[story.resets[0].number]), story, by_number)
    rst = story.resets[0]
    return Finding(
        ended(by_number[rst.number].by, rst),
        "suspicious",
        (),
        "cannot be told",
        f"Packet {rst.number} is a RST, and what was captured before it does not say why",
        by=by_number[rst.number].by,
        plain="unknown",
        tell=CAPTURE,
    )


def _doubted(found: Finding, story: Story, first: ResetTold) -> Finding:
    """A RST that something only hints to be made in between: then that is a cause, too."""
    told = first.by or found.by == "middlebox" or found.harm not in ("failed", "suspicious")
    if told or senders.HINTED not in first.why or not found.causes:
        return found
    named = any(cause.split()[0] in ("injected", "firewall-reset", "reject") for cause in found.causes)
    causes = found.causes if named else (*found.causes, "injected")
    bare = not story.resets[0].flags & ACK
    if bare and "its TTL is" in first.why and found.sure == "one of these" and "load-balancer-idle" not in found.causes:
        made = [cause for cause in causes if cause.split()[0] in ("injected", "firewall-reset")]
        causes = (*made, *(cause for cause in causes if cause not in made))
    return replace(found, causes=causes, sure="one of these" if found.sure != "cannot be told" else found.sure)


def _and_later(found: Finding, story: Story, told: dict[int, ResetTold]) -> Finding:
    """What a later RST of the same connection tells beside the first."""
    if found.harm == "no reset":
        return found
    first = story.resets[0]
    made = [p for p in story.resets[1:] if told[p.number].by == "middlebox"]
    if made and told[first.number].by in SIDES:
        return replace(
            found,
            causes=(*found.causes, *(cause for cause in ("firewall-reset",) if cause not in found.causes)),
            why=f"{found.why}. Beside that, {listed(made)} {'is' if len(made) == 1 else 'are'} not the "
            f"{SIDES[made[0].side]}'s: {told[made[0].number].why}",
        )
    last = story.resets[-1]
    heard = any(p.side == last.side for p in story.after(last))
    deaf = [p for p in story.after(last) if p.side != last.side and story.repeats(p) and p.size and not heard]
    waited = story.seconds(last, deaf[-1]) if deaf else None
    if deaf and waited is not None and waited > 1:
        other = SIDES[deaf[-1].side]
        return replace(
            found,
            end=f"the {SIDES[last.side]} acknowledges nothing any more",
            harm="failed",
            causes=("retransmit-timeout", *found.causes),
            sure="most likely",
            why=f"{found.why}. The {other} did not obey that RST, or did not get it, and sends the same again "
            f"until packet {deaf[-1].number}, {waited:.0f} s later, "
            "without any answer: its own retransmission timeout ends it, unless the capture merely stops",
        )
    for rst in story.resets[1:]:
        trigger = story.trigger(rst)
        pause = story.idle_before(trigger) if trigger else None
        if (
            trigger is not None
            and trigger.size
            and pause is not None
            and pause > 1
            and trigger.side != rst.side
            and not rst.flags & ACK
        ):
            unheard = "it had reset it itself" if trigger.side == first.side else "it had not heard of the end"
            return replace(
                found,
                causes=(*found.causes, *(cause for cause in ("half-open",) if cause not in found.causes)),
                why=f"{found.why}. {pause:.1f} s later the {SIDES[trigger.side]} sends data all the same (packet "
                f"{trigger.number}) and is refused "
                f"with the RST in packet {rst.number}: {unheard}",
            )
    return found
