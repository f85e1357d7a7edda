"""What is said of a proxy that runs in the foreground: its opening, and a line for each connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from faultkit.serving import faults

if TYPE_CHECKING:
    from faultkit.proxying.pair import Pair
    from faultkit.proxying.proxy import Proxy


def opening(proxy: Proxy, *, as_json: bool) -> list[str]:
    """Where it listens, and for whom."""
    if as_json:
        about = {"host": proxy.host, "port": proxy.port, "upstream": proxy.upstream, "seed": proxy.seed}
        return [json.dumps({"event": "listening", **about})]
    return [f"listening on {proxy.listen} for {proxy.upstream}, seed {proxy.seed} (Ctrl-C ends it)"]


def line(pair: Pair) -> str:
    """One connection for a person: number, peer, fault, bytes from and to the client, how it ended and when, in ms."""
    ended = f"{pair.ended} after {(pair.seconds or 0) * 1000:.1f} ms"
    fault = pair.fault if pair.fired or pair.fault == faults.OK else f"{pair.fault} not met"
    return f"{pair.number:>3}  {pair.peer!s:<15}  {fault:<14} {pair.received:>5} in {pair.sent:>5} out  {ended}"


def document(pair: Pair) -> str:
    """The same for machines."""
    return json.dumps({"event": "connection", **pair.document()})
