# /// bug
# field = "HTTP servers"
# library = "waitress"
# buggy = "3.0.0"
# fixed = "3.0.1"
# report = "Pylons/waitress#418"
# seen = "watched on and on"
# ///
"""A client that is gone before accept() makes the main thread spin."""

import socket
import time
from typing import Any

from waitress import server as waitress
from waitress import wasyncore

from faultkit import sockets


def test_a_client_that_is_gone_before_accept() -> None:
    watched: dict[int, Any] = {}
    server = waitress.create_server(lambda environ, start: start("200 OK", []), map=watched, host="127.0.0.1", port=0)
    own = len(watched)
    client = socket.create_connection(("127.0.0.1", server.effective_port))
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    sockets.abort(client)
    wasyncore.loop(timeout=0.05, map=watched, count=1)  # accept()
    end = time.monotonic() + 2
    while len(watched) > own and time.monotonic() < end:
        wasyncore.loop(timeout=0.05, map=watched, count=1)
    still = len(watched) - own
    server.close()
    assert not still, "the dead connection is watched on and on"
