"""Where a proxy listens: its door, which keeps its port while nobody listens, and what is wrong with that door."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from select import EPOLLIN

from faultkit.errors import Misuse, exhausted
from faultkit.evidence.transcript import Address
from faultkit.proxying import resolving
from faultkit.proxying.loop import Loop
from faultkit.proxying.resolving import Endpoint, Found
from faultkit.serving.door import Door
from faultkit.serving.faults import Fault

BATCH = 32  # connections accepted in one turn; arbitrary
RETRY = 0.1  # seconds until accept() is tried again where there were no descriptors; arbitrary


class Listening:
    """A port, and who comes."""

    def __init__(
        self,
        loop: Loop,
        listen: Endpoint,
        beyond_loopback: bool,
        came: Callable[[socket.socket, Address], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.wanted = listen
        self.door: Door | None = None
        self.shut: Fault | None = None  # what keeps clients out
        self.was_shut = False
        self.waiting: Fault | None = None  # what is done to those that wait to be accepted
        self.turned_away: Callable[[int, Fault], None] = lambda count, fault: None
        self._loop = loop
        self._beyond = beyond_loopback
        self._came = came
        self._failed = failed
        self._watched = False
        self._turned_away = False
        self._given: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, or did, or is to: the port as it was given out once it was open."""
        return self._given or (self.wanted.host, self.wanted.port)

    def open(self, door: Door | None = None) -> None:
        """Listen. Raises as `bound` does."""
        if door is None:
            if self.door is not None:
                return
            door = self.bound(self.wanted, self._given)
        self.door = door
        self._given = (door.address.host, door.address.port)
        if self.waiting:
            door.defer()
        if self.shut:
            self.close_door(self.shut)
        else:
            self.admit()

    def bound(self, listen: Endpoint, before: tuple[str, int] | None = None) -> Door:
        """A door there, or where it was before. Raises `OSError` as bind(2) and getaddrinfo(3) do, `Misuse` beyond loopback."""
        host, port = before or _address(listen)
        if not self._beyond and not ipaddress.ip_address(host).is_loopback:
            raise Misuse(
                f"{listen} is not loopback, and others could reach what is broken on purpose: "
                "say beyond_loopback if that is meant"
            )
        door = Door(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)
        door.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts inherits that
        return door

    def move(self, listen: Endpoint) -> None:
        """Elsewhere from the next `open` on."""
        self.wanted, self._given = listen, None

    def is_at(self, listen: Endpoint) -> bool:
        """Is that where it listens already, by whatever name?"""
        if listen.port == 0 or listen.port != self.address[1]:
            return False
        found = resolving.literal(Endpoint(listen.host or "::", listen.port)) or _named(listen)
        return self.address in [address for _, address in found] or listen == self.wanted

    def admit(self) -> None:
        """Let clients in: undo whatever keeps them out."""
        self.shut = None
        if self.door:
            self.door.open()
            self._watch()

    def close_door(self, fault: Fault) -> None:
        """Let that keep clients out."""
        self.shut = fault
        if self.door:
            self._forget()
            assert fault.served.door
            fault.served.door(self.door)
            self.was_shut = True

    def close(self) -> None:
        """Let go of the port; the next `open` takes the same."""
        if self.door:
            self._forget()
            self._turned_away = self.has_turned_away
            self.door.close()
            self.door = None

    @property
    def has_turned_away(self) -> bool:
        """Has a client met a closed door?"""
        return self._turned_away or (self.door is not None and self.door.turned_away)

    def watch_again(self) -> None:
        """There may be descriptors again."""
        if self.door and not self.shut and not self._watched:
            self._watch()

    def _watch(self) -> None:
        if self.door and not self._watched:
            self._watched = True
            self._loop.watch(self.door.sock.fileno(), self, EPOLLIN)

    def _forget(self) -> None:
        if self.door and self._watched:
            self._watched = False
            self._loop.forget(self.door.sock.fileno())

    def ready(self, _events: int, /) -> None:
        """Somebody waits to be accepted."""
        self.greet(BATCH)

    def greet(self, most: int = 4096) -> None:
        """Accept who has connected."""
        if self.waiting and self.door:
            count = self.door.waiting
            assert self.waiting.served.door
            self.turned_away(count, self.waiting)
            self.waiting.served.door(self.door)
            return
        for _ in range(most):
            if self.door is None or self.shut:
                return
            try:
                sock, peer = self.door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if exhausted(error):
                    self._failed(error)
                    self._forget()  # it would be readable all the time
                    self._loop.at(self._loop.now() + RETRY, self.watch_again)
                    return
                continue  # what waited is gone (accept(2))
            self._came(sock, peer)

    def failed(self, error: Exception, /) -> None:
        """Nobody is accepted any more."""
        self._forget()
        self._failed(error)


def _address(listen: Endpoint) -> tuple[str, int]:
    found = resolving.literal(Endpoint(listen.host or "::", listen.port)) or _named(listen)
    return found[0][1]


def _named(listen: Endpoint) -> Found:
    """IPv4 first, as who writes localhost means it."""
    told = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
    return sorted(
        ((family, (str(address[0]), int(address[1]))) for family, _, _, _, address in told),
        key=lambda found: found[0] != socket.AF_INET,
    )
