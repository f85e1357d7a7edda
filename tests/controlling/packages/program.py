"""What toxiproxy-python does with a server, and what its user's sockets see."""

from __future__ import annotations

import socket
import sys
import time

from toxiproxy import Toxiproxy
from toxiproxy.exceptions import InvalidToxic, ProxyExists

port, upstream = sys.argv[1:]
server = Toxiproxy()
server.update_api_consumer("127.0.0.1", int(port))


def connect(listen: str) -> socket.socket:
    """To a proxy."""
    host, _, number = listen.rpartition(":")
    return socket.create_connection((host, int(number)), 5)


def round_trip(sock: socket.socket) -> float:
    """Seconds of one."""
    began = time.monotonic()
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    return time.monotonic() - began


assert server.running()
assert b"2." in server.version()
proxy = server.create(upstream=upstream, name="echo")  # without a listen
listen = proxy.listen
try:
    server.create(upstream=upstream, name="echo")
    raise AssertionError("a name was given twice")
except ProxyExists:
    pass
assert server.get_proxy("none") is None
assert server.destroy("none") is False

with connect(listen) as client:
    assert round_trip(client) < 0.1
    proxy.add_toxic(type="latency", attributes={"latency": 100})
    proxy.add_toxic(type="latency", attributes={"latency": 100}, stream="upstream", name="second")
    assert round_trip(client) >= 0.2
    assert sorted(proxy.toxics()) == ["latency_downstream", "second"]
    assert proxy.get_toxic("second").attributes["latency"] == 100
    try:
        proxy.add_toxic(type="latency", stream="sideways")
        raise AssertionError("a direction that is none was taken")
    except InvalidToxic:
        pass
    proxy.destroy_toxic("second")
    proxy.destroy_toxic("latency_downstream")
    assert proxy.toxics() == {}
    assert round_trip(client) < 0.1
    with proxy.down():
        assert client.recv(1) == b""
        try:
            connect(listen)
            raise AssertionError("it listens")
        except ConnectionRefusedError:
            pass
connect(listen).close()
assert proxy.listen == listen

proxy.disable()
assert not proxy.enabled
server.reset()
connect(listen).close()
populated = server.populate([{"name": "a", "upstream": upstream, "listen": "localhost:0"}])
assert [one.name for one in populated] == ["a"]
assert sorted(server.proxies()) == ["a", "echo"]
server.destroy_all()
assert server.proxies() == {}
