# /// bug
# field = "MQTT"
# library = "paho-mqtt"
# buggy = "1.5.1"
# fixed = "1.6.1"
# report = "eclipse/paho.mqtt.python#423"
# seen = "hangs"
# ///
"""connect() to a host that does not answer waits as long as the keepalive, a minute."""

import paho.mqtt.client

from faultkit import FaultServer
from tests.gallery.plugin import Ends


def test_connect_gives_up_soon(fault_server: FaultServer, ends: Ends) -> None:
    server = fault_server("connect-hang")
    client = paho.mqtt.client.Client()
    assert ends(lambda: client.connect(server.host, server.port), within_seconds=8), "hangs"
