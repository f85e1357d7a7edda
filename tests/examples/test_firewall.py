import socket

import pytest

from faultkit import FaultServer, Firewall


def test_a_server_behind_a_firewall(fault_server: FaultServer, firewall: Firewall) -> None:
    server = fault_server()
    firewall.drop(server.port)
    with pytest.raises(TimeoutError):
        socket.create_connection(server.address, timeout=0.2)
    firewall.lift()
    socket.create_connection(server.address, timeout=5).close()
