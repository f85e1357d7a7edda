# /// bug
# field = "WebSocket"
# library = "websocket-client"
# buggy = "0.47.0"
# fixed = "0.48.0"
# report = "websocket-client/websocket-client#411"
# seen = "hangs"
# ///
"""run_forever() with a ping_timeout waits for ever at a peer that has vanished."""

import websocket

from faultkit import FaultServer
from tests.gallery.plugin import Ends


def test_a_black_hole_ends_run_forever(fault_server: FaultServer, ends: Ends) -> None:
    server = fault_server("black-hole", after_answers=1, answer="websocket")
    app = websocket.WebSocketApp(f"ws://{server.host}:{server.port}/")
    assert ends(lambda: app.run_forever(ping_interval=0.4, ping_timeout=0.2)), "hangs"
