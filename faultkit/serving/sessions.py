"""The connections of one server that go on, each from its accept to its end. Everything here runs in the engine's loop."""

from __future__ import annotations

import errno
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator

import trio

from faultkit import sockets
from faultkit.errors import Misuse, Unable
from faultkit.serving import answers, peer
from faultkit.serving.answers import Handler
from faultkit.serving.connection import Choose, Live
from faultkit.serving.engine import PATIENCE, Engine
from faultkit.serving.faults import Fault
from faultkit.serving.http1 import InTurn
from faultkit.serving.record import Connection

LOOK = 0.001  # seconds between two looks at what a client has read; arbitrary: the fault comes at most so late


class Sessions:
    """A connection has a task only when it has something to say; until then it waits in the engine's epoll."""

    def __init__(
        self,
        handler: Handler,
        tls: ssl.SSLContext | None,
        over: Callable[[Connection], None],
        failed: Callable[[int, BaseException, bool], None],
        latency_seconds: float = 0.0,
        rate: float = 0.0,
        tls_later: bool = False,
    ) -> None:
        self.tasks = 0
        self._live: dict[Live, None] = {}  # in the order of their accept
        self._handler = handler
        self._tls = tls
        self._tls_later = tls_later  # when the handler says so
        self._over = over  # told of each connection whose socket is closed
        self._failed = failed  # told of an error that is no client's, and whether it is the test's own handler's
        self._idle: trio.Event | None = None
        # What says nothing before the client does, and waits for no clock, needs no task until then.
        self.own = not answers.is_ours(handler)  # it is the test's
        self.speaks = answers.protocol(handler)
        self._stretch = (latency_seconds, rate)
        self.lean = tls is None and not answers.speaks_first(handler) and not any(self._stretch)

    def __len__(self) -> int:
        return len(self._live)

    def begin(
        self,
        engine: Engine,
        sock: socket.socket,
        record: Connection,
        fault: Fault | None,
        *,
        spared: bool = False,
        choose: Choose | None = None,
    ) -> None:
        """A connection is accepted. Spared: its fault sets in at fire() alone. Choose: it is chosen by its first bytes."""
        live = Live(sock, record, fault, engine, self._tls, self, tls_later=self._tls_later)
        live.spared = spared
        if choose:
            live.ask(choose)
        self._live[live] = None
        try:
            self._begin(live)
        except Exception as error:  # it is this connection's, and others wait at the door
            self.broke(live, error)

    def _begin(self, live: Live) -> None:
        fault = live.armed
        if any(self._stretch):
            live.stretch(*self._stretch)
        if fault and fault.when.kind == "accept":
            self._fire(live)
            if live.record.ended or live.has_task:
                return
        self.armed(live)
        if not self.lean:
            self._start(live)
        else:
            self._look(live)

    def fire(self) -> Misuse | None:
        """Let the faults set in that have not, triggers or not. Gives why one cannot, the first."""
        refused: Misuse | None = None
        for live in list(self._live):
            live.arm()
            try:
                cannot = self._cannot_fire(live)
            except OSError as error:  # a handler has closed its socket by itself
                self.broke(live, error)
                continue
            if cannot is None:
                self._fire(live)
            refused = refused or cannot
        return refused

    def heal(self) -> None:
        """What hangs goes on, and what has not set in does not."""
        for live in list(self._live):
            live.spare()
            try:
                live.heal()
            except OSError as error:  # a handler has closed its socket by itself
                self.broke(live, error)

    def renew(
        self,
        again: Callable[[Live], tuple[Connection, Fault | None]],
        choose: Callable[[Connection], Choose] | None,
    ) -> None:
        """Each counts as just come, the oldest first."""
        if isinstance(self._handler, InTurn):
            self._handler.begin_anew()
        for live in list(self._live):
            record, fault = again(live)
            live.be(record, fault, choose(record) if choose and record.number else None)
            self.armed(live)

    def reset(self) -> None:
        """Reset every one of them."""
        for live in list(self._live):
            try:
                live.abort()
            except OSError as error:  # a handler has closed its socket by itself
                self.broke(live, error)
            else:
                self._over_with(live)

    def end(self) -> None:
        """End those without a task, and begin to end the others."""
        for live in list(self._live):
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
            first = min(self._live, key=lambda live: live.record.number, default=None)
            where = f", at {first.where}" if first and first.where else ""
            late = TimeoutError(f"it did not end within {PATIENCE:g} s of being cancelled{where}")
            self._failed(first.record.number if first else 0, late, True)
            for live in self._live:
                live.unshield()

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
            self.broke(live, error)
        else:
            if live.record.ended:
                self._over_with(live)
            elif live.draining and not live.has_task:
                self._start(live)

    def broke(self, live: Live, error: BaseException) -> None:
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
            how = self._how(live, error, in_handler=self.own)
        finally:
            self._end(live, how)
            self.task_ended()

    def armed(self, live: Live) -> None:
        """Another of its faults is to set in: one that waits for a clock, or for what its client reads, has a task for that."""
        fault = live.armed
        wait = {"idle": self._quiet, "read": self._read}.get(fault.when.kind) if fault else None
        if fault and wait:
            self.tasks += 1
            live.clock.cancel()
            live.clock = trio.CancelScope()
            live.start_beside(functools.partial(self._fire_after, live.clock, functools.partial(wait, fault)))

    async def _fire_after(self, clock: trio.CancelScope, wait: Callable[[Live], Awaitable[bool]], live: Live) -> None:
        """Let its fault set in, whatever its handler waits for meanwhile."""
        try:
            with clock:
                await trio.lowlevel.checkpoint_if_cancelled()
                if await wait(live):
                    self._fire(live)
        except Exception as error:  # a handler has closed its socket by itself, for one
            self.broke(live, error)
        finally:
            self.task_ended()

    async def _quiet(self, fault: Fault, live: Live) -> bool:
        """Wait until no byte has come or gone for so long, by the kernel's clock: no event tells of it. False where the fault
        has set in already."""
        while live.armed is fault:
            left = fault.when.amount - live.quiet_seconds
            if left <= 0:
                return True
            await trio.sleep(left)
        return False

    async def _read(self, fault: Fault, live: Live) -> bool:
        """Wait until the client's program has read so much, or all that was sent: no event tells of it. False where the fault has
        set in already, or nobody is there to read."""
        while live.armed is fault:
            live.spoke = trio.Event()
            whole = peer.has_read(live.sock)
            if whole is None:
                if live.comes_from_elsewhere:
                    raise Unable("the client's socket is not in this network namespace: nobody tells what it has read")
                return False  # it is gone
            if live.is_read(fault, whole):
                return True
            with trio.move_on_after(float("inf") if whole >= live.raw else LOOK):
                await live.spoke.wait()
        return False

    def task_ended(self) -> None:
        """One that was counted in `tasks` has."""
        self.tasks -= 1
        if self._idle is not None:  # an Event has no truth
            self._idle.set()

    def _end(self, live: Live, how: str = "") -> None:
        """It has ended: so, unless it is written down already. Its socket is closed."""
        if live in self._live:
            del self._live[live]
            live.shut(how)
            self._over(live.record)

    def _how(self, live: Live, error: BaseException, *, in_handler: bool = False) -> str:
        """How a connection ended that an exception ended: by its peer or the network, or else by a mistake in the handler."""
        # What is told to who waits in a connection that a fault or a verb has ended is no mistake.
        told = [one for one in _each(error) if not (live.record.ended and _closed(one))]
        lost = [_lost(one) for one in told]
        if all(lost):
            return f"lost: {lost[0]}" if lost else live.record.ended or ""
        self._failed(live.record.number, error, in_handler)
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
    """Is it what is told to whoever waits for a connection that has ended?"""
    return isinstance(error, trio.ClosedResourceError | trio.Cancelled)


def _each(error: BaseException) -> Iterator[BaseException]:
    """What several tasks of a handler raised, or the one did."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _each(one)
    else:
        yield error


def _lost(error: BaseException | None) -> str | None:
    """What the peer or the network did to the connection, where this error says that; a handler may have wrapped it."""
    if isinstance(error, trio.BrokenResourceError):
        return _lost(error.__cause__) or str(error.__cause__ or error)
    if isinstance(error, ssl.SSLError):  # its errno is none
        return error.reason or None
    if isinstance(error, OSError) and error.errno in _LOST:
        return errno.errorcode[error.errno]
    return None
