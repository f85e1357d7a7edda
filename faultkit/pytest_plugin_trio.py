"""The fixture for pytest-trio, where that is installed: servers in the test's own Trio loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import pytest_trio

from faultkit.pytest_plugin import opened

if TYPE_CHECKING:
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
