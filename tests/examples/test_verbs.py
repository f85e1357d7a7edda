import socket

import pytest
import trio

from faultkit import sockets


def test_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
        sockets.abort(connection)  # SO_LINGER {1, 0}, close(): RST
        with client, pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.trio
async def test_a_peer_that_is_gone() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        connection = await listener.accept()
        sockets.black_hole(connection.socket)  # deaf: no ACK, no FIN, no RST, as if the cable were cut
        sockets.user_timeout(client.socket, seconds=0.5)
        await client.send_all(b"anybody?")
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError) as lost:
            await client.receive_some()
        assert isinstance(lost.value.__cause__, TimeoutError)  # ETIMEDOUT
        sockets.heal(connection.socket)
        await client.aclose()
        await connection.aclose()
