import socket

import pytest

from faultkit import FaultServer


def test_a_client_on_a_long_and_narrow_line(fault_server: FaultServer) -> None:
    server = fault_server(latency_seconds=0.3, rate=10_000)
    with socket.create_connection(server.address, timeout=0.1) as client:
        client.sendall(b"one")
        with pytest.raises(TimeoutError):
            client.recv(3)
        client.settimeout(5)
        client.sendall(b"two")  # while the first is under way
        answered = client.recv(3) + client.recv(3)
    assert answered == b"onetwo"
