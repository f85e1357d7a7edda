import socket
import time

import pytest

import faultkit
from faultkit import FaultProxy, FaultServer


def ask(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(b"hello")
        return client.recv(100)


def test_the_first_connection_fails(fault_server: FaultServer, fault_proxy: FaultProxy) -> None:
    service = fault_server()  # any service will do: fault_proxy("localhost:6379", ...)
    proxy = fault_proxy(service.address, plan=["linger", "ok"])
    with pytest.raises(ConnectionResetError):
        ask(proxy.address)
    assert ask(proxy.address) == b"hello"
    assert [connection.fired for connection in proxy.connections] == [True, False]


def test_toxics_come_and_go(fault_server: FaultServer, fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(fault_server().address)
    late = proxy.add(faultkit.latency(0.1, jitter_seconds=0.02), towards="client")
    began = time.monotonic()
    assert ask(proxy.address) == b"hello"
    assert time.monotonic() - began > 0.08
    proxy.remove(late.name)
    proxy.add("stall", towards="client")  # a fault that faultkit serve has
    with socket.create_connection(proxy.address, timeout=5) as client:
        client.sendall(b"hello")
        proxy.wait_for_connection(2).wait_for_fired()
        proxy.heal()
        assert client.recv(100) == b"hello"


def test_every_connection_is_cut(fault_server: FaultServer, fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(fault_server().address)
    with socket.create_connection(proxy.address, timeout=5) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
