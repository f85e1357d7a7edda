"""What every server stands on: one epoll in one Trio task, which accepts, and waits with connections that have said nothing.

A connection costs no Trio task until it has something to say: that makes a reset cost little more than its system calls,
and an idle connection little more than its socket.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from faultkit.errors import Misuse, exhausted, refuse_green_threads

T = TypeVar("T")

TURNS = 64  # looks at the epoll before Trio's other tasks have theirs; arbitrary
EVENTS = 1024  # of one look; arbitrary
PATIENCE = 5.0  # seconds that a task may take to end when it is cancelled, and a call to be done; arbitrary


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """One socket in the engine's epoll, from `Engine.watch` to `Engine.forget`. Its number may be another's after that, so
    it is never known by its number alone."""

    descriptor: int
    call: Callable[[], None]
    failed: Callable[[BaseException], None]


class Engine:
    """Runs in Trio: in the loop that asks for it, or in a thread of its own (`thread`)."""

    def __init__(self) -> None:
        refuse_green_threads()
        self._epoll = select.epoll()
        self._process = os.getpid()
        self._watches: dict[int, Watch] = {}  # by descriptor
        self._turning = threading.Lock()  # held while events are handled
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self.stuck = False  # a handler has blocked its thread

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._token = trio.lowlevel.current_trio_token()
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    self._turn()
        finally:
            self._epoll.close()

    def watch(
        self,
        descriptor: int,
        call: Callable[[], None],
        failed: Callable[[BaseException], None],
        events: int = select.EPOLLIN,
    ) -> Watch:
        """Call it whenever there is something to read, or for these events, until it is forgotten. From any thread.

        What it raises goes to `failed`, and nothing more is called then. Raises `FileExistsError` where the socket is watched.
        """
        self.must_be_here()
        self._epoll.register(descriptor, events)
        watch = self._watches[descriptor] = Watch(descriptor, call, failed)
        return watch

    def forget(self, watch: Watch | None) -> None:
        """Watch it no more."""
        if watch and self._watches.get(watch.descriptor) is watch:
            del self._watches[watch.descriptor]
            # It is closed, and the kernel has forgotten it; or the engine was cancelled first, and its epoll is closed.
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(watch.descriptor)

    def start_soon(self, task: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        """Start a task beside the others. In the engine's thread only."""
        assert self._nursery
        self._nursery.start_soon(task, *arguments)

    @property
    def elsewhere(self) -> bool:
        """Was this process forked from the one in which the engine runs?"""
        return self._process != os.getpid()

    @property
    def here(self) -> bool:
        """Does this code run in the engine's own loop?"""
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    def call(self, work: Callable[[], T]) -> T:
        """Have it done in the engine's thread, and wait for what it gives or raises. `TimeoutError` where that is blocked,
        `trio.RunFinishedError` where it has ended."""
        if self.here:
            return work()
        given: Future[T] = Future()

        def do() -> None:
            try:
                given.set_result(work())
            except BaseException as error:
                given.set_exception(error)

        return self._ask(do, given, PATIENCE)

    def between_turns(self, work: Callable[[], T]) -> T:
        """Have it done in this thread, while the engine handles no event. Nothing of Trio's may be in it.

        Quicker than `call`, which has to wake a thread and wait for it: that takes longer than making a server.
        """
        self.must_be_here()
        with self._turning:
            return work()

    def wait_for(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have it done in a task of the engine's, from another thread, and wait until that has ended; its error comes out.

        It must be patient no longer than `PATIENCE`. `TimeoutError` where the engine's thread is blocked,
        `trio.RunFinishedError` where it has ended, or ends meanwhile.
        """
        given: Future[None] = Future()

        async def task() -> None:
            try:
                await work()
                given.set_result(None)
            except trio.Cancelled:
                given.set_exception(trio.RunFinishedError("the loop of the servers has ended"))
                raise
            except BaseException as error:
                given.set_exception(error)

        def begin() -> None:
            try:
                self.start_soon(task)
            except RuntimeError as error:  # the nursery takes no more
                given.set_exception(trio.RunFinishedError(str(error)))

        self._ask(begin, given, 2 * PATIENCE)

    def _ask(self, begin: Callable[[], None], given: Future[T], seconds: float) -> T:
        assert self._token
        self.must_be_here()
        self._token.run_sync_soon(begin)
        try:
            error = given.exception(seconds)
        except TimeoutError:
            self.stuck = True
            raise TimeoutError(
                f"the thread of the servers has not answered for {seconds:g} s: a handler blocks it; "
                "await what it waits for, or await trio.to_thread.run_sync(...)"
            ) from None
        if error:
            raise error
        return given.result()

    def must_be_here(self) -> None:
        """Raise `Misuse` in a process that was forked from the engine's."""
        if self.elsewhere:
            raise Misuse(f"the server runs in process {self._process}, which this one was forked from: use it there")

    def _turn(self) -> None:
        for _ in range(TURNS):
            with self._turning:  # the look too: what another thread closes in between may have given its number on
                ready = [self._watches.get(descriptor) for descriptor, _event in self._epoll.poll(0, EVENTS)]
                if not ready:
                    return
                for watch in ready:
                    # An earlier one of these may have closed it, and opened another.
                    if watch and self._watches.get(watch.descriptor) is watch:
                        self._have_called(watch)

    def _have_called(self, watch: Watch) -> None:
        """What goes wrong with one socket is no matter of the others'."""
        try:
            watch.call()
        except Exception as error:
            self.forget(watch)
            watch.failed(error)


def unshield(task: trio.lowlevel.Task, top: trio.CancelScope) -> None:
    """Let what that scope cancels come to the task, and to the tasks that it waits for, though they have shielded themselves."""
    status: Any = task._cancel_status  # Trio's own, and the only way to the scopes
    while status and status._scope is not top:
        status._scope.shield = False
        status = status._parent
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            unshield(child, top)


class Thread:
    """An engine in a thread of its own, there as long as somebody holds it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing runs: as at the beginning, and in a child, because a thread does not survive a fork."""
        self._lock = threading.Lock()
        self._holders = 0
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] = lambda: None

    def hold(self) -> Engine:
        """The engine, started where it does not run yet. To be given back with `release`."""
        with self._lock:
            if self._engine is None or self._thread is None or not self._thread.is_alive():
                self._start()
            elif self._engine.stuck:
                self._stop()  # it ends when what blocks it does; nobody waits for that
                self._start()
            self._holders += 1
            assert self._engine
            return self._engine

    def release(self) -> None:
        """Give it back. The last one to do so ends the thread; one that a handler does not let end is left behind."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                assert self._thread
                with contextlib.suppress(trio.RunFinishedError):
                    self._stop()
                self._thread.join(PATIENCE)
                self._engine = self._thread = None

    def _start(self) -> None:
        try:
            self._begin()
        except OSError as error:
            if lacking := exhausted(error):
                raise lacking from error
            raise

    def _begin(self) -> None:
        engine, ready = Engine(), threading.Event()
        refused: list[BaseException] = []

        async def serve() -> None:
            token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as nursery:
                self._stop = lambda: token.run_sync_soon(nursery.cancel_scope.cancel)
                await nursery.start(engine.run)
                ready.set()

        def run() -> None:
            try:
                trio.run(serve)
            except BaseException as error:
                if ready.is_set():
                    raise
                refused.append(error)
                ready.set()

        # A daemon: a program that ends in the middle must not wait for a server that nobody will stop.
        self._thread = threading.Thread(target=run, name="faultkit", daemon=True)
        self._thread.start()
        ready.wait()
        if refused:
            raise refused[0]
        self._engine = engine


SHARED = Thread()
os.register_at_fork(after_in_child=SHARED.forget)
