"""What the page shows: the proxies at this moment, and the last connections that were reset, with who did it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from faultkit.controlling.proxies import Kept, Proxies
from faultkit.errors import Misuse
from faultkit.proxying.pair import Pair
from faultkit.proxying.proxy import Event
from faultkit.proxying.toxics import TYPES, WHEN, Number, made
from faultkit.serving import faults

SHOWN = 100  # connections of a proxy; arbitrary
REMEMBERED = 50  # ends; arbitrary

PEERS = {"client": "the client", "upstream": "the service"}


class Ends:
    """The last connections that did not simply end with FIN."""

    def __init__(self) -> None:
        self.last: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._faults: dict[tuple[str, int | None], str] = {}  # of live connections

    def told(self, event: Event) -> None:
        """Something happened to a proxy."""
        key = event.proxy, event.connection
        if event.kind == "fault":
            self._faults[key] = event.text
        elif event.kind == "ended":
            fault = self._faults.pop(key, None)
            if who := f"faultkit: {fault}" if fault else doer(event.text):
                line = {"at": event.at, "proxy": event.proxy, "connection": event.connection, "who": who}
                self.last.appendleft(line)


def doer(ended: str) -> str | None:
    """Who reset it, by the word of how it ended; None for an end with FIN."""
    if ended.startswith("lost: "):
        word, _, peer = ended.removeprefix("lost: ").partition(" from the ")
        return f"{PEERS.get(peer, peer)}: {word}"
    if ended.startswith("upstream: "):
        return f"the service took no connection: {ended.removeprefix('upstream: ')}"
    if ended in ("cut", "reset_peer", "reset") or ended.startswith("failed"):
        return f"faultkit: {ended}"
    return None


def snapshot(proxies: Proxies, ends: Ends) -> dict[str, Any]:
    """All of it."""
    every = sorted(proxies, key=lambda kept: kept.proxy.name)
    return {"at": time.time(), "proxies": [_proxy(kept) for kept in every], "resets": list(ends.last)}


def _proxy(kept: Kept) -> dict[str, Any]:
    live = kept.proxy.live
    return {
        **kept.document(),
        "accepted": kept.proxy.accepted,
        "live": len(live),
        "passed": {direction: list(passed) for direction, passed in kept.proxy.passed.items()},
        "connections": [_connection(pair) for pair in reversed(live[-SHOWN:])],
    }


def _connection(pair: Pair) -> dict[str, Any]:
    return {
        "number": pair.number,
        "peer": str(pair.peer),
        "state": pair.state,
        "client": [pair.client.received, pair.client.sent],
        "upstream": [pair.upstream.received, pair.upstream.sent],
        "met": [one.fault for one in pair.met],
    }


def types() -> Mapping[str, Any]:
    """What can be put on a proxy: each toxic with its attributes' units, the faults, and when any of them sets in."""
    return {
        "toxics": {type: _units(attributes) for type, (_, attributes) in TYPES.items()},
        "faults": [name for name in faults.names() if _applies(name)],
        "when": _units(WHEN),
    }


def _applies(fault: str) -> bool:
    """Is it one for any protocol?"""
    try:
        made(fault)
    except Misuse:
        return False
    return True


def _units(attributes: Mapping[str, Number]) -> dict[str, str]:
    share = {True: "0 or 1", False: "0 to 1"}
    return {name: share[number.whole] if number.most == 1 else number.unit for name, number in attributes.items()}
