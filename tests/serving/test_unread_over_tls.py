"""Over TLS too, what `unread` leaves is left in the kernel: or the close would say FIN."""

from __future__ import annotations

import socket

import pytest

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
