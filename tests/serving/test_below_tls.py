"""What a fault does to the socket below TLS."""

from __future__ import annotations

import socket

import pytest
import trio

import faultkit


def test_a_request_that_comes_with_the_end_of_the_handshake_is_left_unread() -> None:
    with (
        faultkit.serve("unread", tls=True) as server,
        socket.create_connection(server.address) as plain,
        server.client_context.wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False) as client,
    ):
        # The client's last record of the handshake leaves with its first of the application, in one segment.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        client.do_handshake()
        client.sendall(b"hello")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        ended = server.wait_for_connection().wait_for_end()
        assert ended.fired
        assert ended.ended is not None and ended.ended.startswith("close with")
        assert ended.received == 0


def test_a_byte_in_the_middle_of_a_record_cannot_be_left_unread() -> None:
    with pytest.raises(faultkit.Misuse) as refused:
        faultkit.serve("unread", tls=True, after_bytes=2)
    assert str(refused.value) == (
        "unread `after 2 bytes received` over TLS: a record is read whole or not at all; take after_requests, or after_bytes=1"
    )
    for plan in (["ok", "keepalive-race:unsent"], ["unread"]):
        with pytest.raises(faultkit.Misuse, match="a record is read whole"):
            faultkit.serve(plan=plan, tls=True, after_bytes=2)


def test_a_socket_that_is_closed_while_tls_is_about_to_read_is_not_read() -> None:
    async def handler(conn: faultkit.Live) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(conn.close)  # as `Server.fire` does
        await conn.receive()

    # Trio shuffles the tasks of a turn, so in half of the connections the close comes first.
    with faultkit.serve(tls=True, answer=handler) as server:
        for _ in range(20):
            with (
                socket.create_connection(server.address) as plain,
                server.client_context.wrap_socket(plain, server_hostname="localhost") as client,
            ):
                assert client.recv(1) == b""
        assert {connection.wait_for_end().ended for connection in server.connections} == {"close"}
