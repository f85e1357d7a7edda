"""What the client sees where the service does not take its connection."""

from __future__ import annotations

import socket
from select import EPOLLIN, EPOLLRDHUP
from typing import TYPE_CHECKING

from faultkit.proxying.side import BUFFER, DONTWAIT

if TYPE_CHECKING:
    from faultkit.proxying.pair import Pair


class Down:
    """A client without a service."""

    def __init__(self, pair: Pair, why: str) -> None:
        self._pair = pair
        self._why = why
        self._reads = False

    def as_told(self, how: str) -> None:
        """ "reset": RST; "close": FIN, and what comes is read until the client closes; "hang": nothing, until it goes."""
        pair = self._pair
        sock = pair.client.sock
        if how in ("reset", "refuse") or sock is None:
            pair.reset(self._why)
            return
        pair.client.unwatch()
        self._reads = how == "close"
        if self._reads:
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pair.reset(self._why)  # it is gone
                return
        pair.loop.watch(sock.fileno(), self, EPOLLIN if self._reads else EPOLLRDHUP)

    def ready(self, _events: int, /) -> None:
        """It says something, or goes."""
        pair = self._pair
        sock = pair.client.sock
        if sock is None:
            return
        try:
            if self._reads:
                size = sock.recv_into(BUFFER, 0, DONTWAIT)
                pair.client.received += size
                if size:
                    return
        except BlockingIOError:
            return
        except OSError:
            pass  # it has reset the connection, which is an end too
        pair.close(self._why)

    def failed(self, error: Exception, /) -> None:
        """Something of ours is broken."""
        self._pair.broke(error)
