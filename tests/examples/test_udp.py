import socket

import pytest

from faultkit import FaultServerUdp


def asks(address: tuple[str, int], *, tries: int) -> bytes:
    """The code under test: it asks again where nothing comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        client.connect(address)
        for _ in range(tries):
            client.send(b"question")
            try:
                return client.recv(512)
            except TimeoutError:
                pass
    raise TimeoutError


def test_a_client_that_asks_again(fault_server_udp: FaultServerUdp) -> None:
    server = fault_server_udp(plan=["silence", "silence", "ok"], answer=b"answer")
    assert asks(server.address, tries=3) == b"answer"
    first, second, _ = server.datagrams
    assert second.at - first.at > 0.09


def test_nobody_has_the_port(fault_server_udp: FaultServerUdp) -> None:
    server = fault_server_udp("port-unreachable", answer=b"answer")
    with pytest.raises(ConnectionRefusedError):
        asks(server.address, tries=3)
    server.heal()
    assert asks(server.address, tries=1) == b"answer"
