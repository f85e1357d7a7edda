"""What the tests of the proxy stand on: a service that does what a test says, a client, and the proxy between them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from faultkit.proxying.loop import Loop
from faultkit.proxying.proxy import Proxy

PATIENCE = 10.0  # seconds; never waited for where all is well


@contextlib.contextmanager
def loop() -> Iterator[Loop]:
    """A loop in a thread of its own."""
    one = Loop()
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield one
    finally:
        one.stop()
        thread.join(PATIENCE)


class Between:
    """A client's socket, the service's, and the proxy."""

    def __init__(self, proxy: Proxy, service: socket.socket) -> None:
        self.proxy = proxy
        self.service = service

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A connection through the proxy: the client's end and the service's."""
        client = socket.create_connection(self.proxy.address, PATIENCE)
        server, _ = self.service.accept()
        server.settimeout(PATIENCE)
        return client, server


@contextlib.contextmanager
def between(**options: Any) -> Iterator[Between]:
    """A proxy in front of a listening socket."""
    with loop() as one, socket.create_server(("127.0.0.1", 0)) as service:
        service.settimeout(PATIENCE)
        proxy = Proxy(one, ("127.0.0.1", 0), service.getsockname(), **options)
        proxy.start()
        try:
            yield Between(proxy, service)
            proxy.check_crash()
        finally:
            proxy.stop()


def abort(sock: socket.socket) -> None:
    """RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end; `ConnectionResetError` comes out."""
    found = bytearray()
    while data := sock.recv(65536):
        found += data
    return bytes(found)


def outcome(work: Callable[[], object]) -> object:
    """What it gives, or the name of the error that it raises."""
    try:
        return work()
    except OSError as error:
        return type(error).__name__
