"""Plays one cell of the table: one client, one fault, one method, on real sockets."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import faultkit
from faultkit import Server
from tests.real.clients import Ask, Client, Setting
from tests.real.errors import Raised, raised
from tests.real.faults import Lengths, Met, first_state

PATIENCE = 10.0  # seconds, where no timeout is to end anything


@dataclass(frozen=True)
class Seen:
    """What a client did."""

    raised: Raised | None  # None: it gave the answer
    again: int  # how often it tried once more by itself
    read: int  # how often the server read the whole request, and may have carried it out
    looked: bool  # it saw that its connection was closed and took another, before it sent anything
    afterwards: Raised | None  # what the next request raised, with everything well again; None: it gave the answer


dialled: Counter[tuple[str, int]] = Counter()  # how often this process has called connect(), by address


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    # A refused connect() reaches no server, and a dropped SYN neither, so they are counted here, where Python makes them.
    if event == "socket.connect":
        dialled[arguments[1]] += 1


sys.addaudithook(_hear)  # for good: an audit hook cannot be taken away


@functools.cache
def lengths(client: Client, method: str) -> Lengths:
    with faultkit.serve(answer=client.answer, tls=client.tls) as server, client.open(_setting(client, server)) as ask:
        good(ask(method, "/the/request/1"), "/the/request/1")
        first = server.connections[0].received
        good(ask(method, "/the/request/2"), "/the/request/2")
        return Lengths(first, server.connections[0].received)


def play(client: Client, met: Met, method: str) -> Seen:
    """One request that meets the fault, and one afterwards. Raises what a client gives that is no answer."""
    served = faultkit.serve(met.fault, answer=client.answer, tls=client.tls, **met.when(lengths(client, method)))
    with served as server, client.open(_setting(client, server, met)) as ask:
        dialled[server.address] = 0  # the port may have been another server's
        if met.after_good:
            good(ask(method, "/the/request/1"), "/the/request/1")
        if met.between:
            met.between(server)
        what = asked(ask, method, "/the/request/2")
        again = dialled[server.address] - 1
        looked = met.after_good and again > 0 and first_state(server) in ("FIN-WAIT-2", "TIME-WAIT")
        read = sum(connection.requests for connection in server.connections) - met.after_good
        server.heal()
        return Seen(what, 0 if looked else again, read, looked, asked(ask, method, "/the/request/3"))


def _setting(client: Client, server: Server, met: Met | None = None) -> Setting:
    return Setting(
        server.url.rstrip("/"),
        client.timeout_seconds if met and met.impatient else PATIENCE,
        server.ca_file if client.tls else None,
        met.user_timeout_ms if met else None,
    )


def asked(ask: Ask, method: str, path: str) -> Raised | None:
    """What asking for it raises, None where it gives the answer."""
    try:
        answer = ask(method, path)
    except Exception as error:
        return raised(error)
    good(answer, path)
    return None


def good(answer: str, path: str) -> None:
    """It must be this request's answer, not another's that came late."""
    assert answer == path, f"asked for {path}, and got {answer!r}"
