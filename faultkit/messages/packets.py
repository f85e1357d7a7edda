"""Rows of packets among what is pasted: they go to the reading of captures."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from faultkit.errors import Misuse

if TYPE_CHECKING:
    from faultkit.explaining.diagnosis import Diagnosis

_ROW = re.compile(r"\bFlags \[[SFRPAUEW.]{1,8}\]|\[(?:SYN|RST|FIN|PSH)(?:, ?[A-Z]{3}){0,4}\]")
NOT_TRANSLATED = (
    "the SYN goes to one address and the SYN,ACK comes from another, which the client refuses: something in between (a NAT, a "
    "balancer, conntrack) does not translate the answer back, or has forgotten the connection"
)


def diagnosed(text: str) -> list[Diagnosis]:
    """The connections of which there are rows; none where there are no rows."""
    if not _ROW.search(text):
        return []
    from faultkit.explaining.explain import Explaining

    try:
        return Explaining(io.BytesIO(text.encode())).all()
    except Misuse:  # it is no rows at all
        return []


def causes(found: Sequence[Diagnosis]) -> list[tuple[str, tuple[str, ...], str]]:
    """The cause, those that it is not told from, and why, of each connection that failed; the worst first."""
    told: dict[tuple[str, ...], str] = {}
    if _not_translated(found):
        told["nat-expiry", "bad-segment"] = NOT_TRANSLATED
    for one in found:
        names = tuple(dict.fromkeys(cause.split()[0] for cause in one.causes))
        if names and one.harm in ("failed", "suspicious", "open"):
            told.setdefault(names, one.why)
    return [(names[0], names[1:], why) for names, why in told.items()]


def _not_translated(found: Sequence[Diagnosis]) -> bool:
    """Is a SYN unanswered, and a SYN,ACK that comes to the same port from elsewhere refused?"""
    asked = {(one.connection.client, one.connection.server.port) for one in found if one.end == "never answered"}
    refused = {(one.connection.client, one.connection.server.port) for one in found if "unasked SYN,ACK" in one.end}
    return not asked.isdisjoint(refused)
