# /// bug
# field = "AMQP"
# registry = "npm"
# library = "amqplib"
# buggy = "0.8.0"
# fixed = "0.9.1"
# report = "amqp-node/amqplib#647"
# seen = "hangs"
# ///
"""A broker that speaks something else: connect() is rejected, and its connection stays open for ever."""

from faultkit import FaultServer, Live
from tests.gallery.plugin import Node

SCRIPT = """
import amqp from "amqplib"
await amqp.connect(process.argv[1]).catch(error => console.log("rejected"))
while (process.getActiveResourcesInfo().includes("TCPSocketWrap")) await new Promise(done => setTimeout(done, 10))
"""


def test_the_connection_is_closed(fault_server: FaultServer, node: Node) -> None:
    async def no_amqp(conn: Live) -> None:
        await conn.receive()
        await conn.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while await conn.receive():
            pass

    server = fault_server(answer=no_amqp)
    assert node(SCRIPT, f"amqp://{server.host}:{server.port}") == "rejected"
