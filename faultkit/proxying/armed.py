"""A fault of `faultkit serve` on one side of a proxied connection: when it sets in, and what becomes of the bytes after that.

The verbs are those of a served connection (`faultkit.serving.verbs`), done to the socket towards the client or to the one
towards the service. A request is begun by what the client says after an answer, or first of all; an answer is over when the
service has said something and nothing more is there to be read.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.errors import Misuse, Unable
from faultkit.proxying.drain import DONTWAIT, unsent
from faultkit.proxying.loop import Timer
from faultkit.proxying.paced import Paced
from faultkit.proxying.verbs import Verbs
from faultkit.serving import peer
from faultkit.serving.faults import Fault
from faultkit.serving.record import Connection
from faultkit.trigger import Trigger

if TYPE_CHECKING:
    from faultkit.proxying.counted import Counted
    from faultkit.proxying.side import Side

LOOK = 0.001  # seconds between two looks at what no event tells; arbitrary
FLUSHED = ("sent", "answers", "mid-body")  # set in when the kernel has sent what it was given


class Armed:
    """A fault that one side has, and those that come after it."""

    def __init__(self, pair: Counted, side: Side, fault: Fault, toxic: str = "") -> None:
        self.pair = pair
        self.side = side
        self.toxic = toxic
        self.next: Fault | None = fault
        self.record: Connection = pair if side is pair.client else pair.upstream_record(fault.title)
        self._timer: Timer | None = None
        self._halved = False
        if pair.fault == "ok":
            pair.fault = fault.title
        self.record.pending = fault.title

    # When it sets in.

    def begin(self) -> None:
        """The side is there: its clocks run, and what was counted before counts."""
        fault = self.next
        if fault is None or self.side.sock is None or self.pair.over:
            return
        if fault.when.kind == "accept" or fault.reached(self.record):
            self.set_in()
        elif fault.when.kind in ("idle", "read"):
            self._look()

    def only_after(self, due: float) -> None:
        """Set in at that time of the loop, and not before."""
        assert self.next
        self.next = replace(self.next, when=Trigger("fire"))
        self._timer = self.pair.loop.at(due, self._due)

    def may_read(self, most: int) -> int:
        """How much of what the side says; 0: the next byte sets it off unread."""
        fault = self.next
        if fault is None:
            return most
        if fault.served.unread:
            if fault.meets_next_byte(self.record, begun=self.pair.asking):
                return 0
            return fault.may_read(self.record, most)
        if fault.when.kind == "bytes" and not (fault.served.hangs or fault.served.goes_on):
            return max(1, min(most, int(fault.when.amount) - self.record.received))
        return most

    def takes(self, item: bytes) -> bool:
        """Is this the answer that it says itself?"""
        fault = self.next
        if not (fault and fault.when.kind == "answers" and self.pair.asking):
            return False
        if self.record.answers + 1 < fault.when.amount:
            return False
        if fault.served.holds_fin:
            self.pair.answer()
            Paced(self.side, fault.name, item, self.set_in)
            return True
        if fault.served.ends_answer and not self.pair.answers_more:
            self._say_with_end(item)
            return True
        return False

    def _say_with_end(self, item: bytes) -> None:
        """Let the kernel keep the end of it until the FIN (TCP_CORK, tcp(7); tcp_send_fin()): a peer that has read the whole
        answer has the FIN, however quick it is."""
        side, sock = self.side, self.side.sock
        assert sock
        try:
            if len(item) >= sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG):
                side.sent += (sent := sock.send(item[:-1], DONTWAIT))
                item = item[sent:]
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            side.sent += sock.send(item, DONTWAIT)
        except BlockingIOError:
            pass  # its reader has stopped, and will not have all of it
        except OSError as error:
            side.send_failed(error)
            return
        self.pair.answer()
        self.set_in()

    def may_send(self, item: bytes) -> int:
        """How much of it may be said to the side before it sets in."""
        fault = self.next
        if fault is None:
            return len(item)
        if fault.when.kind == "sent":
            return max(0, min(len(item), int(fault.when.amount) - self.record.sent))
        if fault.when.kind == "mid-body":
            return 0 if self._halved else max(1, len(item) // 2)
        return len(item)

    def counted(self) -> None:
        """Something was read or said."""
        fault = self.next
        if fault is None:
            return
        if fault.when.kind == "mid-body":
            self._halved = self._halved or self.side.sent > 0
            if self._halved:
                self._when_flushed()
        elif fault.when.kind != "with" and fault.reached(self.record):
            self._when_flushed() if fault.when.kind in FLUSHED else self.set_in()

    def _when_flushed(self) -> None:
        if self.side.sock is None or self._timer:
            return
        if unsent(self.side):
            self.side.hush(True)
            self._again(self._flushed)
        else:
            self.set_in()

    def _flushed(self) -> None:
        self._timer = None
        self._when_flushed()

    def _again(self, look: object, wait: float = LOOK) -> None:
        assert callable(look)
        self._timer = self.pair.loop.at(self.pair.loop.now() + wait, look)

    def _look(self) -> None:
        """What no event tells: how long it is quiet, what its program has read."""
        self._timer = None
        fault, sock = self.next, self.side.sock
        if fault is None or sock is None:
            return
        if fault.when.kind == "idle":
            left = fault.when.amount - min(sockets.quiet_seconds(sock), self.record.age_seconds)
            if left <= 0:
                self.set_in()
            else:
                self._again(self._look, left)
        elif fault.when.kind == "read":
            read = peer.has_read(sock)
            if read is None:
                if self.pair.comes_from_elsewhere(self.side):
                    raise Unable("the peer's socket is not in this network namespace: nobody tells what it has read")
                return  # it is gone
            sent = self.side.sent
            if read >= fault.when.amount if fault.when.amount else sent and read >= sent:
                self.set_in()
            else:
                self._again(self._look)

    def _due(self) -> None:
        """Its time has come. What is to leave something unread waits for the next byte, where there is none."""
        fault, side = self.next, self.side
        if fault and fault.served.unread and side.sock is not None and not sockets.unread(side.sock):
            self._timer = None
            self.next = replace(fault, when=Trigger("bytes", self.record.received + 1))
            side.watch()
        else:
            self.set_in()

    # What it does.

    def cannot_fire(self) -> Misuse | None:
        """Why it cannot set in now."""
        fault = self.next
        if fault and fault.served.holds_fin:
            return Misuse(f"fire(): {fault.name} needs an answer to hold its FIN back behind: it sets in {fault.when}")
        if fault and fault.served.unread and self.side.sock is not None and not sockets.unread(self.side.sock):
            return Misuse(
                f"fire(): {fault.name} leaves received bytes unread, and connection {self.pair.number} has none"
            )
        return None

    def set_in(self) -> None:
        """Now."""
        fault, side = self.next, self.side
        if fault is None or side.sock is None or self.pair.over or self.record.ended:
            return
        verbs = side.verbs
        if verbs is None:
            verbs = side.verbs = Verbs(side, self.record)
        while fault:
            assert fault.served.act
            # Written down before, because a client may look as soon as it is told.
            self.record.meet(fault.name)
            self.next = fault.then
            self.record.pending = fault.then.title if fault.then else None
            fault.served.act(verbs)
            fault = self.next if self.next and self.next.reached(self.record) else None
        self.pair.proxy.met(self.pair, self.record.met[-1].fault)
        self.pair.apply(side, verbs)
        self.record.done()
        if self.next:
            self.begin()

    def disarm(self) -> None:
        """It does not set in any more."""
        self.next = None
        if self._timer:
            self._timer.cancel()
