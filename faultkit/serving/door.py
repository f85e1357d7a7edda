"""The listening socket of a server, and what can be wrong with it before there is a connection."""

from __future__ import annotations

import errno
import functools
import random
import socket

from faultkit import sockets
from faultkit.evidence.transcript import Address
from faultkit.stage import sysctl
from faultkit.witness.kernel import counters

BACKLOG = 4096  # net.core.somaxconn's default, which bounds it
DRAWS = 1000  # ports tried before the kernel is asked; arbitrary: most are free
DRAW = random.SystemRandom()  # a test's own seeded stream must not be drawn from


@functools.cache
def ephemeral() -> tuple[int, int]:
    """The ports that the kernel gives out, first and last (ip-sysctl.rst)."""
    first, last = map(int, sysctl.read("ipv4.ip_local_port_range", otherwise="32768 60999").split())
    return first, last


class Door:
    """A port that is ours until `close`, listened on or not.

    A client that is refused, or whose SYN is dropped, never reaches a program; `turned_away` says whether the kernel saw one.
    """

    def __init__(self, family: socket.AddressFamily, host: str, port: int) -> None:
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self._family = family
        try:
            self._bind(host, port)
        except BaseException:
            self.sock.close()
            raise
        self.sock.setblocking(False)
        self.address = Address(*self.sock.getsockname()[:2])
        self.listening = False
        self._resets: int | None = None  # OutRsts of the namespace when it began to refuse
        self._turned_away = False
        self._dropped = 0  # SYNs that this socket had dropped before what is asked about
        self._fillers: list[socket.socket] = []  # connections of our own, in the accept queue
        self._ours: set[Address] = set()  # their addresses, until they are accepted

    def _bind(self, host: str, port: int) -> None:
        # Only a port that is named to bind() stays bound when listening ends (SOCK_BINDPORT_LOCK in tcp_disconnect()), so
        # a free one is drawn, not asked for. And only a bind() without SO_REUSEADDR keeps others out while nobody listens.
        for _ in range(1 if port else DRAWS):
            try:
                self.sock.bind((host, port or DRAW.randint(*ephemeral())))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return
        # A port that is named may be in TIME-WAIT, which is no reason to refuse it.
        self._reusable(True)
        self.sock.bind((host, port))

    def _reusable(self, yes: bool) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, yes)

    def open(self) -> None:
        """Listen, and hear: undo whatever was done."""
        self._turned_away = self.turned_away
        sockets.heal(self.sock)
        if not self.listening:
            self._reusable(True)  # or connections of ours in TIME-WAIT would forbid it to listen again
            self.sock.listen(BACKLOG)
            self.listening = True
        if self._fillers:
            for filler in self._fillers:
                if sockets.state(filler) != "ESTABLISHED":
                    self._ours.discard(Address(*filler.getsockname()[:2]))
                filler.close()
            self._fillers.clear()
            self.sock.listen(BACKLOG)

    def accept(self) -> tuple[socket.socket, Address]:
        """A client's connection, which is not one of our own fillers. Raises as accept(2) does."""
        while True:
            # What socket.accept() does, but for the enums of family and type that it makes anew each time.
            descriptor, peer = self.sock._accept()  # type: ignore[attr-defined]
            sock = socket.socket(self._family, socket.SOCK_STREAM, 0, descriptor)
            address = Address(peer[0], peer[1])
            if not self._ours or address not in self._ours:
                return sock, address
            self._ours.discard(address)
            sock.close()

    def refuse(self) -> None:
        """Keep the port, and do not listen on it: a SYN is answered with RST, connect() gets ECONNREFUSED."""
        if self.listening:
            self.sock.shutdown(socket.SHUT_RD)  # inet_shutdown() of a listening socket: it may listen again
            self.listening = False
        self._reusable(False)
        self._resets = counters()["TcpOutRsts"]

    def hang(self) -> None:
        """Hear no SYN: connect() waits until the client gives up, or ETIMEDOUT after net.ipv4.tcp_syn_retries."""
        self.open()
        sockets.black_hole(self.sock)

    def fill(self) -> None:
        """Let the accept queue be full, with a backlog of 0 and one connection of our own: SYNs are dropped."""
        self.open()
        self.sock.listen(0)
        filler = socket.socket(self.sock.family, socket.SOCK_STREAM)
        self._fillers.append(filler)
        filler.setblocking(False)  # where a client was quicker, its connection fills the queue, and this one waits
        filler.connect_ex(self.address)
        self._ours.add(Address(*filler.getsockname()[:2]))

    def defer(self, yes: bool = True) -> None:
        """Show a connection only when it has sent something (TCP_DEFER_ACCEPT, tcp(7)): its connect() has returned then."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60 if yes else 0)  # seconds; arbitrary

    def forget(self, *, defer: bool) -> None:
        """Nobody has been turned away yet."""
        self.defer(defer)
        self._turned_away, self._resets = False, None
        self._dropped = sockets.dropped(self.sock)

    @property
    def waiting(self) -> int:
        """How many connections wait to be accepted: tcp_get_info() of a listening socket says it there."""
        return sockets.clock(self.sock).unacknowledged

    def reset_waiting(self) -> None:
        """Stop listening for a moment: every connection that waits to be accepted is reset (inet_csk_listen_stop()).

        A client that comes in that very moment is refused, as at every restart.
        """
        self.sock.shutdown(socket.SHUT_RD)
        self.sock.listen(BACKLOG)

    @property
    def turned_away(self) -> bool:
        """May a client have met a closed door? Where SYNs are dropped this socket's own count says so. A refusal counts for
        the whole network namespace (OutRsts), so False is certain, and True is not."""
        if self.sock.fileno() == -1:
            return self._turned_away
        refusing = self._resets is not None and not self.listening
        refused = refusing and counters()["TcpOutRsts"] > (self._resets or 0)
        return self._turned_away or refused or sockets.dropped(self.sock) > self._dropped

    def close(self) -> None:
        """Let go of the port."""
        self._turned_away = self.turned_away
        for filler in self._fillers:
            filler.close()
        self.sock.close()
