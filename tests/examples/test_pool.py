import http.client

import pytest

from faultkit import FaultServer


def test_a_connection_that_died_in_the_pool(fault_server: FaultServer) -> None:
    server = fault_server("linger", at="fire", answer="http")
    client = http.client.HTTPConnection(server.host, server.port, timeout=5)
    client.request("GET", "/")
    assert client.getresponse().read() == b"hello from faultkit\n"

    server.fire()  # the idle connection is reset, now
    with pytest.raises(ConnectionResetError):
        client.request("GET", "/")

    server.heal()
    client.close()
    client.request("GET", "/")
    assert client.getresponse().status == 200
    client.close()
