"""One thread, one epoll: sockets, timers and what other threads ask for, in turns."""

from __future__ import annotations

import contextlib
import functools
import heapq
import os
import select
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import trio

from faultkit.errors import Misuse
from faultkit.proxying.pipes import Pipes
from faultkit.proxying.timer import TimerDescriptor

T = TypeVar("T")

EVENTS = 512  # of one look; arbitrary
SHARE = 0.002  # seconds in the loop before Trio's other tasks have their turn; arbitrary
PATIENCE = 5.0  # seconds for what another thread asks for; arbitrary: nothing here waits


class Watched(Protocol):
    """What a descriptor belongs to."""

    def ready(self, events: int, /) -> None:
        """These events of epoll_ctl(2) are there."""

    def failed(self, error: Exception, /) -> None:
        """`ready` has raised it."""


class Timer:
    """A call that is to come, until it is cancelled."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never mind."""
        self.call = None


class _Wake:
    """The descriptor by which other threads call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self, _events: int, /) -> None:
        os.eventfd_read(self._descriptor)

    def failed(self, error: Exception, /) -> None:
        raise error


class Loop:
    """Runs in a thread that has nothing else to do (`run`), with Trio as its guest there (`run_with`), or in a Trio task
    (`host`)."""

    def __init__(self) -> None:
        self.now = time.monotonic  # what timers go by
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._heap: list[tuple[float, int, Timer]] = []
        self._made = 0  # timers so far: equal times are called in order
        self._timer = TimerDescriptor()
        self._set_for = float("inf")  # what the timer is set for
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._work: deque[Callable[[], None]] = deque()
        self._process = os.getpid()
        self._thread: int | None = None
        self._stopping = False
        self.started = threading.Event()
        self.closed = False
        self.pipes = Pipes()
        self.failed: Callable[[Exception], None] = _raise  # what nobody else is told of
        self._epoll.register(self._timer.descriptor, select.EPOLLIN)
        self.watch(self._wake, _Wake(self._wake), select.EPOLLIN)

    # From any thread.

    @property
    def here(self) -> bool:
        """Does this code run in the loop's own thread, or does it not run yet?"""
        return self._thread is None or self._thread == threading.get_ident()

    @property
    def elsewhere(self) -> bool:
        """Was this process forked from the one in which it runs?"""
        return self._process != os.getpid()

    def must_be_here(self) -> None:
        """Raise `Misuse` in a process that was forked from the loop's."""
        if self.elsewhere:
            raise Misuse(f"the proxy runs in process {self._process}, which this one was forked from: use it there")

    def call(self, work: Callable[[], T]) -> T:
        """Have it done between two turns, and give what it gives or raises. Raises `Misuse` when the loop has ended."""
        self.must_be_here()
        if self.closed:
            raise Misuse("the loop of the proxies has ended: this goes inside the `with`")
        if self.here:
            return work()
        given: Future[T] = Future()

        def do() -> None:
            try:
                given.set_result(work())
            except BaseException as error:
                given.set_exception(error)

        self.soon(do)
        return given.result(PATIENCE)

    def soon(self, work: Callable[[], None]) -> None:
        """Have it done between two turns; nobody waits for it."""
        self._work.append(work)
        with contextlib.suppress(OSError):  # it has ended
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Let `run` come back."""
        self._stopping = True
        self.soon(lambda: None)

    # In its own thread.

    def watch(self, descriptor: int, watched: Watched, events: int) -> None:
        """Tell it of these events."""
        self._epoll.register(descriptor, events)
        self._watched[descriptor] = watched

    def rewatch(self, descriptor: int, events: int) -> None:
        """Tell it of these events instead."""
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Tell it nothing more. The descriptor is still open."""
        if self._watched.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def closing(self, descriptor: int) -> None:
        """It is about to be closed, which the kernel takes for `forget`."""
        self._watched.pop(descriptor, None)

    def at(self, due: float, call: Callable[[], None]) -> Timer:
        """Call it at that time of `now`."""
        timer = Timer(call)
        self._made += 1
        heapq.heappush(self._heap, (due, self._made, timer))
        if due < self._set_for:
            self._set_for = due
            self._timer.set(due)
        return timer

    def turn(self, timeout: float | None = None) -> bool:
        """Look once, and do what is to be done. Was there anything?"""
        found = self._epoll.poll(timeout, EVENTS)
        watched = self._watched
        for descriptor, events in found:
            one = watched.get(descriptor)
            if one is not None:
                try:
                    one.ready(events)
                except Exception as error:
                    self._told(one, error)
        if self._heap:
            self._call_due()
        if self._work:
            self._do_work()
        return bool(found)

    def _told(self, one: Watched, error: Exception) -> None:
        try:
            one.failed(error)
        except Exception as second:
            self.failed(second)

    def _call_due(self) -> None:
        heap, now = self._heap, self.now()
        if heap[0][0] > now and self._set_for > now:
            return
        while heap and heap[0][0] <= now:
            _, _, timer = heapq.heappop(heap)
            if timer.call is not None:
                call, timer.call = timer.call, None
                try:
                    call()
                except Exception as error:
                    self.failed(error)
        while heap and heap[0][2].call is None:
            heapq.heappop(heap)
        self._set_for = heap[0][0] if heap else float("inf")
        self._timer.set(heap[0][0] if heap else 0)

    def _do_work(self) -> None:
        for _ in range(len(self._work)):  # what comes of it has the next turn: the sockets wait
            try:
                self._work.popleft()()
            except Exception as error:
                self.failed(error)

    def run(self) -> None:
        """Have it run in this thread until `stop`."""
        self._thread = threading.get_ident()
        self.started.set()
        try:
            while not self._stopping:
                self.turn()
        finally:
            self.close()

    def run_with(self, main: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Have it run in this thread until that function, which Trio runs between its turns, has ended; gives what it gives.

        The loop waits in its own epoll, and Trio's is looked at by a thread that sleeps: as a task of Trio's the loop would pay
        for one of Trio's rounds at each wait, which is as much as the passing on of a piece.
        """
        ended: list[Any] = []  # as Trio gives it: an outcome
        broken: list[BaseException] = []
        scope = trio.CancelScope()

        async def guest() -> T:
            with scope:
                return await main(*arguments)
            raise broken[0]

        def over(result: Any) -> None:
            ended.append(result)
            self._stopping = True

        def tick(work: Callable[[], object]) -> None:
            try:
                work()
            except BaseException as error:  # Trio cannot go on: there is no thread for it
                broken.append(error)
                self._stopping = True

        self._thread = threading.get_ident()
        try:
            trio.lowlevel.start_guest_run(
                guest,
                run_sync_soon_threadsafe=lambda work: self.soon(functools.partial(tick, work)),
                done_callback=over,
                restrict_keyboard_interrupt_to_checkpoints=True,
            )
            while not self._stopping:
                try:
                    self.turn()
                except Exception as error:
                    broken.append(error)
                    scope.cancel()
        finally:
            self.close()
        if not ended:
            raise broken[-1]
        result: T = ended[0].unwrap()
        return result

    async def host(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run in this Trio task until cancelled."""
        self._thread = threading.get_ident()
        task_status.started()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                until = self.now() + SHARE
                while self.turn(0) and self.now() < until:
                    pass
        finally:
            self.close()

    def close(self) -> None:
        """Let go of its descriptors. What it was told is done first."""
        if not self.closed:
            self._do_work()
            self.closed = True
            self._epoll.close()
            self._timer.close()
            os.close(self._wake)
            self.pipes.close()


def _raise(error: Exception) -> Any:
    raise error
