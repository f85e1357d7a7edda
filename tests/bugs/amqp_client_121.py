# /// bug
# field = "AMQP"
# registry = "npm"
# library = "@cloudamqp/amqp-client"
# buggy = "3.1.1"
# fixed = "3.2.1"
# report = "cloudamqp/amqp-client.js#121"
# seen = "hangs"
# ///
"""connect() waits for ever where the server closes before it has said anything."""

from faultkit import FaultServer
from tests.gallery.plugin import Node

SCRIPT = """
import { AMQPClient } from "@cloudamqp/amqp-client"
await new AMQPClient(process.argv[1]).connect().catch(error => console.log("rejected"))
"""


def test_connect_is_rejected(fault_server: FaultServer, node: Node) -> None:
    server = fault_server("late-write")
    assert node(SCRIPT, f"amqp://{server.host}:{server.port}") == "rejected"
