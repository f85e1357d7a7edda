"""Nothing is left of a session: no thread, no task, no descriptor, no file. And no test hangs at its end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.plugin.project import Project

# Runs a session, and says what there was before it and is after it. What is imported stays, so a session goes before.
SESSION = """
    import contextlib, gc, json, os, sys, threading
    import pytest

    def there():
        gc.collect()
        descriptors = {}
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the one that lists them
                descriptors[number] = os.readlink(f"/proc/self/fd/{number}")
        return [descriptors, [thread.name for thread in threading.enumerate()]]

    pytest.main([*sys.argv[1:], "-k", "test_crash"])
    before = there()
    pytest.main(sys.argv[1:])
    print(json.dumps([before, there()]))
"""

EVERYTHING = """
    import pathlib
    import urllib.request
    import pytest
    import trio

    async def waits(conn):
        await trio.sleep_forever()

    async def crashes(conn):
        await conn.receive()
        raise ValueError("no")

    def connected(server):
        return socket.create_connection(server.address, timeout=5)

    def test_hung_client(fault_server):
        "It never says anything, and never goes."
        global kept
        kept = connected(fault_server())

    def test_hung_handler(fault_server):
        with connected(fault_server(answer=waits)) as client:
            client.sendall(b"x")

    def test_crash(fault_server):
        talk(fault_server(answer=crashes))

    def test_not_met(fault_server):
        fault_server("black-hole")
        fault_server("connect-hang")
        fault_server("backlog-full")

    def test_misuse(fault_server):
        fault_server("lingr")

    def test_held_open(fault_server):
        for fault in ("stall", "black-hole", "zero-window", "half-close"):
            with connected(fault_server(fault)) as client:
                client.sendall(b"x")

    def test_tls(fault_server):
        server = fault_server(answer="http", tls=True)
        assert pathlib.Path(server.ca_file).read_text().startswith("-----BEGIN")
        with urllib.request.urlopen(server.url, context=server.client_context, timeout=5) as answer:
            assert answer.read() == b"hello from faultkit\\n"

    @pytest.mark.trio
    async def test_trio(trio_fault_server):
        server = trio_fault_server(answer=waits)
        async with await trio.open_tcp_stream(*server.address):
            await server.await_connection()

    def teardown_module():
        kept.close()
"""


def test_no_descriptor_thread_or_file(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "files"
    files.mkdir()
    monkeypatch.setenv("TMPDIR", str(files))
    project.write(EVERYTHING, session=SESSION)
    result = project.pytester.run(sys.executable, "session.py", *project.named, "test_it.py", timeout=60)
    result.stdout.fnmatch_lines(["* 3 failed, 5 passed in *"])
    before, after = json.loads(result.outlines[-1])
    assert after == before
    assert before[1] == ["MainThread"]
    assert list(files.iterdir()) == []


# The real patience is seconds; what is held here is that it ends.
IMPATIENT = """
    from faultkit.serving import engine, sessions, supervised

    engine.PATIENCE = sessions.PATIENCE = supervised.PATIENCE = 0.5
"""


def test_a_handler_that_shields_itself_is_told_of_and_waited_for_no_longer(project: Project) -> None:
    result = project.run_apart(
        """
        import trio

        async def stubborn(conn):
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()

        def test_it(fault_server):
            server = fault_server(answer=stubborn)
            with socket.create_connection(server.address):
                server.wait_for_connection()

        def test_the_next(fault_server):
            assert talk(fault_server()) == b"x"
        """,
        conftest=IMPATIENT,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["HandlerCrashed: connection 1: TimeoutError: it did not end within 0.5 s of being cancelled, at test_it.py:13"]
    )


def test_a_handler_that_blocks_the_thread_is_told_of(project: Project) -> None:
    result = project.run_apart(
        """
        import time

        async def blocking(conn):
            time.sleep(3600)

        def test_it(fault_server):
            server = fault_server(answer=blocking)
            with socket.create_connection(server.address):
                server.wait_for_connection()
        """,
        conftest=IMPATIENT,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["TimeoutError: the thread of the servers has not answered for 1 s: a handler blocks it; *"]
    )


def test_ctrl_c_in_a_test_ends_the_session_as_ever(project: Project) -> None:
    result = project.run_apart(
        """
        def test_it(fault_server):
            fault_server("linger")
            raise KeyboardInterrupt
        """
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "FaultNotMet" not in result.stdout.str()
    assert not result.stderr.lines


def test_a_handler_that_shields_itself_in_the_loop_of_the_test(project: Project) -> None:
    result = project.run_apart(
        """
        import faultkit
        import pytest
        import trio

        async def stubborn(conn):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shielded)
                await shielded()

        async def shielded():
            with trio.CancelScope(shield=True), trio.CancelScope(shield=True):
                await trio.sleep_forever()

        @pytest.mark.trio
        async def test_it(trio_fault_server):
            server = trio_fault_server(answer=stubborn)
            async with await trio.open_tcp_stream(*server.address):
                await server.await_connection()

        @pytest.mark.trio
        async def test_without_the_fixture():
            with pytest.raises(faultkit.HandlerCrashed, match="did not end within 0.5 s of being cancelled, at test_it.py:"):
                async with faultkit.serve(answer=stubborn) as server:
                    async with await trio.open_tcp_stream(*server.address):
                        await server.await_connection()

        def test_the_next(fault_server):
            assert talk(fault_server()) == b"x"
        """,
        conftest=IMPATIENT,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["HandlerCrashed: connection 1: TimeoutError: it did not end within 0.5 s of being cancelled, at test_it.py:20"]
    )


SWALLOWS = """
    import asyncio
    import contextlib
    import pytest
    from faultkit import in_asyncio

    came = []

    async def swallows(conn):
        came.append(conn.record.number)
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(3600)

    @pytest.mark.{mark}
    async def test_it(fault_server{more}):
        server = fault_server(answer=in_asyncio(swallows))
        _, writer = await asyncio.open_connection(*server.address)
        while not came:
            await asyncio.sleep(0)
        writer.close()

    @pytest.mark.{mark}
    async def test_the_next(fault_server{more}):
        reader, writer = await asyncio.open_connection(*fault_server().address)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        writer.close()
"""
LOOPS = {"asyncio": "", "anyio": ", anyio_backend"}


@pytest.mark.parametrize("mark", LOOPS)
def test_a_handler_in_asyncio_that_swallows_its_cancellation(mark: str, project: Project) -> None:
    arguments = (
        ["-ppytest_asyncio.plugin", "-oasyncio_default_fixture_loop_scope=function"] if mark == "asyncio" else []
    )
    backend = """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"
    """
    tests = SWALLOWS.format(mark=mark, more=LOOPS[mark]) + (backend.replace("\n    ", "\n") if mark == "anyio" else "")
    result = project.run_apart(tests, *arguments, conftest=IMPATIENT)
    # AnyIO ends its loop within the test.
    result.assert_outcomes(**({"passed": 2, "errors": 1} if mark == "asyncio" else {"passed": 1, "failed": 1}))
    result.stdout.fnmatch_lines(
        ["*the handler swallows at test_it.py:20 did not end within 0.5 s of being cancelled: let CancelledError pass"]
    )
