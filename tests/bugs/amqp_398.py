# /// bug
# field = "AMQP"
# library = "amqp"
# buggy = "5.1.1"
# fixed = "5.2.0"
# report = "celery/py-amqp#398"
# seen = "hangs"
# ///
"""A TLS handshake that nobody answers: connect() waits for ever, whatever its timeout."""

import threading

import amqp

from faultkit import FaultServer


def test_connect_gives_up(fault_server: FaultServer) -> None:
    server = fault_server("stall")
    ended = threading.Event()

    def connect() -> None:
        try:
            amqp.Connection(f"{server.host}:{server.port}", ssl=True, connect_timeout=0.5).connect()
        except OSError:
            ended.set()

    threading.Thread(target=connect, daemon=True).start()
    server.wait_for_connection(timeout_seconds=20).wait_for_fired()
    gave_up = ended.wait(3)
    server.heal()
    assert gave_up, "hangs"
