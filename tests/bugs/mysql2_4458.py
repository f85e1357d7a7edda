# /// bug
# field = "MySQL"
# registry = "npm"
# library = "mysql2"
# buggy = "3.11.5"
# fixed = "3.24.6"
# report = "sidorares/node-mysql2#4458"
# seen = "hangs"
# ///
"""A server that falls silent in the middle of the login: connectTimeout ends with its first byte."""

from faultkit import FaultServer, Live
from tests.gallery.plugin import Node
from tests.gallery.served import MYSQL_GREETING

SCRIPT = """
import mysql from "mysql2/promise"
const [host, port] = process.argv.slice(1)
await mysql.createConnection({ host, port, connectTimeout: 500 }).catch(error => console.log(error.code))
"""


def test_connecting_gives_up(fault_server: FaultServer, node: Node) -> None:
    async def mysql(conn: Live) -> None:
        await conn.send(MYSQL_GREETING)
        await conn.receive()
        await conn.answer(b"never sent")

    server = fault_server("stall", answer=mysql)
    assert node(SCRIPT, server.host, server.port) == "ETIMEDOUT"
