# /// bug
# field = "AMQP"
# library = "amqp"
# buggy = "5.1.1"
# fixed = "5.2.0"
# report = "celery/py-amqp#398"
# seen = "hangs"
# ///
"""A TLS handshake that nobody answers: connect() waits for ever, whatever its timeout."""

import amqp

from faultkit import FaultServer
from tests.gallery.plugin import Ends


def test_connect_gives_up(fault_server: FaultServer, ends: Ends) -> None:
    server = fault_server("stall")
    client = amqp.Connection(f"{server.host}:{server.port}", ssl=True, connect_timeout=0.5)
    assert ends(client.connect), "hangs"
