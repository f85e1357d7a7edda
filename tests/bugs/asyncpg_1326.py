# /// bug
# field = "PostgreSQL"
# library = "asyncpg"
# buggy = "0.31.0"
# fixed = "0.32.0"
# report = "MagicStack/asyncpg#1326"
# seen = "TimeoutError"
# ///
"""close() waits beyond its timeout for a cancel request that nobody answers."""

import asyncio

import asyncpg
import pytest

from faultkit import FaultServer, Live
from tests.gallery.served import POSTGRES_READY


@pytest.mark.parametrize("fault", ["stall", "black-hole", "linger"])
async def test_close_is_bounded(fault_server: FaultServer, fault: str) -> None:
    async def postgres(conn: Live) -> None:
        await conn.receive()
        await conn.answer(POSTGRES_READY)
        while await conn.receive():
            pass  # a query that takes long

    server = fault_server(plan=["ok", fault], answer=postgres)  # the second is the cancel request
    client = await asyncpg.connect(host=server.host, port=server.port, user="me", ssl=False, command_timeout=0.2)
    with pytest.raises(TimeoutError):
        await client.execute("select pg_sleep(30)")
    await asyncio.wait_for(client.close(timeout=0.5), 2)
