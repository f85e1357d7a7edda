"""One socket of a proxied connection: what is read from it goes to the other side, with nothing kept while it goes.

What the other side does is done to this one: FIN as FIN in its direction only, RST as RST, and a reader that stops stops the
writer. Nothing here knows of toxics but that there may be stages between the two.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.proxying.pipes import PIPE, Pipe
from faultkit.proxying.stages import CHUNK, CLOSE, FIN, GONE, RST, Item, Mark, Slice, Urgent

if TYPE_CHECKING:
    from faultkit.proxying.armed import Armed
    from faultkit.proxying.chain import Chain
    from faultkit.proxying.pair import Pair
    from faultkit.proxying.verbs import Verbs, Words

BUFFER = bytearray(CHUNK)
VIEW = memoryview(BUFFER)
SIOCATMARK = 0x8905  # asm-generic/sockios.h
TCP_NOTSENT_LOWAT = 25  # include/uapi/linux/tcp.h
DONTWAIT, OOB, EOR = socket.MSG_DONTWAIT, socket.MSG_OOB, socket.MSG_EOR
READ, BAD = EPOLLIN | EPOLLPRI, EPOLLERR | EPOLLHUP
SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
LITTLE = 16384  # bytes: a splice that gives less is no bulk any more; arbitrary

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


class Side:
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
        self.armed: list[Armed] = []  # faults that are to set in
        self.verbs: Verbs | None = None  # what a fault has done to it
        self.words: Words | None = None  # the last ones; what comes is thrown away then
        self.silent = False  # a fault lets nothing be sent to it
        self._pipe: Pipe | None = None  # for what is read from it
        self._held = False  # a fault lets nothing be read
        self._events = -1  # what it is watched for; -1: it is not watched

    # What the loop says.

    def ready(self, events: int, /) -> None:
        """There is something to read, room to send, an urgent byte, or an end."""
        if (
            events & EPOLLIN
            and self._events & EPOLLIN
            and self._pipe is None
            and self.chain is None
            and events == EPOLLIN
        ):
            self._pass_on()
            return
        if self.pair.leaving is not None:
            if self.pair.leaving is self:
                self._leave_if_sent()
            return
        if events & EPOLLOUT:
            self._send_more()
        if self._events & EPOLLIN:
            if events & EPOLLPRI:
                self._pass_urgent()
            elif events & (EPOLLIN | BAD):
                self.read()
        elif events & BAD:
            self._bad()

    def failed(self, error: Exception, /) -> None:
        """Something of ours is broken: the connection with it."""
        self.pair.broke(error)

    # As the source.

    def read(self) -> None:
        """Read once, and pass it on."""
        if self.sock is None or self.ended:
            return
        if self.words:
            self._throw_away()
        elif self.chain is not None:
            self._read_for(self.chain)
        elif self._pipe is not None:
            self._splice()
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        sock, other = self.sock, self.other
        assert sock
        try:
            size = sock.recv_into(BUFFER, CHUNK, DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(error)
            return
        if not size:
            self._heard_fin()
            return
        self.received += size
        if other.sock is None:
            return  # a fault has closed it
        if other.queue is None:
            try:
                sent = other.sock.send(VIEW[:size], DONTWAIT)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                other.send_failed(error)
                return
            other.sent += sent
            if sent == size:
                if size == CHUNK:
                    self._pipe = self.pair.pipes.take()
                    for side in (
                        self,
                        other,
                    ):  # splice(2) heeds the descriptor's own O_NONBLOCK, and accept(2) gives none
                        os.set_blocking(side.number, False)
                return
            other.queue = deque([bytes(VIEW[sent:size])])
        else:
            other.keep(bytes(VIEW[:size]))
        other.watch()
        self.watch()

    def _splice(self) -> None:
        """Bulk: from socket to socket through a pipe, without a copy."""
        pipe, other = self._pipe, self.other
        assert pipe and self.sock and other.sock
        try:
            size = os.splice(self.number, pipe.end, PIPE, flags=SPLICE)
        except BlockingIOError:
            # Nothing is there, or an urgent byte is in the way (tcp_read_sock()).
            self._give_back()
            self._pass_on()
            return
        except OSError as error:
            self._give_back()
            self._gone(error)
            return
        if not size:
            self._give_back()
            self._heard_fin()
            return
        self.received += size
        pipe.held = size
        self._empty_pipe()
        if size < LITTLE and self._pipe is pipe and not pipe.held:
            self._give_back()

    def _empty_pipe(self) -> None:
        pipe, other = self._pipe, self.other
        assert pipe and other.sock
        try:
            sent = os.splice(pipe.beginning, other.number, pipe.held, flags=SPLICE)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._drop_pipe()
            other.send_failed(error)
            return
        other.sent += sent
        pipe.held -= sent
        if pipe.held or self._events != READ:
            other.watch()
            self.watch()

    def _give_back(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe:
            self.pair.pipes.give(pipe)

    def _drop_pipe(self) -> None:
        """What is in it is never to be sent."""
        pipe, self._pipe = self._pipe, None
        if pipe:
            pipe.close()

    def _read_for(self, chain: Chain) -> None:
        sock = self.sock
        assert sock
        if self.pair.choose and self is self.pair.client:
            try:
                if not self.pair.decide() or self.chain is None:
                    return  # without stages it goes straight, at the next look
            except BlockingIOError:
                return
            except OSError as error:
                self._gone(error)
                return
        most = CHUNK
        for one in self.armed:
            most = min(most, one.may_read(most))
        if not most:
            self._meet_unread()
            return
        try:
            size = sock.recv_into(BUFFER, most, DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(error)
            return
        if not size:
            self._heard_fin()
            return
        self.received += size
        data = bytes(VIEW[:size])
        self.pair.hear(self)
        chain.put(data)
        self.pair.heard()
        self.watch()

    def _meet_unread(self) -> None:
        """The next byte sets a fault off, and stays where it is."""
        assert self.sock
        try:
            if not self.sock.recv(1, socket.MSG_PEEK | DONTWAIT):
                self._heard_fin()
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(error)
            return
        for one in list(self.armed):
            if not one.may_read(1):
                one.set_in()

    def _throw_away(self) -> None:
        """Read until the peer closes, and then close."""
        assert self.sock
        try:
            size = self.sock.recv_into(BUFFER, CHUNK, DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in GONE_BY:
                raise
            size = 0
        self.received += size
        if not size:
            self.close()
            self.pair.side_gone()

    def _pass_urgent(self) -> None:
        """What comes before it first: a read stops at the mark (tcp(7), SIOCATMARK)."""
        assert self.sock
        if not struct.unpack("=i", fcntl.ioctl(self.number, SIOCATMARK, bytes(4)))[0]:
            self._give_back_empty()
            self.read()
            return
        try:
            byte = self.sock.recv(1, OOB | DONTWAIT)
        except (BlockingIOError, ValueError):
            self.read()
            return
        except OSError as error:
            if error.errno == errno.EINVAL:  # it was read
                self.read()
            else:
                self._gone(error)
            return
        self.received += 1
        self.other.put(Urgent(byte))

    def _give_back_empty(self) -> None:
        if self._pipe and not self._pipe.held:
            self._give_back()

    def _heard_fin(self) -> None:
        self._end(RST if self.lost else FIN)

    def _gone(self, error: OSError) -> None:
        if error.errno not in GONE_BY:
            raise error
        self.lost = self.lost or error.errno or 0
        self._end(RST)

    def _end(self, mark: Mark) -> None:
        """Its peer says no more."""
        self.ended = mark
        if mark is RST:
            self.queue = None  # nobody takes it
            self.other._drop_pipe()
            self.pair.lost(self)
        elif self.silent:  # nobody is told any more, and nobody is there to be told
            self.pair.close(f"{self.pair.which(self)} closed")
            return
        if self._pipe and self._pipe.held:
            self.watch()
            return  # it is told when that is sent
        self._give_back()
        if self.chain is not None:
            self.chain.put(mark)
        else:
            self.other.put(mark)
        self.watch()
        self.other.watch()

    def _bad(self) -> None:
        """Its connection is over while nothing is read from it."""
        assert self.sock
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error or self.lost:
            self.lost = self.lost or error
            if self.ended is not RST and self._all_read():
                self._end(RST)
                return
        # What is to be read first waits until the other side takes it, and epoll would say the same again and again.
        self.unwatch()

    def _all_read(self) -> bool:
        """Is there nothing in the kernel that its peer has said?"""
        try:
            return self.ended is not None or not sockets.unread(self)
        except OSError:
            return True

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self.number

    # As the destination.

    def put(self, item: Item) -> None:
        """Send it, or keep it until that is possible."""
        if self.sock is None:
            self.pair.unsaid(item)
            return
        if self.queue is not None or self.other.piped:
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

    @property
    def waits(self) -> bool:
        """Is there something that it could not take yet?"""
        return self.queue is not None or bool(self.other.piped)

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
            source._empty_pipe()
            if source.piped:
                return
            if source.ended and self.queue is None:
                source._give_back()
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
            self.pair.half_closed()

    def send_failed(self, error: OSError) -> None:
        """Its connection is gone. What it has said before that is still passed on."""
        if error.errno not in GONE_BY:
            raise error
        self.lost = self.lost or error.errno or errno.ECONNRESET
        self.queue = None
        if self.ended:
            self._end(RST)
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
        events = EPOLLOUT if self.waits and not self.silent and not self.lost else 0
        if self.ended is None and not self._held:
            chain = self.chain
            if not self.other.waits and (chain is None or chain.room):
                events |= READ
        self._watch_for(events)

    def watch_if_open(self) -> None:
        """`watch`, where there is a service to pass it on to: connected, and not given up."""
        if self.pair.begun and self._events != -1 and self.other.sock is not None:
            self.watch()

    def watch_end(self) -> None:
        """Be watched for nothing but that its connection is gone."""
        self._watch_for(0)

    def _watch_for(self, events: int) -> None:
        if events == self._events:
            return
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

    # Its stages, its end.

    def unpipe(self) -> None:
        """What is in its pipe goes before what comes through stages."""
        if self._pipe and self._pipe.held:
            held = os.read(self._pipe.beginning, self._pipe.held)
            self._pipe.held -= len(held)
            self.other.queue = deque([held, *(self.other.queue or ())])
        self._give_back()

    def close_read(self) -> None:
        """Close it with everything read, or it would be a reset."""
        if self.sock is not None and not self.lost:
            try:
                while size := self.sock.recv_into(BUFFER, CHUNK, DONTWAIT):
                    self.received += size
            except OSError:
                pass  # nothing is left, or nobody is there
        self.close()

    def throw_away(self, words: Words) -> None:
        """Say the last words, and read away what comes."""
        self.words = words
        self.chain = None
        self.queue = None
        self._watch_for(READ if words.say() else READ | EPOLLOUT)

    def close(self, how: Mark = FIN) -> None:
        """Close the socket: with RST, or as the kernel does it."""
        sock, self.sock = self.sock, None
        if self._pipe:
            self._drop_pipe() if self._pipe.held else self._give_back()
        self.queue = None
        if sock is None:
            return
        self._events = -1
        self.pair.loop.closing(self.number)
        self.number = -1
        if sock.fileno() == -1:  # a fault has closed it
            return
        if self.verbs:
            sockets.heal(sock)  # or its FIN would never be acknowledged, and be sent again for minutes
        if how is RST:
            sockets.abort(sock)
        else:
            sock.close()


def unsent(side: Side) -> int:
    """Bytes that the kernel has not sent yet; none where the connection is gone."""
    assert side.sock
    return sockets.clock(side.sock).unsent if sockets.state(side.sock) != "CLOSED" else 0


def queued(side: Side) -> int:
    """Bytes that are not acknowledged (SIOCOUTQ, tcp(7))."""
    count: int = struct.unpack("=i", fcntl.ioctl(side.number, termios.TIOCOUTQ, bytes(4)))[0]
    return count
