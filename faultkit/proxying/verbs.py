"""The verbs of a served connection on a side of a proxied one, and what is written down where they are."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from faultkit.proxying.drain import DONTWAIT
from faultkit.proxying.kinds import Bandwidth, Slicer
from faultkit.proxying.stages import Stage
from faultkit.serving.engine import Watch
from faultkit.serving.record import Connection
from faultkit.serving.verbs import End

if TYPE_CHECKING:
    from faultkit.proxying.counted import Counted
    from faultkit.proxying.side import Side


class Upstream(Connection):
    """What a fault towards the service counts."""

    __slots__ = ("_pair",)

    def __init__(self, pair: Counted, fault: str) -> None:
        self._pair = pair
        super().__init__(pair.number, None, fault, pair.proxy.waiting)
        self.opened_at = pair.opened_at
        self.met = pair.met

    @property
    def received(self) -> int:
        return self._pair.upstream.received

    @received.setter
    def received(self, count: int) -> None:
        self._pair.upstream.received = count or self._pair.upstream.received

    @property
    def sent(self) -> int:
        return self._pair.upstream.sent

    @sent.setter
    def sent(self, count: int) -> None:
        self._pair.upstream.sent = count or self._pair.upstream.sent

    @property
    def requests(self) -> int:
        return self._pair.requests

    @requests.setter
    def requests(self, _count: int) -> None:
        pass

    @property
    def answers(self) -> int:
        return self._pair.answers

    @answers.setter
    def answers(self, _count: int) -> None:
        pass

    def end(self, how: str) -> None:
        super().end(how)
        self._pair.end(f"{how} towards the service")


class _Nobody:
    """The loop is told by the side itself."""

    def forget(self, watch: Watch | None) -> None: ...


class Verbs(End):
    """What can be done to a side."""

    __slots__ = ("side",)

    def __init__(self, side: Side, record: Connection) -> None:
        assert side.sock
        super().__init__(side.sock, record, _Nobody(), None)
        self.side = side

    def _let_go(self) -> None:
        self.side.unwatch()
        super()._let_go()

    @property
    def silent(self) -> bool:
        """Is nothing to be said to it?"""
        return self._audible is not None

    @property
    def deaf(self) -> bool:
        """Is nothing to be read from it?"""
        return self._reading is not None

    @property
    def said_fin(self) -> bool:
        """Is nothing said any more?"""
        return self._said_fin

    @property
    def last_words(self) -> tuple[bytes, int]:
        """What is said before FIN, again and again, up to so many bytes."""
        return self._last_words

    @property
    def stages(self) -> Mapping[str, tuple[type[Stage], dict[str, int | float]]]:
        """What slows what is said to it."""
        found: dict[str, tuple[type[Stage], dict[str, int | float]]] = {}
        if self._rate:
            found["slow"] = (Bandwidth, {"rate": self._rate / 1000, "shared": 0})
        if self._slice:
            found["slices"] = (Slicer, {"average_size": self._slice, "size_variation": 0, "delay": 0})
        return found


class Words:
    """The last words of `garbage`, and what comes after: FIN, and reading until the peer closes."""

    def __init__(self, side: Side, verbs: Verbs) -> None:
        self._side = side
        self._words, self._left = verbs.last_words
        self._at = 0
        self._fin = verbs.said_fin

    def say(self) -> bool:
        """Say as much as it takes. Is all of it said?"""
        sock = self._side.sock
        assert sock
        while self._left:
            try:
                size = sock.send(self._words[self._at : self._at + self._left], DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:  # nobody hears them: what is read next says so
                self._left, self._fin = 0, True
                return True
            self._side.sent += size
            self._at, self._left = (self._at + size) % len(self._words), self._left - size
        if not self._fin:
            self._fin = True
            with contextlib.suppress(OSError):  # it is gone
                sock.shutdown(socket.SHUT_WR)
        return True
