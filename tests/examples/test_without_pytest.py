import socket

import pytest

import faultkit


def test_a_context_manager() -> None:
    with faultkit.serve("refuse") as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address, timeout=5)
        server.heal()
        socket.create_connection(server.address, timeout=5).close()


@pytest.mark.trio
async def test_in_an_event_loop() -> None:
    async with faultkit.serve() as server:  # Trio's or asyncio's
        socket.create_connection(server.address, timeout=5).close()
        connection = await server.await_connection()
        assert (await connection.await_end()).ended == "peer closed"
