"""The loop under the servers: what it calls, what it gives back to other threads, and its thread."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio
import trio.testing

from faultkit.serving import engine
from faultkit.serving.connection import Live
from faultkit.serving.engine import Engine, Thread
from faultkit.serving.record import Connection
from faultkit.serving.waiting import Waiting


@pytest.fixture
def thread() -> Iterator[Thread]:
    made = Thread()
    yield made
    assert made._holders == 0
    assert made._thread is None


def unexpected(error: BaseException) -> None:
    raise error


class Owned:
    """Nothing happens to it."""

    def broke(self, live: Live, error: BaseException) -> None:
        raise error

    def armed(self, live: Live) -> None:
        raise AssertionError(live)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Engine]:
    made = Engine()
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_what_can_be_read_is_called_until_it_is_forgotten() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with running() as made:
            called = 0

            def call() -> None:
                nonlocal called
                called += 1
                ours.recv(1)

            watch = made.watch(ours.fileno(), call, unexpected)
            with pytest.raises(FileExistsError):
                made.watch(ours.fileno(), call, unexpected)
            for _ in range(3):
                theirs.send(b"x")
                await trio.testing.wait_all_tasks_blocked()
            assert called == 3
            made.forget(watch)
            made.forget(watch)
            theirs.send(b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert called == 3


async def test_a_descriptor_that_was_closed_before_it_was_forgotten() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        async with running() as made:
            number = ours.fileno()
            watch = made.watch(number, lambda: None, unexpected)
            ours.close()
            again, other = socket.socketpair()
            with again, other:
                assert again.fileno() == number
                called = trio.Event()
                made.watch(number, called.set, unexpected)
                made.forget(watch)
                other.send(b"x")
                with trio.fail_after(20):
                    await called.wait()


async def test_a_descriptor_that_was_closed_before_it_was_watched_is_watched_as_another() -> None:
    ours, theirs = socket.socketpair()
    async with running() as made:
        number = ours.fileno()
        ours.close()
        with pytest.raises(OSError) as refused:
            made.watch(number, lambda: None, unexpected)
        assert refused.value.errno == errno.EBADF
        again, other = socket.socketpair()
        with theirs, again, other:
            assert again.fileno() == number
            called = trio.Event()
            made.watch(number, called.set, unexpected)
            other.send(b"x")
            with trio.fail_after(20):
                await called.wait()


async def test_what_one_call_raises_is_told_to_its_owner_and_ends_nobody_elses() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    told: list[BaseException] = []
    async with running() as made:
        called = trio.Event()
        made.watch(pairs[0][0].fileno(), lambda: [][1], told.append)
        for _, theirs in pairs:
            theirs.send(b"x")
        await trio.testing.wait_all_tasks_blocked()
        made.watch(pairs[1][0].fileno(), called.set, unexpected)
        with trio.fail_after(20):
            await called.wait()
    assert [type(error) for error in told] == [IndexError]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


async def test_one_event_may_close_what_another_of_the_same_turn_is_about() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []
    async with running() as made:

        def ends(one: int, other: int) -> Callable[[], None]:
            def call() -> None:
                called.append(one)
                for which in (one, other):
                    made.forget(watches[which])
                    pairs[which][0].close()

            return call

        watches = [
            made.watch(pairs[0][0].fileno(), ends(0, 1), unexpected),
            made.watch(pairs[1][0].fileno(), ends(1, 0), unexpected),
        ]
        for _, theirs in pairs:
            theirs.send(b"x")
        await trio.testing.wait_all_tasks_blocked()
    assert len(called) == 1
    for _, theirs in pairs:
        theirs.close()


async def test_other_events_may_be_watched() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        async with running() as made:
            gone = trio.Event()

            def call() -> None:
                made.forget(watch)
                gone.set()

            watch = made.watch(ours.fileno(), call, unexpected, select.EPOLLRDHUP)
            theirs.send(b"not this")
            await trio.testing.wait_all_tasks_blocked()
            assert not gone.is_set()
            theirs.close()
            with trio.fail_after(20):
                await gone.wait()


async def test_trios_own_tasks_have_their_turn_beside_a_flood() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        async with running() as made:
            made.watch(ours.fileno(), lambda: None, unexpected)  # readable all the time
            with trio.fail_after(20):
                for _ in range(10):
                    await trio.lowlevel.checkpoint()


def test_a_call_is_made_in_its_thread_and_gives_or_raises(thread: Thread) -> None:
    held = thread.hold()
    try:
        assert held.call(lambda: threading.current_thread().name) == "faultkit"
        assert held.call(lambda: held.here) is True
        assert held.here is False
        with pytest.raises(ZeroDivisionError):
            held.call(lambda: 1 / 0)
        with pytest.raises(SystemExit):
            held.call(lambda: exec("raise SystemExit"))
        assert held.call(lambda: "still there") == "still there"
    finally:
        thread.release()


async def test_a_call_from_its_own_loop_is_made_at_once() -> None:
    async with running() as made:
        assert made.call(lambda: made.here) is True


async def _crashes() -> None:
    raise ValueError("in the task")


async def _crashes_badly() -> None:
    raise KeyboardInterrupt


def test_a_task_that_is_waited_for_gives_its_error_to_who_waits(thread: Thread) -> None:
    held = thread.hold()
    try:
        held.wait_for(trio.lowlevel.checkpoint)
        with pytest.raises(ValueError, match="in the task"):
            held.wait_for(_crashes)
        with pytest.raises(KeyboardInterrupt):
            held.wait_for(_crashes_badly)
        held.wait_for(trio.lowlevel.checkpoint)
    finally:
        thread.release()


def test_a_loop_that_ends_meanwhile_says_so(thread: Thread) -> None:
    held = thread.hold()
    begun = threading.Event()

    async def waits() -> None:
        begun.set()
        await trio.sleep_forever()

    def end() -> None:
        begun.wait()
        thread.release()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(RuntimeError) as ended:
        held.wait_for(waits)
    ending.join()
    assert str(ended.value) == "the loop of the servers has ended"
    with pytest.raises(trio.RunFinishedError):
        held.call(lambda: None)


def test_a_thread_that_is_blocked_is_not_waited_for_for_ever(thread: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.1)
    held = thread.hold()
    let_go, blocked = threading.Event(), threading.Event()
    assert held._token

    def block() -> None:
        blocked.set()
        let_go.wait()

    held._token.run_sync_soon(block)
    blocked.wait()
    asked: dict[str, Callable[[], object]] = {
        "0.1": lambda: held.call(lambda: None),
        "0.2": lambda: held.wait_for(trio.lowlevel.checkpoint),
    }
    for seconds, ask in asked.items():
        with pytest.raises(TimeoutError) as waited:
            ask()
        assert str(waited.value) == (
            f"the thread of the servers has not answered for {seconds} s: a handler blocks it; "
            "await what it waits for, or await trio.to_thread.run_sync(...)"
        )
    left = thread._thread
    assert left
    thread.release()  # does not wait for ever either
    assert left.is_alive()
    let_go.set()
    left.join(20)
    assert not left.is_alive()


def test_a_call_that_times_out_itself_is_told_from_a_thread_that_is_blocked(thread: Thread) -> None:
    held = thread.hold()

    def times_out() -> None:
        raise TimeoutError("its own")

    try:
        with pytest.raises(TimeoutError, match="its own"):
            held.call(times_out)
    finally:
        thread.release()


def test_the_thread_is_there_as_long_as_somebody_holds_it(thread: Thread) -> None:
    first = thread.hold()
    assert thread.hold() is first
    thread.release()
    assert first.call(lambda: 1) == 1
    running_thread = thread._thread
    assert running_thread
    thread.release()
    assert not running_thread.is_alive()
    assert first._epoll.closed
    second = thread.hold()
    assert second is not first
    assert second.call(lambda: 2) == 2
    thread.release()


def test_a_thread_that_died_is_replaced_and_says_what_it_died_of(
    thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda died: told.append(died.exc_value))

    async def breaks() -> None:
        raise ZeroDivisionError

    held = thread.hold()
    died = thread._thread
    assert died
    held.call(lambda: held.start_soon(breaks))
    died.join(20)
    with pytest.raises(trio.RunFinishedError):
        held.call(lambda: None)
    assert thread.hold().call(lambda: "another") == "another"
    thread.release()
    thread.release()
    [error] = told
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(ZeroDivisionError)


async def test_the_end_of_a_connection_forgets_nobody_who_has_its_number_by_now() -> None:
    """Another thread opens a server between the reset of a connection that had no task and its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        async with running() as made:
            record = Connection(1, None, "linger", Waiting())
            live = Live(accepted, record, None, made, None, Owned())
            live.park(lambda: None)
            number = accepted.fileno()
            live.abort()
            os.dup2(listener.fileno(), number)
            made.watch(number, lambda: None, unexpected)
            live.shut("")
            with pytest.raises(FileExistsError):
                made.watch(number, lambda: None, unexpected)
            os.close(number)


def test_a_child_starts_its_own_and_is_refused_its_parents(thread: Thread) -> None:
    held = thread.hold()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12, of a fork with threads
        child = os.fork()
    if child == 0:
        told = "nothing"
        try:
            held.call(lambda: None)
        except Exception as error:
            told = str(error)
        shared = engine.SHARED.hold()
        told += f"; {shared.call(lambda: 'its own')}"
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert told == (f"the server runs in process {os.getpid()}, which this one was forked from: use it there; its own")
    thread.release()


def test_what_is_done_between_turns_is_done_while_no_event_is_handled(thread: Thread) -> None:
    held = thread.hold()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        handling = threading.Event()
        seen: list[str] = []

        def call() -> None:
            held.forget(watch)
            handling.set()
            seen.append("begun")
            for _ in range(1000):
                pass
            seen.append("ended")

        watch = held.watch(ours.fileno(), call, unexpected)
        theirs.send(b"x")
        handling.wait()
        held.between_turns(lambda: seen.append(threading.current_thread().name))
    assert seen == ["begun", "ended", threading.current_thread().name]
    thread.release()
