# /// bug
# field = "AMQP"
# library = "pika"
# buggy = "0.13.1"
# fixed = "1.0.0"
# report = "pika/pika#985"
# seen = "hangs"
# ///
"""A broker that accepts and says nothing: BlockingConnection waits for ever."""

import pika

from faultkit import FaultServer
from tests.gallery.plugin import Ends


def test_connecting_gives_up(fault_server: FaultServer, ends: Ends) -> None:
    server = fault_server("stall")
    parameters = pika.ConnectionParameters(server.host, server.port)
    if hasattr(parameters, "stack_timeout"):  # which is the remedy
        parameters.stack_timeout = 0.5
    assert ends(lambda: pika.BlockingConnection(parameters)), "hangs"
