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
from collections import deque
from select import EPOLLIN, EPOLLOUT, EPOLLPRI
from typing import TYPE_CHECKING

from faultkit import sockets
from faultkit.proxying.drain import BAD, DONTWAIT, GONE_BY, OOB, READ, Drain
from faultkit.proxying.pipes import PIPE
from faultkit.proxying.stages import CHUNK, FIN, RST, Mark, Urgent

if TYPE_CHECKING:
    from faultkit.proxying.chain import Chain
    from faultkit.proxying.verbs import Words

BUFFER = bytearray(CHUNK)
VIEW = memoryview(BUFFER)
SIOCATMARK = 0x8905  # asm-generic/sockios.h
SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
LITTLE = 16384  # bytes: a splice that gives less is no bulk any more; arbitrary


class Side(Drain):
    """One socket, what was read from it and sent to it, and what is still to be sent to it."""

    __slots__ = ()

    # What the loop says.

    def ready(self, events: int, /) -> None:
        """There is something to read, room to send, an urgent byte, or an end."""
        if (
            self._events == READ
            and self._pipe is None
            and self.chain is None
            and self.words is None
            and not events & EPOLLPRI
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
            self._end()
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
                    # splice(2) heeds the descriptor's own O_NONBLOCK, and accept(2) gives none.
                    for side in (self, other):
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
            self.give_back()
            self._pass_on()
            return
        except OSError as error:
            self.give_back()
            self._gone(error)
            return
        if not size:
            self.give_back()
            self._end()
            return
        self.received += size
        pipe.held = size
        self.empty_pipe()
        if size < LITTLE and self._pipe is pipe and not pipe.held:
            self.give_back()

    def empty_pipe(self) -> None:
        """Send what is in its pipe, as far as it goes."""
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

    def give_back(self) -> None:
        """Its pipe is empty, and somebody else's."""
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
            self._end()
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
                self._end()
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(error)
            return
        for one in self.armed:
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
            self._return_empty()
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

    def _return_empty(self) -> None:
        if self._pipe and not self._pipe.held:
            self.give_back()

    def _gone(self, error: OSError) -> None:
        if error.errno not in GONE_BY:
            raise error
        self.lost = self.lost or error.errno or 0
        self._end()

    def _end(self) -> None:
        """Its peer says no more: FIN, or RST where the connection is lost."""
        mark = RST if self.lost else FIN
        self.ended = mark
        if mark is RST:
            self.queue = None  # nobody takes it
            self.other._drop_pipe()
            self.pair.lost(self)
        elif self.silent:  # nobody is told any more, and nobody is there to be told
            self.pair.close(f"{self.pair.which(self)} closed")
            return
        if self._pipe is not None:
            if self._pipe.held:
                self.watch()
                return  # it is told when that is sent
            self.give_back()
        if self.chain is not None:
            self.chain.put(mark)
        else:
            self.other.put(mark)
        if not self.pair.over:
            self.watch()
            if mark is RST:
                self.other.watch()  # who waited for room here

    def _bad(self) -> None:
        """Its connection is over while nothing is read from it."""
        assert self.sock
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error or self.lost:
            self.lost = self.lost or error
            if self.ended is not RST and self._all_read():
                self._end()
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

    # Its stages, its end.

    def unpipe(self) -> None:
        """What is in its pipe goes before what comes through stages."""
        if self._pipe and self._pipe.held:
            held = os.read(self._pipe.beginning, self._pipe.held)
            self._pipe.held -= len(held)
            self.other.queue = deque([held, *(self.other.queue or ())])
        self.give_back()

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
            self._drop_pipe() if self._pipe.held else self.give_back()
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
