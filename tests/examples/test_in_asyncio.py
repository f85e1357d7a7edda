import asyncio

import pytest

from faultkit import AsyncioLive, FaultServer, in_asyncio


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


@pytest.mark.asyncio
async def test_a_handler_in_the_same_loop(fault_server: FaultServer) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def handler(conn: AsyncioLive) -> None:
        await conn.receive()
        asked.set()
        await may_answer.wait()
        await conn.send(b"late")
        await conn.abort()

    server = fault_server(answer=in_asyncio(handler))
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"anybody?")
    await asked.wait()
    may_answer.set()
    assert await reader.readexactly(4) == b"late"
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
