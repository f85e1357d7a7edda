"""The faults that each client meets, and when they set in: at a byte or a call, so that chance decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from faultkit import Server
from faultkit.evidence.transcript import Address
from faultkit.witness.kernel import tcp_state


@dataclass(frozen=True)
class Lengths:
    """How much a server has received of a client, in bytes."""

    first: int  # after its first request, with whatever it says before that
    both: int  # after the second one on the same connection


@dataclass(frozen=True)
class Met:
    """A fault as a client meets it."""

    name: str
    fault: str  # for `faultkit.serve`
    told: str  # what happens, for the page
    when: Callable[[Lengths], dict[str, Any]]  # the trigger, for `faultkit.serve`
    after_good: bool = False  # on a connection that has had a good answer
    between: Callable[[Server], object] | None = None  # done, or waited for, between that answer and the next request
    impatient: bool = False  # only the client's own timeout ends it
    user_timeout_ms: int | None = None  # TCP_USER_TIMEOUT, which ends it


def first_state(server: Server) -> str:
    """The state of the server's end of the first connection; "" where nothing is left of it."""
    [peer] = [connection.peer for connection in server.connections if connection.number == 1]
    assert peer
    here = Address(*server.address)
    return tcp_state(here, peer) or tcp_state(here, peer)  # the list is no snapshot


def _whole_request(lengths: Lengths) -> dict[str, Any]:
    return {"after_requests": 1}


def _first_answer(lengths: Lengths) -> dict[str, Any]:
    return {"after_answers": 1}


def _fire(lengths: Lengths) -> dict[str, Any]:
    return {"at": "fire"}


def fin_acknowledged(server: Server) -> None:
    """Let the server close, and wait until the client's kernel has acknowledged the FIN."""
    server.fire()
    # Nobody has an event for it; the acknowledgement may be delayed by 40 ms.
    patience = time.monotonic() + 5
    while (state := first_state(server)) not in ("FIN-WAIT-2", "TIME-WAIT"):
        assert time.monotonic() < patience, f"the server's end is in {state or 'no state'} 5 s after its close"
        time.sleep(0.001)


def _none(lengths: Lengths) -> dict[str, Any]:
    return {}


FAULTS = (
    Met(
        "refuse",
        "refuse",
        "nobody listens on the port",
        _none,
    ),
    Met(
        "connect-hang",
        "connect-hang",
        "the SYN is not answered, and the client's connect timeout ends it",
        _none,
        impatient=True,
    ),
    Met(
        "linger",
        "linger",
        "the request is read and answered with a RST",
        _whole_request,
    ),
    Met(
        "linger mid-body",
        "linger",
        "half of the answer's body is sent, then a RST",
        lambda lengths: {"at": "mid-body"},
    ),
    Met(
        "unread",
        "unread",
        "the server closes with the request's last byte unread: RST",
        lambda lengths: {"after_bytes": lengths.first},
    ),
    Met(
        "keepalive-race:unsent",
        "keepalive-race:unsent",
        "the second request on a connection is in the server's buffer when that closes: RST",
        lambda lengths: {"after_bytes": lengths.both},
        after_good=True,
    ),
    Met(
        "keepalive-race:in-flight",
        "keepalive-race:in-flight",
        "the server has closed, its FIN is under way, and the second request crosses it: RST",
        _first_answer,
        after_good=True,
        between=lambda server: server.connections[0].wait_for_end(),
    ),
    Met(
        "keepalive-race:unprocessed",
        "keepalive-race:unprocessed",
        "the server's FIN is in the client's kernel, and the program has not looked yet",
        _fire,
        after_good=True,
        between=fin_acknowledged,
    ),
    Met(
        "black-hole",
        "black-hole",
        "after a good request the server hears nothing more; TCP_USER_TIMEOUT 300 ms ends it",
        _fire,
        after_good=True,
        between=lambda server: server.fire(),
        user_timeout_ms=300,
    ),
    Met(
        "stall",
        "stall",
        "the request is read and never answered, and the client's read timeout ends it",
        _whole_request,
        impatient=True,
    ),
    Met(
        "truncate",
        "truncate",
        "half of the answer's body is sent, then a FIN: Content-Length unmet",
        _none,
    ),
    Met(
        "close",
        "accept-then-close",
        "the request is read and answered with a FIN",
        _whole_request,
    ),
    Met(
        "garbage",
        "garbage:8",
        "the request is read and answered with eight bytes that mean nothing, then a FIN",
        _whole_request,
    ),
)

_BY_NAME = {met.name: met for met in FAULTS}

# What TLS changes. A record is read whole or not at all, so what is left unread is all of the request.
OVER_TLS = (
    Met(
        "linger in the handshake",
        "linger",
        "the ClientHello is read and answered with a RST",
        lambda lengths: {"at": "client-hello"},
    ),
    _BY_NAME["linger"],
    _BY_NAME["linger mid-body"],
    replace(_BY_NAME["unread"], told="the server closes with the request unread: RST", when=_whole_request),
    replace(_BY_NAME["keepalive-race:unsent"], when=lambda lengths: {"after_requests": 2}),
    _BY_NAME["keepalive-race:in-flight"],
    _BY_NAME["keepalive-race:unprocessed"],
    _BY_NAME["black-hole"],
    _BY_NAME["truncate"],
    _BY_NAME["close"],
    _BY_NAME["garbage"],
)
