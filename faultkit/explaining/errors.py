"""ICMP errors about a connection that was made: who says why its segments are answered by nobody."""

from __future__ import annotations

from dataclasses import replace

from faultkit.explaining.diagnosis import Finding
from faultkit.explaining.story import SIDES, Story

_SILENT = ("retransmit-timeout", "keepalive-timeout", "idle-firewall", "connect-timeout")


def refusing(kind: str, story: Story, number: int) -> tuple[str, str]:
    """Who answers an established connection with that error in packet `number`, the likelier first."""
    causes = f"reject --answer {kind} --at established", f"firewall-reset --answer {kind}"
    worked = all(any(p.size and p.side == side and p.number < number for p in story.packets) for side in (0, 1))
    return causes[::-1] if worked else causes  # what had worked was forgotten since


def told(found: Finding, story: Story) -> Finding:
    """What was found of a connection whose segments nobody answers, in the light of the ICMP errors about them."""
    if not found.causes or found.causes[0].split()[0] not in _SILENT or found.harm not in ("failed", "suspicious"):
        return found
    errors = [c for c in story.connection.complaints if c.kind != "time-exceeded"]
    if not errors or not story.established:
        return found
    first = errors[0]
    same = [c for c in errors if c.kind == first.kind]
    numbers = ", ".join(str(c.number) for c in same[:4]) + (", …" if len(same) > 4 else "")
    ends = (story.connection.client.host, story.connection.server.host)
    here = first.by in ends
    said = f"{first.by} answers segments of the {SIDES[first.side]} with the ICMP error {first.kind} (packet {numbers})"
    if first.kind == "fragmentation-needed":
        return replace(
            found,
            why=f"{found.why}. {said}: they are larger than the path carries, and the same are sent again all the same, or that "
            "error does not reach their sender (path MTU discovery, RFC 1191)",
            plain="a path MTU that is not obeyed",
            tell=f"ip route get at the {SIDES[first.side]}: the MTU of that path; is ICMP filtered on the way?",
        )
    kind = first.kind if first.kind != "unreachable" else "host-unreachable"
    causes = refusing(kind, story, first.number)
    return replace(
        found,
        causes=(*causes, *(cause for cause in found.causes if cause not in causes)),
        sure="one of these",
        by=SIDES[ends.index(first.by)] if here else "middlebox",
        why=f"{said}. {found.why}",
        against="",
        tell=f"iptables -L -v -n, nft list ruleset or the routing table at {first.by}",
    )
