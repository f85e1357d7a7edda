"""A plain client, and what it was told call by call: "recv ECONNRESET"; and what the kernel lists of its connections."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import faultkit
from faultkit import Server
from faultkit.serving.entry import Serving

PATIENCE = 20.0  # seconds after which a test is stuck


def armed(name: str, **keywords: Any) -> Serving:
    """A server whose fault waits for `fire()`."""
    return faultkit.serve(name, at="fire", **keywords)


class Client:
    """Keeps what each call gave."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self.told: list[str] = []

    def _note(self, name: str, call: Callable[[], object]) -> str:
        try:
            result = call()
        except TimeoutError as error:
            outcome = errno.errorcode[error.errno] if error.errno else "timeout"
        except OSError as error:
            outcome = errno.errorcode[error.errno or 0]
        else:
            outcome = result.decode("latin-1") or "EOF" if isinstance(result, bytes) else "ok"
        self.told.append(f"{name} {outcome}")
        return outcome

    def connect(self, address: tuple[str, int]) -> str:
        return self._note("connect", lambda: self.sock.connect(address))

    def send(self, data: bytes) -> str:
        return self._note("send", lambda: self.sock.sendall(data))

    def recv(self, size: int = 65536) -> str:
        return self._note("recv", lambda: self.sock.recv(size))

    def recv_whole(self, size: int) -> str:
        """So many bytes, however they come."""

        def whole() -> bytes:
            data = b""
            while len(data) < size and (part := self.sock.recv(size - len(data))):
                data += part
            return data

        return self._note("recv", whole)

    def waits(self, seconds: float = 0.05) -> bool:
        """Nothing comes, not even an end."""
        return not select.select([self.sock], [], [], seconds)[0]

    def readable(self) -> None:
        assert select.select([self.sock], [], [], PATIENCE)[0], "nothing came"


@contextlib.contextmanager
def unconnected(server: Server, *, timeout: float = PATIENCE) -> Iterator[Client]:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        yield Client(sock, server)


@contextlib.contextmanager
def client(server: Server, *, timeout: float = PATIENCE) -> Iterator[Client]:
    with unconnected(server, timeout=timeout) as plain:
        plain.sock.connect(server.address)
        yield plain


def listed(port: int, state: str) -> bool:
    """Does one end of a connection with that port have that state (tcp_states.h), in this namespace?"""
    with open("/proc/net/tcp") as table:
        return any(f":{port:04X} " in line and line.split()[3] == state for line in table)
