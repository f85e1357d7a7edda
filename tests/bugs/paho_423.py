# /// bug
# field = "MQTT"
# library = "paho-mqtt"
# buggy = "1.5.1"
# fixed = "1.6.1"
# report = "eclipse/paho.mqtt.python#423"
# seen = "hangs"
# ///
"""connect() to a host that does not answer waits as long as the keepalive, a minute."""

import threading

import paho.mqtt.client

from faultkit import FaultServer


def test_connect_gives_up_soon(fault_server: FaultServer) -> None:
    server = fault_server("connect-hang")
    client = paho.mqtt.client.Client()
    connecting = threading.Thread(target=client.connect, args=(server.host, server.port), daemon=True)
    connecting.start()
    connecting.join(7)
    gave_up = not connecting.is_alive()
    server.heal()
    assert gave_up, "hangs"
