# /// bug
# field = "SSH"
# registry = "npm"
# library = "ssh2"
# buggy = "0.8.9"
# fixed = "1.4.0"
# report = "mscdex/ssh2#337"
# seen = "hangs"
# ///
"""A server that closes before it has said anything: there is no error, and whoever waits for "ready" or "error" waits."""

from faultkit import FaultServer
from tests.gallery.plugin import Node

SCRIPT = """
import ssh2 from "ssh2"
const client = new ssh2.Client()
const [host, port] = process.argv.slice(1)
await new Promise(done => {
  client.on("ready", done).on("error", error => done(console.log(error.message)))
  client.connect({ host, port, username: "me", password: "none" })
})
"""


def test_a_closed_connection_is_an_error(fault_server: FaultServer, node: Node) -> None:
    server = fault_server("late-write")
    assert "Connection lost" in node(SCRIPT, server.host, server.port)
