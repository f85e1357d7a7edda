"""A handler in asyncio, in the test's own loop: what it awaits on a connection is done in the servers' Trio loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from faultkit.errors import Misuse
from faultkit.serving import answers, supervised
from faultkit.serving.tracebacks import place
from faultkit.serving.waiting import running_loop

if TYPE_CHECKING:
    import socket

    from faultkit.serving.answers import Handler
    from faultkit.serving.connection import Live
    from faultkit.serving.record import Connection

T = TypeVar("T")


def in_asyncio(handler: Callable[[AsyncioLive], Awaitable[None]]) -> Handler:
    """The test's own `async def handler(conn)` in asyncio, for `answer=`. It runs in the loop that runs here, and may share its
    events. One that does not end when it is cancelled is left behind after five seconds, and told of.

    Raises `Misuse` where asyncio's loop does not run.
    """
    if running_loop() != "asyncio":
        raise Misuse("in_asyncio(handler) is for tests in asyncio, whose loop it runs in: say it there, in the test")
    answers.check_handler("handler", handler)
    loop = asyncio.get_running_loop()

    @functools.wraps(handler)
    async def bridged(conn: Live) -> None:
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                over = _Over(nursery)
                try:
                    doing = handler(AsyncioLive(conn, over))
                    if not inspect.isawaitable(doing):
                        raise Misuse(f"handler={handler!r} gave {doing!r}: it is async def handler(conn)")
                    await over.to(loop, doing)
                except Exception as error:  # it comes out alone, not as one of a group
                    failure = error
                nursery.cancel_scope.cancel()
        except trio.Cancelled:
            if over.lost is None:
                raise
        if failure := over.lost or failure:
            raise failure

    return bridged


class _Over:
    """The way from asyncio's loop to Trio's, and back, for one connection."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self.lost: Misuse | None = None  # what the handler asked for, and did not await

    async def to(self, loop: asyncio.AbstractEventLoop, work: Awaitable[None]) -> None:
        """Have it done in that loop, and wait. Where that is cancelled nobody waits for its end: the loop may stand still."""
        ended = trio.Event()
        running = supervised.run(work)
        try:
            future = asyncio.run_coroutine_threadsafe(running, loop)
        except RuntimeError:  # the loop is closed
            running.close()
            raise Misuse("the loop of the test has ended, and its handler with it") from None
        future.add_done_callback(lambda _: self._tell(ended.set))
        try:
            await ended.wait()
        except trio.Cancelled:
            future.cancel()
            raise
        if future.cancelled():  # as it is where the test has ended, and its loop with it
            return
        if stuck := future.result():
            with contextlib.suppress(ValueError):  # somebody has told of it already
                supervised.LEFT.remove(stuck)
            raise supervised.Stuck(stuck)

    async def back(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have it done in Trio's loop, and wait in asyncio's. Raises `ConnectionError` where the connection has ended."""
        loop = asyncio.get_running_loop()
        given: asyncio.Future[T] = loop.create_future()
        scope = trio.CancelScope()

        def give(tell: Callable[[], object]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(lambda: None if given.done() else tell())

        async def does() -> None:
            try:
                with scope:
                    result = await work()
                    give(lambda: given.set_result(result))
                    return
                give(given.cancel)
            except trio.Cancelled:
                give(lambda: given.set_exception(ConnectionAbortedError("the connection has ended")))
                raise
            except trio.ClosedResourceError as error:
                give(functools.partial(given.set_exception, ConnectionAbortedError(str(error))))
            except BaseException as error:
                give(functools.partial(given.set_exception, error))

        def starts() -> None:
            try:
                self._nursery.start_soon(does)
            except RuntimeError:  # it takes no more
                give(lambda: given.set_exception(ConnectionAbortedError("the connection has ended")))

        if not self._tell(starts):
            raise ConnectionAbortedError("the servers have ended")
        try:
            return await given
        except asyncio.CancelledError:
            self._tell(scope.cancel)
            raise

    def lose(self, what: str) -> None:
        """The handler will never await it: that is its end."""
        self.lost = self.lost or Misuse(
            f"{what} was never awaited, so nothing was done: in asyncio every verb is awaited"
        )
        self._tell(self._nursery.cancel_scope.cancel)

    def _tell(self, work: Callable[[], object]) -> bool:
        try:
            self._token.run_sync_soon(work)
        except trio.RunFinishedError:
            return False
        return True


class _Asked(Coroutine[Any, Any, T]):
    """What a handler asks of its connection: a coroutine, which tells where it is thrown away before anybody has awaited it."""

    def __init__(self, does: Coroutine[Any, Any, T], over: _Over, name: str) -> None:
        self._does = does
        self._over = over
        caller = sys._getframe(2).f_code, sys._getframe(2).f_lineno
        self._what = f"conn.{name}(...) at {place(caller[0].co_filename, caller[1])}"
        self._begun = False

    def send(self, value: Any) -> Any:
        self._begun = True
        return self._does.send(value)

    def throw(
        self,
        kind: Any,
        value: BaseException | object = None,
        trace: TracebackType | None = None,
    ) -> Any:
        self._begun = True
        error = kind if value is None else value
        return self._does.throw(error if isinstance(error, BaseException) else kind())

    def close(self) -> None:
        self._begun = True
        self._does.close()

    def __await__(self) -> Generator[Any, Any, T]:
        self._begun = True
        return self._does.__await__()

    def __del__(self) -> None:
        if not self._begun:
            self._does.close()
            self._over.lose(self._what)


class AsyncioLive:
    """A connection as a handler in asyncio has it. `receive`, `send`, `request`, `answer` and `start_tls` are awaited, as those
    of `Live`; so is every verb, which has been done then: one that is not awaited ends the connection, and fails the test. On a
    connection that has ended what waits raises `ConnectionAbortedError`, which needs not be caught."""

    def __init__(self, conn: Live, over: _Over) -> None:
        self._conn = conn
        self._over = over

    @property
    def record(self) -> Connection:
        """What it has done so far."""
        return self._conn.record

    @property
    def sock(self) -> socket.socket:
        """Its plain socket, for what the kernel says of it."""
        return self._conn.sock

    @property
    def alpn(self) -> str | None:
        """The protocol that ALPN has agreed to."""
        return self._conn.alpn

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        does = getattr(self._conn, name)
        if name.startswith("_") or not callable(does):
            raise AttributeError(f"a connection in asyncio has no {name!r}")

        async def work(*arguments: Any, **keywords: Any) -> Any:
            result = does(*arguments, **keywords)
            return await result if inspect.isawaitable(result) else result

        @functools.wraps(does)
        def over(*arguments: Any, **keywords: Any) -> Coroutine[Any, Any, Any]:
            return _Asked(self._over.back(functools.partial(work, *arguments, **keywords)), self._over, name)

        return over
