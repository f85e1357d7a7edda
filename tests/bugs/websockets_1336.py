# /// bug
# field = "WebSocket"
# library = "websockets"
# buggy = "11.0.1"
# fixed = "11.0.2"
# report = "python-websockets/websockets#1336"
# seen = "hangs"
# ///
"""close() waits for ever where messages that came were not read."""

from websockets.sync.client import connect

from faultkit import FaultServer
from tests.gallery.plugin import Ends


def test_close_ends(fault_server: FaultServer, ends: Ends) -> None:
    server = fault_server(answer="websocket")
    client = connect(f"ws://{server.host}:{server.port}/", close_timeout=0.5)
    for _ in range(10):
        client.send("an echo that nobody reads")
    assert ends(client.close), "hangs"
