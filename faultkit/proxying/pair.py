"""One proxied connection: two sides, from the accept until both are closed. It is its own record."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLOUT
from typing import TYPE_CHECKING

from faultkit.evidence.transcript import Address
from faultkit.proxying.armed import Armed
from faultkit.proxying.chain import Chain
from faultkit.proxying.counted import Counted
from faultkit.proxying.drain import Drain, unsent
from faultkit.proxying.resolving import Found
from faultkit.proxying.side import Side
from faultkit.proxying.stages import FIN, RST, Item, Mark, Waits
from faultkit.proxying.verbs import Upstream
from faultkit.serving.record import size
from faultkit.serving.which import Opening

if TYPE_CHECKING:
    from faultkit.proxying.accepting import Accepting
    from faultkit.proxying.loop import Loop
    from faultkit.proxying.pipes import Pipes


KIND = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)  # of a socket towards the service


class Pair(Counted):
    """What one connection through a proxy does: `received` from the client, `sent` to it, and the same of `upstream`."""

    __slots__ = ()

    def __init__(self, proxy: Accepting, number: int, sock: socket.socket | None, peer: Address | None) -> None:
        self.proxy = proxy
        self.loop: Loop = proxy.loop
        self.pipes: Pipes = proxy.pipes
        self.client = Side(self, sock)
        self.upstream = Side(self, None)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.leaving: Drain | None = None  # the one that gets RST when all is sent
        self.found: Found = []  # addresses of the service that were not tried
        self.armed: tuple[Armed, ...] = ()  # faults that are to set in
        self.asking = False  # a request was begun and is not answered
        self.orphaned = False  # a fault has closed one side, and the other is to follow
        self._answered = True
        self._later: tuple[Waits, ...] = ()  # toxics that are to set in
        self._record: Upstream | None = None  # what a fault towards the service counts
        self.choose: Callable[[Opening], None] | None = None  # asked when its first bytes are there
        self.begun = False
        super().__init__(number, peer, "ok", proxy.waiting)

    # What the record says.

    @property
    def received(self) -> int:
        """Bytes read from the client."""
        return self.client.received

    @received.setter
    def received(self, count: int) -> None:
        self.client.received = count

    @property
    def sent(self) -> int:
        """Bytes sent to the client."""
        return self.client.sent

    @sent.setter
    def sent(self, count: int) -> None:
        self.client.sent = count

    @property
    def state(self) -> str:
        """ "connecting", "open", "client closed", "upstream closed", "closing", or "closed"."""
        if self.over or self.ended:
            return "closed"
        if not self.begun:
            return "connecting"
        if self.leaving:
            return "closing"
        if self.client.ended and self.upstream.ended:
            return "closing"
        if self.client.ended:
            return "client closed"
        return "upstream closed" if self.upstream.ended else "open"

    def document(self) -> dict[str, object]:
        return {
            **super().document(),
            "state": self.state,
            "received_from_upstream": self.upstream.received,
            "sent_to_upstream": self.upstream.sent,
            "toxics": [name for side in (self.client, self.upstream) if side.chain for name in side.chain.names],
        }

    def __repr__(self) -> str:
        fired = "".join(f", {met.fault} fired after {met.after_seconds:.4f} s" for met in self.met)
        return (
            f"<connection {self.number} from {self.peer}: {size(self.received)} in, {self.sent} out, upstream "
            f"{self.upstream.received} in, {self.upstream.sent} out{fired}, {self.ended or self.state}>"
        )

    # Its beginning.

    def connect(self, found: Found) -> None:
        """Connect to the service, at the first of these addresses that takes it."""
        family, address = found[0]
        self.found = found[1:]
        try:
            sock = socket.socket(family, KIND)
        except OSError as error:
            self.proxy.lacking(error)
            self.refused(error)
            return
        side = self.upstream
        side.sock, side.number = sock, sock.fileno()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = sock.connect_ex(address)
        if refusal == errno.EINPROGRESS:
            # Over loopback it is often there already.
            try:
                sock.getpeername()
            except OSError:
                self.loop.watch(side.number, _Connecting(self), EPOLLOUT)
                self.client.watch_end()
                return
        elif refusal:
            self.refused(OSError(refusal, "connect"))
            return
        self.connected()

    def connected(self) -> None:
        """The service has taken it: what there is goes to and fro from now on."""
        self.begun = True
        if self.proxy.tell:
            self.proxy.connected(self)
        self.upstream.watch()
        self.client.watch()
        for one in self.armed:
            one.begin()

    def refused(self, error: OSError) -> None:
        """The service has not taken it."""
        self.upstream.close()
        if self.found:
            self.connect(self.found)
        else:
            self.proxy.upstream_down(self, error)

    # What the sides tell.

    def half_closed(self) -> None:
        """FIN was said in a direction."""
        if self.client.said and self.upstream.said and self.leaving is None:
            self._over("closed")

    def lost(self, side: Side) -> None:
        """One side is gone: what it said goes on to the other, and then RST."""
        self.end(f"lost: {errno.errorcode.get(side.lost, 'ECONNRESET')} from the {self.which(side)}")

    def which(self, side: Side) -> str:
        """Its word."""
        return "client" if side is self.client else "upstream"

    def leave(self, side: Drain) -> None:
        """RST to that side, when the kernel has sent it what it was given."""
        self.leaving = side
        side.other.close(RST)
        if side.sock is None or not unsent(side):
            self.left()
        else:
            side.wait_for_sent()

    def left(self) -> None:
        """All is sent: RST."""
        if self.leaving:
            self.leaving.close(RST)
        self._over("reset")

    def side_gone(self) -> None:
        """One side is closed."""
        if self.client.sock is None and self.upstream.sock is None:
            self._over(self.ended or "closed")

    def unsaid(self, item: Item) -> None:
        """Something is to be said to a side that is not there: not yet, or no more."""
        if item is RST and not self.begun:
            self._over("reset")

    # What toxics, faults and the proxy do.

    def chain(self, side: Side) -> Chain:
        """The stages of what is read from that side, made where there are none."""
        if side.chain is None:
            side.unpipe()
            side.chain = Chain(side)
        return side.chain

    def unchain(self, side: Side) -> None:
        """Without stages it goes straight again."""
        if side.chain is not None and side.chain.empty:
            side.chain = None
            side.watch_if_open()

    def close(self, why: str) -> None:
        """FIN to both ends, now, after what the kernel has for them."""
        for side in (self.client, self.upstream):
            if side.queue:
                side.drain()
        self._over(why)

    def reset(self, why: str) -> None:
        """RST to both ends, now."""
        self._over(why, RST)

    def broke(self, error: Exception) -> None:
        """Something of ours is broken."""
        self._over(f"failed: {type(error).__name__}", RST)
        self.proxy.broke(self, error)

    def _over(self, how: str, mark: Mark = FIN) -> None:
        if self.over:
            return
        self.over = True  # nobody who is told on the way does it again
        self.end(how)
        for one in self.armed:
            one.disarm()
        self._later = ()
        for side in (self.client, self.upstream):
            if side.chain:
                side.chain.stop()
            side.close(mark)
        self.proxy.over(self)


class _Connecting:
    """A connect(2) that is under way."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def ready(self, events: int, /) -> None:
        pair = self._pair
        sock = pair.upstream.sock
        assert sock
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error and not events & (EPOLLERR | EPOLLHUP):
            try:
                sock.getpeername()
            except OSError:
                return  # an event of another socket that had its number
        pair.loop.forget(sock.fileno())
        if error and error != errno.ECONNRESET:
            pair.refused(OSError(error, "connect"))
            return
        pair.upstream.lost = error  # it was taken and then reset: refused it would be ECONNREFUSED (tcp_reset())
        pair.connected()

    def failed(self, error: Exception, /) -> None:
        self._pair.broke(error)
