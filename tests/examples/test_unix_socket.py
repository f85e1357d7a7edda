import http.client
import socket

import pytest

from faultkit import FaultServer


class UnixConnection(http.client.HTTPConnection):
    """The code under test."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def test_a_daemon_that_dies(fault_server: FaultServer) -> None:
    server = fault_server(plan=["unread", "ok"], unix=True, answer="http")
    client = UnixConnection(server.path)
    with pytest.raises(ConnectionResetError):
        client.request("GET", "/")
        client.getresponse()
    client.close()
    client.request("GET", "/")
    assert client.getresponse().read() == b"hello from faultkit\n"
    client.close()


def test_a_daemon_that_is_not_there(fault_server: FaultServer) -> None:
    server = fault_server("refuse", unix=True)
    client = UnixConnection(server.path)
    with pytest.raises(ConnectionRefusedError):
        client.request("GET", "/")
    client.close()
