"""A fault that ends with FIN may come too late: the client has reset the connection."""

from __future__ import annotations

import socket

import pytest

import faultkit


@pytest.mark.parametrize("fault", ["accept-then-close", "half-close"])
def test_a_fin_to_a_client_that_has_reset_is_no_crash(fault: str) -> None:
    async def handler(conn: faultkit.Live) -> None:
        await conn.receive()
        faultkit.abort(client)  # on loopback its RST is there when this returns
        await conn.request()
        await conn.receive()

    with faultkit.serve(fault, after_requests=1, answer=handler) as server:
        client = socket.create_connection(server.address)
        client.sendall(b"x")
        ended = server.wait_for_connection().wait_for_end()
    assert ended.fired
    assert ended.ended == "lost: ECONNRESET"
