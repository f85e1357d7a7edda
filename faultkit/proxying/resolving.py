"""A service's name, looked up anew for each connection, beside the loop: getaddrinfo(3) waits."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from faultkit.errors import Misuse
from faultkit.proxying.loop import Loop


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host, by name or address, and a port."""

    host: str
    port: int
    written: str | None = None  # as somebody wrote it who is told the same again

    def __str__(self) -> str:
        if self.written is not None:
            return self.written
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Found = list[tuple[int, tuple[str, int]]]  # address families, and what connect(2) takes


def endpoint(text: str | tuple[str, int] | Endpoint) -> Endpoint:
    """Of "host:port", "[::1]:80", or a pair. A host that is left out is all addresses, or loopback. Raises `Misuse`."""
    if isinstance(text, Endpoint):
        return text
    if isinstance(text, tuple):
        if len(text) < 2 or not isinstance(text[0], str):
            raise Misuse(f"{text!r} is no host and port: write them as a pair, such as ('localhost', 6379)")
        host, port = text[:2]
        number = port if isinstance(port, int) and not isinstance(port, bool) else -1
    else:
        host, colon, digits = text.rpartition(":") if isinstance(text, str) else ("", "", "")
        number = int(digits) if colon and digits.isdecimal() and len(digits) < 10 else -1
        if not colon:
            raise Misuse(f"{text or repr(text)} names no port: write HOST:PORT, such as localhost:6379")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host and not isinstance(text, tuple):
        raise Misuse(f"{text} has too many colons: write an IPv6 address in brackets, [::1]:6379")
    if not 0 <= number <= 65535:
        raise Misuse(f"{text} names a port that is none: take 0 to 65535")
    if not host.isprintable() or any(letter in " /@" for letter in host):
        raise Misuse(f"{host!r} is no host: write its name or address alone, such as localhost")
    return Endpoint(host, number)


def literal(where: Endpoint) -> Found | None:
    """Where it is an address, and no name: itself."""
    try:
        address = ipaddress.ip_address(where.host or "127.0.0.1")
    except ValueError:
        return None
    return [(socket.AF_INET6 if address.version == 6 else socket.AF_INET, (str(address), where.port))]


def is_near(found: Found) -> bool:
    """Are all of them loopback or of the own network?"""
    addresses = [ipaddress.ip_address(host.partition("%")[0]) for _, (host, _) in found]
    return all(one.is_loopback or one.is_private or one.is_link_local for one in addresses)


class Lookup:
    """One name; who asks while the answer is awaited shares it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._asking: dict[Endpoint, list[Callable[[Found | OSError], None]]] = {}

    def ask(self, where: Endpoint, tell: Callable[[Found | OSError], None]) -> None:
        """Look it up, and tell: the addresses in the order in which to try them, or the error."""
        if where in self._asking:
            self._asking[where].append(tell)
            return
        self._asking[where] = [tell]
        # A daemon: a name server that is not there must not keep the program from ending.
        threading.Thread(target=self._look, args=(where,), name="faultkit lookup", daemon=True).start()

    def _look(self, where: Endpoint) -> None:
        answer: Found | OSError
        try:
            told = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
            answer = [(family, (str(address[0]), int(address[1]))) for family, _, _, _, address in told]
        except (OSError, UnicodeError) as error:
            answer = error if isinstance(error, OSError) else OSError(str(error))
        self._loop.soon(lambda: self._tell(where, answer))

    def _tell(self, where: Endpoint, answer: Found | OSError) -> None:
        for tell in self._asking.pop(where):
            tell(answer)
