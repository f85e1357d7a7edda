"""What the client sees where the service does not take its connection."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT, EPOLLRDHUP
from typing import TYPE_CHECKING, Literal

from faultkit.proxying.drain import DONTWAIT
from faultkit.proxying.resolving import Found
from faultkit.proxying.side import BUFFER
from faultkit.serving import faults

if TYPE_CHECKING:
    from faultkit.proxying.pair import Pair
    from faultkit.proxying.proxy import Proxy

UpstreamDown = Literal["reset", "close", "refuse", "hang"]
LOOK = 0.1  # seconds between two tries whether the service is back; arbitrary


class Down:
    """How a proxy deals with a service that is down.

    reset   RST
    close   FIN, and what the client says is read until it closes
    hang    nothing, until the client goes
    refuse  the port does not listen while the service refuses connections, which is tried ten times a second
    """

    def __init__(self, proxy: Proxy, how: UpstreamDown) -> None:
        self._proxy = proxy
        self._how = how
        self._fault = faults.fault("refuse")
        self._stop: Callable[[], None] | None = None  # the trying

    def begin(self) -> None:
        """The proxy listens from now on."""
        if self._how == "refuse":
            self._proxy.door.close_door(self._fault)
            self._try()

    def end(self) -> None:
        """It does no more."""
        if self._stop:
            self._stop()
            self._stop = None

    def told(self, pair: Pair, why: str) -> None:
        """The service has not taken this client's connection."""
        if self._how == "close":
            _Alone(pair, why).read()
        elif self._how == "hang":
            _Alone(pair, why).hang()
        else:
            if self._how == "refuse" and self._stop is None and self._proxy.enabled:
                self._proxy.door.close_door(self._fault)  # before it is told: it may come again at once
                self._try()
            pair.reset(why)

    def _try(self) -> None:
        trying = _Try(self._proxy, self._tried)
        self._stop = trying.cancel
        trying.begin()

    def _tried(self, up: bool) -> None:
        self._stop = None
        if up:
            if self._proxy.door.shut is self._fault:
                self._proxy.door.admit()
        else:
            self._stop = self._proxy.loop.at(self._proxy.loop.now() + LOOK, self._try).cancel


class _Try:
    """A connection that asks only whether it can be made."""

    def __init__(self, proxy: Proxy, tell: Callable[[bool], None]) -> None:
        self._proxy = proxy
        self._tell: Callable[[bool], None] | None = tell
        self._sock: socket.socket | None = None

    def begin(self) -> None:
        """Try, and tell."""
        self._proxy.found_service(self._found)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._tell = None
        self._close()

    def _told(self, up: bool) -> None:
        if self._tell:
            self._tell(up)

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._proxy.loop.forget(sock.fileno())
            sock.close()

    def _found(self, found: Found | OSError) -> None:
        if isinstance(found, OSError) or self._tell is None:
            self._told(False)
            return
        family, address = found[0]
        self._sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if sock.connect_ex(address) in (0, errno.EINPROGRESS):
            self._proxy.loop.watch(sock.fileno(), self, EPOLLOUT)
        else:
            self._close()
            self._told(False)

    def ready(self, _events: int, /) -> None:
        """It was taken or refused."""
        assert self._sock
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._close()
        self._told(not error)

    def failed(self, error: Exception, /) -> None:
        """Something of ours is broken."""
        self._proxy.lacking(error)


class _Alone:
    """A client without a service."""

    def __init__(self, pair: Pair, why: str) -> None:
        self._pair = pair
        self._why = why
        self._reads = False

    def read(self) -> None:
        """FIN, and what comes is read until the client closes."""
        sock = self._pair.client.sock
        assert sock
        self._reads = True
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._pair.reset(self._why)  # it is gone
            return
        self._watch(EPOLLIN)

    def hang(self) -> None:
        """Nothing, until it goes."""
        self._watch(EPOLLRDHUP)

    def _watch(self, events: int) -> None:
        self._pair.client.unwatch()
        self._pair.loop.watch(self._pair.client.number, self, events)

    def ready(self, _events: int, /) -> None:
        """It says something, or goes."""
        pair = self._pair
        if self._reads and pair.client.sock is not None:
            try:
                size = pair.client.sock.recv_into(BUFFER, 0, DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                size = 0  # it has reset the connection, which is an end too
            pair.client.received += size
            if size:
                return
        pair.close(self._why)

    def failed(self, error: Exception, /) -> None:
        """Something of ours is broken."""
        self._pair.broke(error)
