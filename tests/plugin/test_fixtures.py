"""The fixtures in sync tests, asyncio, AnyIO, Trio and unittest; several servers, defaults, without the other plugins."""

from __future__ import annotations

import subprocess
import sys

import pytest

import faultkit
from faultkit.serving.engine import SHARED
from tests.plugin.project import ROOT, Project


def test_the_ten_lines(project: Project) -> None:
    project.run(
        """
        import urllib.request
        import pytest

        def fetch(url):
            return urllib.request.urlopen(url, timeout=5).read()

        def test_client_retries_after_reset(fault_server):
            server = fault_server("linger", after_bytes=1)
            with pytest.raises(ConnectionResetError):
                fetch(server.url)
        """
    ).assert_outcomes(passed=1)


def test_several_servers_in_one_test(project: Project) -> None:
    project.run(
        """
        import pytest

        def test_it(fault_server):
            servers = [fault_server("linger"), fault_server(), fault_server("accept-then-close", ipv6=True)]
            assert len({server.address for server in servers}) == 3
            with pytest.raises(ConnectionResetError):
                talk(servers[0])
            assert talk(servers[1]) == b"x"
            assert talk(servers[2]) == b""
        """
    ).assert_outcomes(passed=1)


ASYNCIO = """
    import asyncio
    import pytest

    @pytest.mark.asyncio
    async def test_met(fault_server):
        server = fault_server("linger")
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        connection = await server.await_connection()
        assert (await connection.await_end()).ended == "abort"

    @pytest.mark.asyncio
    async def test_not_met(fault_server):
        fault_server("linger")
"""


def test_in_asyncio(project: Project) -> None:
    with_it = ["-ppytest_asyncio.plugin", "-oasyncio_default_fixture_loop_scope=function"]
    result = project.run(ASYNCIO, *with_it)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FaultNotMet: linger on port * was never met: no connection came"])


def test_in_anyio_on_both_backends(project: Project) -> None:
    result = project.run(
        """
        import anyio
        import pytest

        @pytest.mark.anyio
        async def test_met(fault_server):
            server = fault_server("linger")
            async with await anyio.connect_tcp(*server.address) as stream:
                await stream.send(b"x")
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive()
            await server.await_connection()

        @pytest.mark.anyio
        async def test_not_met(fault_server):
            fault_server("linger")
        """
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["FaultNotMet: linger on port * was never met: no connection came"] * 2)


def test_a_plain_test_while_a_fixture_of_an_anyio_loop_lives(project: Project) -> None:
    project.run(
        """
        import pytest

        @pytest.fixture(scope="module")
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="module")
        async def pool(anyio_backend):
            yield

        def test_it(pool, fault_server):
            server = fault_server()
            talk(server)
            assert server.wait_for_connection().number == 1
        """
    ).assert_outcomes(passed=1)


TRIO = """
    import pytest
    import trio

    pytestmark = pytest.mark.trio

    async def test_met(FIXTURE):
        server = FIXTURE("linger")
        async with await trio.open_tcp_stream(*server.address) as stream:
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await server.await_connection()

    async def test_not_met(FIXTURE):
        FIXTURE("linger")

    async def test_crash(FIXTURE):
        async def handler(conn):
            raise ValueError("no")

        server = FIXTURE(answer=handler)
        async with await trio.open_tcp_stream(*server.address):
            pass
"""


@pytest.mark.parametrize("fixture", ["fault_server", "trio_fault_server"])
def test_in_trio(fixture: str, project: Project) -> None:
    result = project.run(TRIO.replace("FIXTURE", fixture))
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "FaultNotMet: linger on port * was never met: no connection came",
            "HandlerCrashed: connection 1: ValueError: no",
        ]
    )


def test_in_trio_the_handler_runs_in_the_loop_of_the_test(project: Project) -> None:
    project.run(
        """
        import pytest
        import trio

        @pytest.mark.trio
        async def test_it(trio_fault_server):
            here = trio.lowlevel.current_trio_token()
            met = trio.Event()

            async def handler(conn):
                assert trio.lowlevel.current_trio_token() is here
                met.set()
                conn.abort()

            server = trio_fault_server(answer=handler)
            async with await trio.open_tcp_stream(*server.address):
                with trio.fail_after(5):
                    await met.wait()
        """
    ).assert_outcomes(passed=1)


def test_a_plain_test_is_told_that_the_trio_fixture_is_none_of_its(project: Project) -> None:
    result = project.run("def test_it(trio_fault_server): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E * RuntimeError: Trio fixtures can only be used by Trio tests"])


def test_in_unittest(project: Project) -> None:
    result = project.run(
        """
        import unittest
        import pytest

        class Test(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _server(self, fault_server):
                self.fault_server = fault_server

            def test_met(self):
                with self.assertRaises(ConnectionResetError):
                    talk(self.fault_server("linger"))

            def test_not_met(self):
                self.fault_server("linger")

            def test_its_own_failure(self):
                self.fault_server("linger")
                self.fail("its own")
        """
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["E * AssertionError: its own", "FaultNotMet: linger on port *"])


def test_defaults_are_a_fixture_to_override(project: Project) -> None:
    project.run(
        """
        import pytest
        import urllib.request

        @pytest.fixture
        def fault_server_defaults():
            return {"fault": "linger", "answer": "http", "ipv6": True}

        def test_all_of_them(fault_server):
            server = fault_server()
            assert server.host == "::1"
            with pytest.raises(ConnectionResetError):
                talk(server)

        def test_what_is_named_wins(fault_server):
            server = fault_server("ok", ipv6=False)
            assert server.host == "127.0.0.1"
            assert urllib.request.urlopen(server.url, timeout=5).read() == b"hello from faultkit\\n"
            assert talk(fault_server(fault=None, answer=b"fixed")) == b"fixed"
        """
    ).assert_outcomes(passed=2)


def test_a_fixture_that_outlives_its_test_is_told_so(project: Project) -> None:
    result = project.run(
        """
        def test_one(fault_server):
            global kept
            kept = fault_server

        def test_two():
            kept("linger")
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["E * faultkit.errors.Misuse: the test that asked for this fault_server has ended: ask for the fixture again"]
    )


def test_a_thread_for_each_test_where_that_is_wanted(project: Project) -> None:
    project.run_apart(
        """
        import pytest
        import threading

        seen = []

        @pytest.fixture
        def _fault_server_thread():
            pass

        @pytest.mark.parametrize("time", [1, 2])
        def test_it(fault_server, time):
            talk(fault_server())
            seen.extend(thread for thread in threading.enumerate() if thread.name == "faultkit")
            assert len(seen) == time
            assert [thread.is_alive() for thread in seen] == [False] * (time - 1) + [True]
        """
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize("without", [["trio"], ["anyio"], ["trio", "anyio", "xdist"]])
def test_without_the_other_plugins(without: list[str], project: Project) -> None:
    tests = """
        import pytest

        def test_it(fault_server):
            with pytest.raises(ConnectionResetError):
                talk(fault_server("linger"))
    """
    arguments = [f"-pno:{name}" for name in without]
    project.run_apart(tests, *arguments).assert_outcomes(passed=1)
    fixtures = {line.split(" ")[0] for line in project.run_apart(tests, *arguments, "--fixtures").outlines}
    assert "fault_server" in fixtures
    assert ("trio_fault_server" in fixtures) == ("trio" not in without)


def test_a_project_that_does_not_use_it_pays_for_no_import(project: Project) -> None:
    project.run_apart(
        """
        import sys

        def test_it():
            assert "faultkit.pytest_plugin" in sys.modules
            assert not {"trio", "h11", "trustme", "click", "faultkit.serving.engine"} & set(sys.modules)
        """,
        *(f"-pno:{name}" for name in ("trio", "anyio")),
    ).assert_outcomes(passed=1)


def test_importing_it_brings_in_nothing_of_the_server() -> None:
    script = (
        "import sys, pytest\nbefore = set(sys.modules)\n"
        "import faultkit.pytest_plugin, faultkit.pytest_plugin_hooks\nprint(*set(sys.modules) - before)"
    )
    brought = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert set(brought.split()) == {
        "faultkit",
        "faultkit.pytest_plugin",
        "faultkit.pytest_plugin_hooks",
        "faultkit.serving",
        "faultkit.serving.tracebacks",
        "faultkit.version",
    }


def test_it_is_typed_as_serve_is(fault_server: faultkit.FaultServer) -> None:
    # mypy holds the first line to the name, and the others to being wrong.
    assert fault_server("ok", after_bytes=None).seed is None
    with pytest.raises(TypeError, match="after_byte"):
        fault_server("linger", after_byte=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="fault"):
        fault_server("linger", fault="ok")  # type: ignore[misc]
    with pytest.raises(faultkit.Misuse, match="is not a whole number"):
        fault_server("linger", after_bytes="1")  # type: ignore[arg-type]


def test_nothing_in_it_needs_pytest() -> None:
    engine = SHARED.hold()
    try:
        servers = faultkit.FaultServer(engine, "mine", {})
        servers("linger")
        servers.check()
        servers.close()
    finally:
        SHARED.release()
    [complaint] = servers.complaints
    assert complaint.endswith("was never met: no connection came")
    assert str(servers).startswith("mine('linger') on port ")
