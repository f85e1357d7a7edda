"""`fault_proxy` in sync tests, asyncio, AnyIO, Trio and unittest, in workers, with defaults; loud when nothing met it."""

from __future__ import annotations

import pytest

from tests.plugin.project import Project

NOT_MET = "FaultNotMet: linger on port * was never met: no connection came"


def test_sync_and_loud(project: Project) -> None:
    result = project.run(
        """
        import pytest
        import faultkit

        def test_met(fault_server, fault_proxy):
            proxy = fault_proxy(fault_server().address, plan=["linger", "ok"])
            with pytest.raises(ConnectionResetError):
                talk(proxy)
            assert talk(proxy) == b"x"

        def test_not_met(fault_server, fault_proxy):
            fault_proxy(fault_server().address, "linger")

        def test_toxic_not_met(fault_server, fault_proxy):
            fault_proxy(fault_server().address).add(faultkit.latency(0.1))

        def test_failed(fault_server, fault_proxy):
            talk(fault_proxy(fault_server().address, "slices", seed=7))
            assert False
        """
    )
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            NOT_MET,
            "FaultNotMet: latency_downstream on port * was never met: no connection came*",
            "fault_proxy(('127.0.0.1', *), 'slices', seed=7) on port *",
            "  seed=7 repeats these faults",
            "  <connection 1 from 127.0.0.1:*: 1 byte in, 1 out, upstream 1 in, 1 out, slices fired after *",
        ],
        consecutive=False,
    )


def test_in_asyncio_and_anyio(project: Project) -> None:
    result = project.run(
        """
        import anyio
        import pytest

        @pytest.mark.anyio
        async def test_met(fault_server, fault_proxy):
            proxy = fault_proxy(fault_server().address, "linger")
            async with await anyio.connect_tcp(*proxy.address) as stream:
                await stream.send(b"x")
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive()
            assert (await (await proxy.await_connection()).await_fired()).met[0].fault == "linger"

        @pytest.mark.anyio
        async def test_not_met(fault_server, fault_proxy):
            fault_proxy(fault_server().address, "linger")
        """
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines([NOT_MET] * 2)


@pytest.mark.parametrize("fixture", ["fault_proxy", "trio_fault_proxy"])
def test_in_trio(project: Project, fixture: str) -> None:
    server = fixture.replace("proxy", "server")
    result = project.run(
        f"""
        import pytest
        import trio

        pytestmark = pytest.mark.trio

        async def test_met({server}, {fixture}):
            proxy = {fixture}({server}().address, "linger")
            async with await trio.open_tcp_stream(*proxy.address) as stream:
                await stream.send_all(b"x")
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            await proxy.await_connection()

        async def test_not_met({server}, {fixture}):
            {fixture}({server}().address, "linger")
        """,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([NOT_MET])


def test_in_unittest_and_by_enter_context(project: Project) -> None:
    result = project.run(
        """
        import unittest
        import faultkit

        class It(unittest.TestCase):
            def test_met(self):
                service = self.enterContext(faultkit.serve())
                proxy = self.enterContext(faultkit.proxy(service.address, "late-write"))
                self.assertEqual(talk(proxy), b"")

            def test_not_met(self):
                service = self.enterContext(faultkit.serve())
                self.enterContext(faultkit.proxy(service.address, "linger"))
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*{NOT_MET}"])


def test_defaults(project: Project) -> None:
    result = project.run(
        """
        import pytest

        @pytest.fixture(scope="session")
        def fault_proxy_defaults():
            return {"upstream": ("127.0.0.1", 1), "upstream_down": "close"}

        def test_it(fault_proxy):
            assert talk(fault_proxy()) == b""
            with pytest.raises(ConnectionResetError):
                talk(fault_proxy(upstream_down="reset"))
        """
    )
    result.assert_outcomes(passed=1)
    result = project.run(
        """
        import pytest

        @pytest.fixture(scope="session")
        def fault_proxy_defaults():
            return {"upstreamdown": "close"}

        def test_it(fault_proxy):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*fault_proxy_defaults: faultkit.proxy takes no 'upstreamdown': did you mean upstream_down?*"]
    )


def test_in_workers(project: Project) -> None:
    result = project.run_apart(
        """
        import pytest

        @pytest.mark.parametrize("time", range(6))
        def test_it(fault_server, fault_proxy, time):
            proxy = fault_proxy(fault_server().address, "linger")
            if time % 2:
                with pytest.raises(ConnectionResetError):
                    talk(proxy)
        """,
        "-n2",
    )
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines([NOT_MET] * 3)
