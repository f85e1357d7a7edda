# /// bug
# field = "WebSocket"
# library = "websocket-client"
# buggy = "1.4.2"
# fixed = "1.5.0"
# report = "websocket-client/websocket-client#862"
# seen = "given up again"
# ///
"""After an outage every later connection is given up too, although its pongs come."""

import threading

import websocket

from faultkit import FaultServer, Live
from tests.gallery.served import websocket as healthy


def test_it_stays_connected_after_an_outage(fault_server: FaultServer) -> None:
    def goes_down(conn: Live) -> None:
        server.fire()
        conn.abort()

    async def restarting(conn: Live) -> None:
        await healthy(conn, at_ping=goes_down if conn.record.number == 1 else None)

    server = fault_server("refuse", at="fire", answer=restarting)
    app = websocket.WebSocketApp(f"ws://{server.host}:{server.port}/")
    pings = {"ping_interval": 0.2, "ping_timeout": 0.1, "reconnect": 0.1}
    thread = threading.Thread(target=app.run_forever, kwargs=pings, daemon=True)
    thread.start()
    server.wait_for_connection(1).wait_for_end()
    thread.join(0.5)  # pings fail
    server.heal()
    server.wait_for_connection(2, timeout_seconds=8)
    thread.join(1)  # pings are answered
    connections = len(server.connections)
    app.close()
    assert connections == 2, "given up again"
