import asyncio

import pytest

from faultkit import FaultServer


@pytest.mark.asyncio
async def test_a_timeout_of_our_own(fault_server: FaultServer) -> None:
    server = fault_server("stall")
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"anybody?")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    writer.close()
    connection = await server.await_connection()
    assert connection.fired
