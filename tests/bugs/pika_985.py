# /// bug
# field = "AMQP"
# library = "pika"
# buggy = "0.13.1"
# fixed = "1.0.0"
# report = "pika/pika#985"
# seen = "hangs"
# ///
"""A broker that accepts and says nothing: BlockingConnection waits for ever."""

import threading

import pika

from faultkit import FaultServer


def test_connecting_gives_up(fault_server: FaultServer) -> None:
    server = fault_server("stall")
    parameters = pika.ConnectionParameters(server.host, server.port)
    if hasattr(parameters, "stack_timeout"):  # which is the remedy
        parameters.stack_timeout = 0.5
    ended = threading.Event()

    def connect() -> None:
        try:
            pika.BlockingConnection(parameters)
        except Exception:
            ended.set()

    threading.Thread(target=connect, daemon=True).start()
    server.wait_for_connection(timeout_seconds=20).wait_for_fired()
    gave_up = ended.wait(3)
    server.heal()
    assert gave_up, "hangs"
