import http.client

import pytest

from faultkit import FaultServer, Http


def test_an_outage_within_one_connection(fault_server: FaultServer) -> None:
    server = fault_server("stall@requests=2 + ok@idle=300ms + linger@requests=3", answer="http")
    client = http.client.HTTPConnection(server.host, server.port, timeout=5)
    for _ in range(2):  # the second waits until the connection has been idle for 0.3 s
        client.request("GET", "/")
        assert client.getresponse().read()
    client.request("GET", "/")
    with pytest.raises(ConnectionResetError):
        client.getresponse()
    assert [met.fault for met in server.connections[0].met] == ["stall", "ok", "linger"]
    client.close()


def test_the_reset_comes_when_the_answer_is_read(fault_server: FaultServer) -> None:
    server = fault_server(plan=["slices:7 + linger@read", "ok"], answer=Http(b"read to the last byte"))
    client = http.client.HTTPConnection(server.host, server.port, timeout=5)
    client.request("GET", "/")
    assert client.getresponse().read() == b"read to the last byte"
    server.connections[0].wait_for_fired(2)
    with pytest.raises(ConnectionResetError):
        client.request("GET", "/")
    client.close()
    client.request("GET", "/")
    assert client.getresponse().read() == b"read to the last byte"
    client.close()
