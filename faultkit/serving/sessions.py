"""The connections of one server that go on, each from its accept to its end. Everything here runs in the engine's loop."""

from __future__ import annotations

import errno
import functools
import socket
import ssl
from collections.abc import Callable

import trio

from faultkit import sockets
from faultkit.errors import Misuse
from faultkit.serving import answers
from faultkit.serving.answers import Handler
from faultkit.serving.connection import Live
from faultkit.serving.engine import PATIENCE, Engine
from faultkit.serving.faults import Fault
from faultkit.serving.record import Connection


class Sessions:
    """A connection has a task only when it has something to say; until then it waits in the engine's epoll."""

    def __init__(
        self,
        handler: Handler,
        tls: ssl.SSLContext | None,
        over: Callable[[Connection], None],
        failed: Callable[[int, BaseException], None],
    ) -> None:
        self.tasks = 0
        self._live: dict[int, Live] = {}  # by the connection's number
        self._handler = handler
        self._tls = tls
        self._over = over  # told of each connection whose socket is closed
        self._failed = failed  # told of an error that is no client's
        self._idle: trio.Event | None = None
        # What says nothing before the client does, and waits for no clock, needs no task until then.
        self.own = answers.speaks_first(handler)  # the handler is the test's
        self.lean = tls is None and not self.own

    def __len__(self) -> int:
        return len(self._live)

    def begin(
        self, engine: Engine, sock: socket.socket, record: Connection, fault: Fault | None, *, spared: bool = False
    ) -> None:
        """A connection is accepted. Spared: its fault sets in at fire() alone."""
        live = Live(sock, record, fault, engine, self._tls, self._broke)
        live.spared = spared
        self._live[record.number] = live
        try:
            self._begin(live)
        except Exception as error:  # it is this connection's, and others wait at the door
            self._broke(live, error)

    def _begin(self, live: Live) -> None:
        fault = live.armed
        if fault and fault.when.kind == "accept":
            self._fire(live)
            if live.record.ended or live.has_task:
                return
        if fault and fault.when.kind == "idle":
            self.tasks += 1
            live.start_beside(functools.partial(self._expire, fault))
        if not self.lean:
            self._start(live)
        else:
            self._look(live)

    def fire(self) -> Misuse | None:
        """Let the faults set in that have not, triggers or not. Gives why one cannot, the first."""
        refused: Misuse | None = None
        for live in list(self._live.values()):
            live.arm()
            try:
                cannot = self._cannot_fire(live)
            except OSError as error:  # a handler has closed its socket by itself
                self._broke(live, error)
                continue
            if cannot is None:
                self._fire(live)
            refused = refused or cannot
        return refused

    def heal(self) -> None:
        """What hangs goes on, and what has not set in does not."""
        for live in list(self._live.values()):
            live.spare()
            try:
                live.heal()
            except OSError as error:  # a handler has closed its socket by itself
                self._broke(live, error)

    def end(self) -> None:
        """End those without a task, and begin to end the others."""
        for live in list(self._live.values()):
            if live.has_task:
                live.stop()
            else:
                self._end(live, "server closed")

    async def ended(self) -> None:
        """Wait until every task has come to its end, but no longer than a handler has a right to."""
        with trio.move_on_after(PATIENCE) as patience:
            while self.tasks:
                self._idle = trio.Event()
                await self._idle.wait()
        if patience.cancelled_caught:
            self._failed(
                min(self._live, default=0), TimeoutError(f"it did not end within {PATIENCE:g} s of being cancelled")
            )

    def _look(self, live: Live, *, readable: bool = False) -> None:
        """See what a connection without a task is to do: its fault, a task, or wait for its first bytes."""
        fault = live.armed
        if fault and fault.when.kind == "bytes":
            # Often they are there as soon as it is accepted.
            try:
                if live.met(fault):
                    self._fire(live)
                    if live.record.ended or live.has_task:
                        return
                readable = True
            except BlockingIOError:
                pass
            except OSError as error:
                self._end(live, self._how(live, error))
                return
        if readable:
            self._start(live)
        else:
            live.park(functools.partial(self._look, live, readable=True))

    def _cannot_fire(self, live: Live) -> Misuse | None:
        fault = live.armed
        if fault and fault.served.holds_fin:
            return Misuse(f"fire(): {fault.name} needs an answer to hold its FIN back behind: it sets in {fault.when}")
        if fault and fault.served.unread and not sockets.unread(live.sock):
            return Misuse(
                f"fire(): {fault.name} leaves received bytes unread, and connection {live.record.number} has none"
            )
        return None

    def _fire(self, live: Live) -> None:
        """Let its fault set in. Where it has a task, the task says that it is over."""
        try:
            live.fire()
        except (OSError, Misuse) as error:
            self._broke(live, error)
        else:
            if live.record.ended:
                self._over_with(live)
            elif live.draining and not live.has_task:
                self._start(live)

    def _broke(self, live: Live, error: BaseException) -> None:
        """Something went wrong with it that no task of its own is told of."""
        live.record.end(self._how(live, error))
        self._over_with(live)

    def _over_with(self, live: Live) -> None:
        if live.has_task:
            live.stop()
        else:
            self._end(live)

    def _start(self, live: Live) -> None:
        """Give it a task."""
        self.tasks += 1
        live.start_soon(self._session)

    async def _session(self, live: Live) -> None:
        how = "server closed"
        try:
            await live.run(self._handler)
            how = live.how
        except (trio.Cancelled, KeyboardInterrupt):
            raise
        except BaseException as error:  # pytest.fail() raises one too, and would end the servers of all tests
            how = self._how(live, error)
        finally:
            self._end(live, how)
            self._task_ended()

    async def _expire(self, fault: Fault, live: Live) -> None:
        """Let it set in when no byte has come or gone for so long, whatever its handler waits for: by the kernel's clock."""
        try:
            with live.clock:
                # No event tells of it. It may have ended before this task came to its first step, or to the next.
                while not live.record.ended and (left := fault.when.amount - live.quiet_seconds) > 0:  # noqa: ASYNC110
                    await trio.sleep(left)
                self._fire(live)
        except Exception as error:  # a handler has closed its socket by itself
            self._broke(live, error)
        finally:
            self._task_ended()

    def _task_ended(self) -> None:
        self.tasks -= 1
        if self._idle is not None:  # an Event has no truth
            self._idle.set()

    def _end(self, live: Live, how: str = "") -> None:
        """It has ended: so, unless it is written down already. Its socket is closed."""
        if self._live.pop(live.record.number, None):
            live.shut(how)
            self._over(live.record)

    def _how(self, live: Live, error: BaseException) -> str:
        """How a connection ended that an exception ended: by its peer or the network, or else by a mistake in the handler."""
        if lost := _lost(error):
            return f"lost: {lost}"
        if live.record.ended and _closed(error):
            return live.record.ended  # by a fault or a verb, while a task of it waited
        self._failed(live.record.number, error)
        return "failed"


# What the calls on a connection give when it is gone: recv(2), send(2), shutdown(2), tcp(7), icmp.c.
_LOST = {
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}


def _closed(error: BaseException) -> bool:
    """Is it only what is told to whoever waits for a connection that has ended?"""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_closed, error.exceptions))
    return isinstance(error, trio.ClosedResourceError | trio.Cancelled)


def _lost(error: BaseException | None) -> str | None:
    """What the peer or the network did to the connection, where this error says that; a handler may have wrapped it."""
    if isinstance(error, BaseExceptionGroup):
        found = [_lost(one) for one in error.exceptions]
        return found[0] if all(found) else None
    if isinstance(error, trio.BrokenResourceError):
        return _lost(error.__cause__) or str(error.__cause__ or error)
    if isinstance(error, ssl.SSLError):  # its errno is none
        return error.reason or None
    if isinstance(error, OSError) and error.errno in _LOST:
        return errno.errorcode[error.errno]
    return None
