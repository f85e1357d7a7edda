# /// bug
# field = "NATS"
# registry = "npm"
# library = "nats"
# buggy = "2.0.6"
# fixed = "2.13.1"
# report = "nats-io/nats.node#441"
# seen = "Cannot destructure"
# ///
"""A server that closes before it has said anything is told as an error of the client's own code."""

from faultkit import FaultServer
from tests.gallery.plugin import Node

SCRIPT = """
import { connect } from "nats"
await connect({ servers: process.argv[1], reconnect: false }).catch(error => console.log(error.code ?? error.message))
"""


def test_a_closed_connection_is_refused(fault_server: FaultServer, node: Node) -> None:
    server = fault_server("accept-then-close")
    assert node(SCRIPT, f"{server.host}:{server.port}") == "CONNECTION_REFUSED"
