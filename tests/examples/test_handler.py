import socket

import pytest

from faultkit import FaultServer, Live


async def half_an_answer(conn: Live) -> None:
    assert await conn.receive() == b"GET user:1\r\n"
    await conn.send(b"$11\r\nhello")
    conn.abort()


def test_a_reply_that_is_cut_off(fault_server: FaultServer) -> None:
    server = fault_server(answer=half_an_answer)
    with socket.create_connection(server.address, timeout=5) as client:
        client.sendall(b"GET user:1\r\n")
        assert client.recv(100) == b"$11\r\nhello"
        with pytest.raises(ConnectionResetError):
            client.recv(100)
