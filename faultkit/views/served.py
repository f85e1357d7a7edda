"""What is said of a server that runs in the foreground: its opening, a line for each connection, and the faults there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from faultkit.serving import faults
from faultkit.views import table

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.serving.record import Connection
    from faultkit.serving.server import Server
    from faultkit.serving.udp import Datagram, UdpServer


def opening_udp(server: UdpServer, *, as_json: bool) -> list[str]:
    """Where a server of UDP listens."""
    where = {"host": server.host, "port": server.port, "url": server.url}
    return [json.dumps({"event": "listening", **where}) if as_json else f"listening on {server.url} (Ctrl-C ends it)"]


def datagram(record: Datagram, port: int | None = None) -> str:
    """One datagram for a person: its server's port where that is given, number, peer, fault, bytes in and out."""
    at = "" if port is None else f"{port:>5}  "
    return f"{at}{record.number:>3}  {record.peer!s:<15}  {record.fault:<14} {len(record.data):>5} in {record.answered:>5} out"


def datagram_document(record: Datagram, port: int | None = None) -> str:
    """The same for machines."""
    at = {} if port is None else {"port": port}
    told = {"number": record.number, "peer": str(record.peer), "fault": record.fault}
    counts = {"received": len(record.data), "sent": record.answered}
    return json.dumps({"event": "datagram", **at, **told, **counts})


def opening(server: Server, *, as_json: bool) -> list[str]:
    """Where it listens."""
    told: dict[str, object] = {}
    if server.speaks_tls:
        told["ca_file"] = server.ca_file
    if server.asks_for_certificate:
        told["client_cert_file"] = server.client_cert_file
    if server.seed is not None:
        told["seed"] = server.seed
    if as_json:
        where = {"host": server.host, "port": server.port, "url": server.url}
        return [json.dumps({"event": "listening", **where, **told})]
    return [f"listening on {server.url} (Ctrl-C ends it)", *(f"{name} {value}" for name, value in told.items())]


def line(record: Connection, port: int | None = None) -> str:
    """One connection for a person: its server's port where that is given, number, peer, fault, bytes in and out, how it ended and
    when, in ms."""
    at = "" if port is None else f"{port:>5}  "
    ended = f"{record.ended} after {(record.seconds or 0) * 1000:.1f} ms"
    fault = record.fault if record.fired or record.fault == faults.OK else f"{record.fault} not met"
    return f"{at}{record.number:>3}  {record.peer!s:<15}  {fault:<14} {record.received:>5} in {record.sent:>5} out  {ended}"


def document(record: Connection, port: int | None = None) -> str:
    """The same for machines: `Connection.document` as JSON, written out because it is written 25,000 times a second."""
    peer = f'"{record.peer}"' if record.peer else "null"
    fired = "null" if record.fired_after_seconds is None else f"{record.fired_after_seconds:.6f}"
    at = "" if port is None else f'"port": {port}, '
    return (
        f'{{"event": "connection", {at}"number": {record.number}, "peer": {peer}, "fault": "{record.fault}", '
        f'"received": {record.received}, "sent": {record.sent}, "requests": {record.requests}, "answers": {record.answers}, '
        f'"fired_after_seconds": {fired}, "ended": {json.dumps(record.ended)}, "seconds": {record.seconds:.6f}}}'
    )


def told(order: str, refused: str | None, *, as_json: bool) -> str:
    """An order that was carried out, or why it was not."""
    if as_json:
        return json.dumps({"event": "control", "order": order, "refused": refused})
    return f"{order}: done" if refused is None else f"refused: {refused}"


def dropped(number: int, *, as_json: bool) -> str:
    """What stands in the place of so many lines that nobody read in time."""
    if as_json:
        return json.dumps({"event": "dropped", "lines": number})
    return f"lines that nobody read in time, and that are dropped: {number}"


def listing(console: Console) -> None:
    """Every fault that can be served, and when it sets in."""
    table.names(console, list(described()))


def listing_udp(console: Console) -> None:
    """Every fault of UDP."""
    from faultkit.serving import udp

    rows = [(f"{name}[:N]" if unit else name, told) for name, (told, unit) in udp.FAULTS.items()]
    table.names(console, rows)


def described() -> Iterator[tuple[str, str, str]]:
    """Every fault: its name, with the number that it takes, when it sets in, and what it is, what it needs besides."""
    spoken = ((name, one.summary, one.served) for name, one in faults.SPOKEN.items())
    for name, summary, fault in (*faults.known(), *spoken):
        tester = faults.TESTERS.get(name) or faults.SPOKEN.get(name)
        number = f"; N: {tester.unit}, {tester.default} where it is left out" if tester and tester.unit else ""
        needs = "; needs CAP_NET_ADMIN" if fault.needs_repair else ""
        if fault.speaks:
            needs = "; needs TLS" if fault.speaks == "tls" else f"; needs answer {fault.speaks}"
        when = "when a client connects" if fault.door and fault.when.kind == "accept" else str(fault.when)
        when = "from the start" if fault.when.kind == "listen" else when
        yield f"{name}{'[:N]' if number else ''}", when, f"{summary}{number}{needs}"
