import http.client
from collections.abc import Iterator

import pytest

from faultkit import FaultServer, Server


@pytest.fixture(scope="module")
def server(fault_server_session: FaultServer) -> Server:
    return fault_server_session(answer="http")


@pytest.fixture(scope="module")
def pool(server: Server) -> Iterator[http.client.HTTPConnection]:
    pooled = http.client.HTTPConnection(server.host, server.port, timeout=5)
    yield pooled
    pooled.close()


def test_the_connection_is_kept(server: Server, pool: http.client.HTTPConnection) -> None:
    for _ in range(2):
        pool.request("GET", "/")
        assert pool.getresponse().read()
    assert len(server.connections) == 1


def test_the_kept_connection_dies(server: Server, pool: http.client.HTTPConnection) -> None:
    server.fault = "linger"
    with pytest.raises(ConnectionResetError):
        pool.request("GET", "/")
        pool.getresponse()
    pool.close()


def test_all_is_well_again(server: Server, pool: http.client.HTTPConnection) -> None:
    pool.request("GET", "/")
    assert pool.getresponse().read()
