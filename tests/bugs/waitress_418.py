# /// bug
# field = "HTTP servers"
# library = "waitress"
# buggy = "3.0.0"
# fixed = "3.0.1"
# report = "Pylons/waitress#418"
# seen = "spins"
# ///
"""A client that is gone before accept() makes the main thread spin."""

import socket
import time

from waitress import server as waitress
from waitress import wasyncore

from faultkit import sockets


def test_a_client_that_is_gone_before_accept() -> None:
    server = waitress.create_server(lambda environ, start: [], map={}, host="127.0.0.1", port=0)
    client = socket.create_connection((server.effective_host, server.effective_port))
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    sockets.abort(client)
    wakes, end = 0, time.monotonic() + 0.3
    while time.monotonic() < end:
        wasyncore.loop(timeout=0.05, map=server._map, count=1)
        wakes += 1
    server.close()
    assert wakes < 20, "spins"
