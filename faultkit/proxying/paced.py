"""An answer after which a FIN is to be held back by the kernel: sent so that `sockets.hold_back` works."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.errors import Misuse
from faultkit.serving.connection import PACED, TAIL

if TYPE_CHECKING:
    from faultkit.proxying.side import Side

LOOK = 0.001  # seconds between two looks at what no event tells; arbitrary


class Paced:
    """All but its end in segments that the kernel does not pace; then nothing is heard any more, and the end of it is said."""

    def __init__(self, side: Side, name: str, answer: bytes, done: Callable[[], None]) -> None:
        if len(answer) < PACED + TAIL:
            raise Misuse(
                f"{name}: an answer of {len(answer)} bytes is too short to hold a FIN back: take {PACED + TAIL} or more"
            )
        assert side.sock
        self._side = side
        self._done = done
        self._tail = answer[-TAIL:]
        single = [answer[at : at + 1] for at in range(len(answer) - PACED - TAIL, len(answer) - TAIL)]
        self._pieces = [piece for piece in (answer[: -PACED - TAIL], *single) if piece]
        side.hush(True)
        side.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._go_on()

    def _go_on(self) -> None:
        side = self._side
        sock = side.sock
        if sock is None:
            return
        while self._pieces:
            piece = self._pieces[0]
            try:
                sent = sock.send(piece, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                side.send_failed(error)
                return
            side.sent += sent
            self._pieces[:1] = [piece[sent:]] if piece[sent:] else []
        # A program has no event for it. The last segment must not wait for an acknowledgement that is not heard.
        if self._pieces or sockets.clock(sock).unacknowledged:
            side.pair.loop.at(side.pair.loop.now() + LOOK, self._go_on)
            return
        sockets.black_hole(sock)
        sockets.hold_back(sock)
        side.sent += sock.send(self._tail, socket.MSG_DONTWAIT)
        self._done()
