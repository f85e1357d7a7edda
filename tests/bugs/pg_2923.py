# /// bug
# field = "PostgreSQL"
# registry = "npm"
# library = "pg"
# buggy = "8.7.3"
# fixed = "8.11.3"
# report = "brianc/node-postgres#2923"
# seen = "hangs"
# ///
"""end() never settles on a client whose connection was lost before."""

from faultkit import FaultServer
from tests.gallery.plugin import Node

SCRIPT = """
import pg from "pg"
const [host, port] = process.argv.slice(1)
const client = new pg.Client({ host, port, ssl: true })
await client.connect().catch(error => 0)
await client.end()
console.log("ended")
"""


def test_end_settles(fault_server: FaultServer, node: Node) -> None:
    server = fault_server("late-write")
    assert node(SCRIPT, server.host, server.port) == "ended"
