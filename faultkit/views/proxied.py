"""What is said of a proxy that runs in the foreground: its opening, and a line for each connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from faultkit.serving import faults

if TYPE_CHECKING:
    from faultkit.proxying.pair import Pair
    from faultkit.proxying.proxy import Proxy

# Made for each connection: an f-string with these widths takes half as long again.
LINE = "%3d  %-15s  %-14s %5d in %5d out  %s after %.1f ms"


def opening(proxy: Proxy, *, as_json: bool) -> list[str]:
    """Where it listens, and for whom."""
    if as_json:
        about = {"host": proxy.host, "port": proxy.port, "upstream": proxy.upstream, "seed": proxy.seed}
        return [json.dumps({"event": "listening", **about})]
    return [f"listening on {proxy.listen} for {proxy.upstream}, seed {proxy.seed} (Ctrl-C ends it)"]


def line(pair: Pair) -> str:
    """One connection for a person: number, peer, fault, bytes from and to the client, how it ended and when, in ms."""
    fault, client = pair.fault, pair.client
    if fault != faults.OK and not pair.met:
        fault = f"{fault} not met"
    milliseconds = (pair.seconds or 0) * 1000
    return LINE % (pair.number, pair.peer, fault, client.received, client.sent, pair.ended, milliseconds)


def document(pair: Pair) -> str:
    """The same for machines."""
    return json.dumps({"event": "connection", **pair.document()})
