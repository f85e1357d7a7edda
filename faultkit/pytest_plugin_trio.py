"""The fixtures for pytest-trio, where that is installed: servers and proxies in the test's own Trio loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import pytest_trio

from faultkit.pytest_plugin import opened, opened_proxies

if TYPE_CHECKING:
    from faultkit.proxying.fixture import FaultProxy
    from faultkit.serving.fixture import FaultServer


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]  # it has no annotations
async def trio_fault_server(
    request: pytest.FixtureRequest, fault_server_defaults: Mapping[str, Any]
) -> AsyncIterator[FaultServer]:
    """`fault_server` for tests under pytest-trio: the same call, and servers and handlers run in the test's own loop."""
    import trio

    from faultkit.serving.engine import Engine

    engine = Engine()
    servers = opened(request, engine, fault_server_defaults)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        try:
            yield servers
            await servers.acheck()
        finally:
            await servers.aclose()
            nursery.cancel_scope.cancel()


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]  # it has no annotations
async def trio_fault_proxy(
    request: pytest.FixtureRequest, fault_proxy_defaults: Mapping[str, Any]
) -> AsyncIterator[FaultProxy]:
    """`fault_proxy` for tests under pytest-trio: the same call, and proxies run in the test's own loop."""
    import trio

    from faultkit.proxying.loop import Loop

    loop = Loop()
    proxies = opened_proxies(request, loop, fault_proxy_defaults)
    async with trio.open_nursery() as nursery:
        await nursery.start(loop.host)
        try:
            yield proxies
            proxies.check()
        finally:
            proxies.close()
            nursery.cancel_scope.cancel()
