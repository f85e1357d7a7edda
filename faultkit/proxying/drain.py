"""One socket of a proxied connection as where bytes go: what is sent to it, what it could not take yet, and what it is watched
for."""

from __future__ import annotations

import errno
import socket
from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.proxying.pipes import Pipe
from faultkit.proxying.stages import CLOSE, FIN, GONE, RST, Item, Mark, Slice, Urgent

if TYPE_CHECKING:
    from faultkit.proxying.armed import Armed
    from faultkit.proxying.chain import Chain
    from faultkit.proxying.pair import Pair
    from faultkit.proxying.side import Side
    from faultkit.proxying.verbs import Verbs, Words

TCP_NOTSENT_LOWAT = 25  # include/uapi/linux/tcp.h
DONTWAIT, OOB, EOR = socket.MSG_DONTWAIT, socket.MSG_OOB, socket.MSG_EOR
READ, BAD = EPOLLIN | EPOLLPRI, EPOLLERR | EPOLLHUP

# What the calls on a socket give when its connection is gone: recv(2), send(2), tcp(7), icmp.c.
GONE_BY = {
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ECONNABORTED,
}


class Drain:
    """One socket, what was read from it and sent to it, and what is still to be sent to it."""

    __slots__ = (
        "_events",
        "_held",
        "_pipe",
        "armed",
        "chain",
        "ended",
        "lost",
        "number",
        "other",
        "pair",
        "queue",
        "received",
        "said",
        "sent",
        "silent",
        "sock",
        "verbs",
        "words",
    )

    other: Side

    def __init__(self, pair: Pair, sock: socket.socket | None) -> None:
        self.pair = pair
        self.sock = sock
        self.received = 0  # bytes read from it
        self.sent = 0  # bytes sent to it
        self.ended: Mark | None = None  # how its peer ended what it says: FIN, RST
        self.said: Mark | None = None  # how we did
        self.lost = 0  # the errno with which the connection went, or 0
        self.queue: deque[Item] | None = None  # what it could not take yet
        self.chain: Chain | None = None  # the stages that what is read from it goes through
        self.number = -1 if sock is None else sock.fileno()
        self.armed: tuple[Armed, ...] = ()  # faults that are to set in
        self.verbs: Verbs | None = None  # what a fault has done to it
        self.words: Words | None = None  # the last ones; what comes is thrown away then
        self.silent = False  # a fault lets nothing be sent to it
        self._pipe: Pipe | None = None  # for what is read from it
        self._held = False  # a fault lets nothing be read
        self._events = -1  # what it is watched for; -1: it is not watched

    # As the destination.

    def put(self, item: Item) -> None:
        """Send it, or keep it until that is possible."""
        if self.sock is None:
            self.pair.unsaid(item)
            return
        pipe = self.other._pipe
        if self.queue is not None or (pipe is not None and pipe.held):
            self.keep(item)
            self.watch()
            return
        if type(item) is Mark:
            self._say(item)
        elif not self._send(item):
            self.watch()

    def keep(self, item: Item) -> None:
        """Have it sent later, in its turn."""
        if self.queue is None:
            self.queue = deque()
        self.queue.append(item)

    @property
    def piped(self) -> int:
        """Bytes that were read from it and are in its pipe."""
        return self._pipe.held if self._pipe else 0

    def _send(self, item: Item) -> bool:
        """Send a piece; what is left of it is first in the queue then. Is all of it gone?"""
        assert self.sock and not isinstance(item, Mark)
        if self.said or self.lost:
            return True  # nobody is told
        whole = item
        for one in self.armed:
            if one.takes(item):
                return True
            item = item[: one.may_send(item)]
        if not item:
            self._keep_first(whole)
            return False
        flags = DONTWAIT | (OOB if type(item) is Urgent else EOR if type(item) is Slice else 0)
        try:
            sent = self.sock.send(item, flags)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.send_failed(error)
            return True
        self.sent += sent
        all_gone = sent == len(whole)
        if not all_gone:
            self._keep_first(type(whole)(whole[sent:]))
        if self.pair.counting:
            self.pair.spoke(self)
        return all_gone

    def _keep_first(self, item: Item) -> None:
        if self.queue is None:
            self.queue = deque()
        self.queue.appendleft(item)

    def _send_more(self) -> None:
        """There is room again."""
        if self.words:
            if self.words.say():
                self._watch_for(READ)
            return
        source = self.other
        if source._pipe and source._pipe.held:
            source.empty_pipe()
            if source.piped:
                return
            if source.ended and self.queue is None:
                source.give_back()
                self._after_pipe(source)
        self.drain()

    def _after_pipe(self, source: Side) -> None:
        assert source.ended
        if source.chain is not None:
            source.chain.put(source.ended)
        else:
            self.put(source.ended)

    def drain(self) -> None:
        """Send what waits, as far as it goes."""
        if self.silent or self.sock is None:
            return
        while self.queue and not self.silent:
            item = self.queue.popleft()
            if type(item) is Mark:
                self.queue = None
                self._say(item)
                return
            if not self._send(item):
                return
            if self.queue is None:
                return
        if self.silent:
            return
        self.queue = None
        self.watch()
        self.other.watch()

    def _say(self, mark: Mark) -> None:
        """All before it is sent."""
        if self.said and mark is not RST:
            return
        if mark is CLOSE:
            self.pair.close("limit")
        elif mark is RST:
            self.pair.leave(self)
        elif mark is GONE:
            self.close_read()
            self.pair.side_gone()
        else:
            self.said = FIN
            if self.other.said and self.ended:
                pass  # closing it says so too
            elif self.sock is not None:
                try:
                    self.sock.shutdown(socket.SHUT_WR)
                except OSError as error:
                    if error.errno != errno.ENOTCONN:  # it is reset already, which the next read tells
                        raise
            if self.other.said:
                self.pair.half_closed()

    def send_failed(self, error: OSError) -> None:
        """Its connection is gone. What it has said before that is still passed on."""
        if error.errno not in GONE_BY:
            raise error
        self.lost = self.lost or error.errno or errno.ECONNRESET
        self.queue = None
        if self.ended:
            self._end()
        else:
            self.watch()
            if self._events & EPOLLIN:
                self.read()

    def _leave_if_sent(self) -> None:
        assert self.sock
        if not unsent(self):
            self.pair.left()

    def wait_for_sent(self) -> None:
        """Have `pair.left` called when the kernel has sent all that it was given."""
        assert self.sock
        # With the least TCP_NOTSENT_LOWAT (tcp(7)) a socket is writable when nothing is unsent.
        self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1)
        self._watch_for(EPOLLOUT)

    # Being watched.

    def watch(self) -> None:
        """Be watched for what it can be used for now."""
        if self.sock is None or self.pair.leaving is not None or self.words:
            return
        other, pipe, chain = self.other, self._pipe, self.chain
        its = other._pipe
        events = 0
        if (self.queue is not None or (its is not None and its.held)) and not self.silent and not self.lost:
            events = EPOLLOUT
        if (
            self.ended is None
            and not self._held
            and other.queue is None
            and (pipe is None or not pipe.held)
            and (chain is None or chain.room)
        ):
            events |= READ
        if events != self._events:
            self._watch_for(events)

    def watch_if_open(self) -> None:
        """`watch`, where there is a service to pass it on to: connected, and not given up."""
        if self.pair.begun and self._events != -1 and self.other.sock is not None:
            self.watch()

    def watch_end(self) -> None:
        """Be watched for nothing but that its connection is gone."""
        self._watch_for(0)

    def _watch_for(self, events: int) -> None:
        if self._events == -1:
            self.pair.loop.watch(self.number, self, events)
        else:
            self.pair.loop.rewatch(self.number, events)
        self._events = events

    def unwatch(self) -> None:
        """Be watched no more."""
        if self._events != -1:
            self._events = -1
            self.pair.loop.forget(self.number)

    def hold(self, yes: bool) -> None:
        """Read nothing more, or again."""
        self._held = yes
        self.watch()

    def hush(self, yes: bool) -> None:
        """Send nothing more to it, or again: what comes meanwhile waits, and so does who says it."""
        self.silent = yes
        if yes and self.queue is None:
            self.queue = deque()
        elif not yes:
            self.drain()
        self.watch()
        self.other.watch()

    # What it is as the source, too (`faultkit.proxying.side`).

    def read(self) -> None:
        """Read once, and pass it on."""
        raise NotImplementedError

    def ready(self, events: int, /) -> None:
        """These events are there."""
        raise NotImplementedError

    def failed(self, error: Exception, /) -> None:
        """Something of ours is broken."""
        raise NotImplementedError

    def close(self, how: Mark = FIN) -> None:
        """Close the socket."""
        raise NotImplementedError

    def close_read(self) -> None:
        """Close it with everything read."""
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError

    def empty_pipe(self) -> None:
        """Send what is in its pipe."""
        raise NotImplementedError

    def give_back(self) -> None:
        """Its pipe is empty, and somebody else's."""
        raise NotImplementedError


def unsent(side: Drain) -> int:
    """Bytes that the kernel has not sent yet; none where the connection is gone."""
    assert side.sock
    return sockets.clock(side.sock).unsent if sockets.state(side.sock) != "CLOSED" else 0
