"""A long or narrow line to a client: what comes is heard so much later, and so much of it in a second.

The bytes stay in the kernel until they are due, where a fault may leave them unread. What a client sends in a row is delayed,
each by as much, and not the one by the other.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable

import trio

from faultkit import sockets
from faultkit.serving.engine import Engine, Watch

HEARING = ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2")  # the peer may still say something
SHARE = 10  # of a second: what is taken at once where the rate is limited; arbitrary
NARROW = (
    32768  # bytes of a receive buffer (the kernel doubles it), so that a client is held up by what it sends; arbitrary
)


class Line:
    """When what has come on a socket may be read. Watches a duplicate of its descriptor, so `close` comes before the socket's."""

    def __init__(
        self,
        sock: socket.socket,
        engine: Engine,
        broke: Callable[[BaseException], None],
        *,
        latency_seconds: float,
        rate: float,
    ) -> None:
        """A rate is in bytes per second, 0 for as fast as it goes."""
        self._sock = sock
        self._engine = engine
        self._latency = latency_seconds
        self._rate = rate
        self._seen = self._ripe = self._read = 0  # bytes since this was made: come, to be read, and taken
        self._due: deque[tuple[float, int]] = deque()  # when what had come until then may be read, by trio's clock
        self._end = float("inf")  # when the end may be read
        self._next = 0.0  # nothing is read before that, for the rate
        self._news = trio.Event()
        self._watch: Watch | None = None
        if rate:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        self._descriptor: int | None = os.dup(sock.fileno())
        try:
            events = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
            self._watch = engine.watch(self._descriptor, self._look, broke, events)
        except BaseException:
            self.close()
            raise
        self._look()

    def _look(self) -> None:
        """Something has come."""
        now = trio.current_time()
        come = self._read + sockets.unread(self._sock)
        if come > self._seen:
            self._seen = come
            self._due.append((now + self._latency, come))
        if self._end == float("inf") and sockets.state(self._sock) not in HEARING:
            self._end = now + self._latency
        self._news.set()

    async def opened(self) -> None:
        """Wait as long as the client's coming takes, for a server that speaks first."""
        await trio.sleep(self._latency)

    async def ripe(self, more_than: int = 0) -> int:
        """Wait until more bytes than that may be read, or the end, and give how many."""
        while True:
            now = trio.current_time()
            self._news = trio.Event()
            while self._due and self._due[0][0] <= now:
                _, self._ripe = self._due.popleft()
            ripe = self._ripe - self._read
            coming = self._due[0][0] if self._due else self._end
            if ripe > more_than or (not self._due and self._end <= now):
                if now >= self._next:
                    return min(ripe, max(more_than + 1, int(self._rate / SHARE))) if self._rate else ripe
                coming = self._next
            with trio.move_on_at(coming):
                await self._news.wait()

    def took(self, count: int) -> None:
        """So many bytes were read."""
        self._read += count
        if self._rate:
            self._next = max(trio.current_time(), self._next) + count / self._rate

    def emptied(self) -> None:
        """Others have read all that has come."""
        self._read = self._ripe = self._seen
        self._due.clear()

    def close(self) -> None:
        """Look no more."""
        self._engine.forget(self._watch)
        self._watch = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._news.set()
