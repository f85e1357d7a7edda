"""What a proxy makes of an end: `python benchmarks/fidelity.py [--times 20] [--toxiproxy PATH]`.

Each case is played so many times through `faultkit proxy`, HAProxy, socat and toxiproxy, and each time the other side is asked
what it was told. The table says how often it was the same as without a proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from proxy import Proxy, free_port, haproxy, ours, socat, toxiproxy
from rich.console import Console
from rich.table import Table

from faultkit import sockets

PATIENCE = 5.0
BOUND = 32 << 20  # bytes that may be on the way to a reader who has stopped, kernel buffers and all; arbitrary

Ends = tuple[socket.socket, socket.socket]


def abort(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def told(sock: socket.socket) -> str:
    """Everything that it gets, and how that ends."""
    got = 0
    try:
        while data := sock.recv(65536):
            got += len(data)
    except TimeoutError:
        return f"{got}, nothing more"
    except ConnectionResetError:
        return f"{got}, RST"
    return f"{got}, FIN"


def reset(first: socket.socket, second: socket.socket) -> bool:
    abort(first)
    return told(second) == "0, RST"


def reset_after_data(first: socket.socket, second: socket.socket) -> bool:
    first.sendall(bytes(1000))
    abort(first)
    return told(second) == "1000, RST"


def half_closed(first: socket.socket, second: socket.socket) -> bool:
    first.sendall(b"ask")
    first.shutdown(socket.SHUT_WR)
    asked = told(second) == "3, FIN"
    second.sendall(b"answer")
    second.close()
    return asked and told(first) == "6, FIN"


def unread(first: socket.socket, second: socket.socket) -> bool:
    second.sendall(b"never read")
    first.recv(1, socket.MSG_PEEK)
    first.close()
    return told(second) == "0, RST"


def urgent(first: socket.socket, second: socket.socket) -> bool:
    first.sendall(b"before")
    first.send(b"!", socket.MSG_OOB)
    first.sendall(b"after")
    first.shutdown(socket.SHUT_WR)
    got = b""
    byte = b""
    second.settimeout(1)
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while data := second.recv(100):
            got += data
            with contextlib.suppress(OSError):
                byte = second.recv(1, socket.MSG_OOB)
    return (got, byte) == (b"beforeafter", b"!")


def stopped(first: socket.socket, second: socket.socket) -> bool:
    first.settimeout(0.3)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent <= BOUND:
            sent += first.send(bytes(1 << 20))
    first.shutdown(socket.SHUT_WR)
    return sent <= BOUND and told(second) == f"{sent}, FIN"


def backwards(case: Callable[[socket.socket, socket.socket], bool]) -> Callable[[socket.socket, socket.socket], bool]:
    """The service does it."""
    return lambda client, server: case(server, client)


CASES: dict[str, Callable[[socket.socket, socket.socket], bool]] = {
    "RST of the service": backwards(reset),
    "RST of the service after 1,000 bytes": backwards(reset_after_data),
    "RST of the client": reset,
    "RST of the client after 1,000 bytes": reset_after_data,
    "half-close of the client, an answer after it": half_closed,
    "half-close of the service, data after it": backwards(half_closed),
    "the service closes over unread data": backwards(unread),
    "the client closes over unread data": unread,
    "an urgent byte of the client": urgent,
    "an urgent byte of the service": backwards(urgent),
    "a client that does not read stops the service": backwards(stopped),
    "a service that does not read stops the client": stopped,
}


class Through:
    """One proxy, in front of a service that is there, one that refuses, and one whose connect() hangs."""

    def __init__(self, there: int, refusing: int, hanging: int, service: socket.socket) -> None:
        self.there, self.refusing, self.hanging, self.service = there, refusing, hanging, service

    def play(self, case: Callable[[socket.socket, socket.socket], bool]) -> bool:
        with socket.create_connection(("127.0.0.1", self.there), PATIENCE) as client:
            server, _ = self.service.accept()
            with server:
                server.settimeout(PATIENCE)
                try:
                    return case(client, server)
                except OSError:
                    return False

    def refused(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.refusing), PATIENCE) as client:
                return told(client) == "0, RST"
        except ConnectionError:
            return True

    def hangs(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.hanging), PATIENCE) as client:
            client.sendall(b"x")
            client.settimeout(0.1)
            return told(client) == "0, nothing more"


@contextlib.contextmanager
def through(start: Callable[[int], contextlib.AbstractContextManager[Proxy]]) -> Iterator[Through]:
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        sockets.black_hole(deaf)
        ports = [service.getsockname()[1], free_port(), deaf.getsockname()[1]]
        proxies = [stack.enter_context(start(port)) for port in ports]
        service.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:  # those who looked whether the proxy listens
                service.accept()[0].close()
        service.settimeout(PATIENCE)
        there, refusing, hanging = (one.port for one in proxies)
        yield Through(there, refusing, hanging, service)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--toxiproxy", metavar="PATH", help="its server, to be asked beside the others")
    arguments = parser.parse_args()
    starting: dict[str, Callable[[int], contextlib.AbstractContextManager[Proxy]]] = {"faultkit": ours}
    starting |= {"HAProxy": haproxy} if shutil.which("haproxy") else {}
    starting |= {"socat": socat} if shutil.which("socat") else {}
    if arguments.toxiproxy:
        starting["toxiproxy"] = lambda service: toxiproxy(arguments.toxiproxy, service)
    rows: dict[str, list[int]] = {}
    for start in starting.values():
        with through(start) as one:
            for name, case in CASES.items():
                rows.setdefault(name, []).append(sum(one.play(case) for _ in range(arguments.times)))
            rows.setdefault("a service that refuses", []).append(sum(one.refused() for _ in range(arguments.times)))
            rows.setdefault("a service whose connect() hangs", []).append(
                sum(one.hangs() for _ in range(arguments.times))
            )
    table = Table(f"the same as without a proxy, of {arguments.times}", *starting)
    for name, counts in rows.items():
        table.add_row(name, *map(str, counts))
    Console().print(table)
    if any(counts[0] != arguments.times for counts in rows.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
