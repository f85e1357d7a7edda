# /// bug
# field = "HTTP"
# registry = "npm"
# library = "undici"
# buggy = "4.16.0"
# fixed = "5.28.4"
# report = "nodejs/undici#1415"
# seen = "UND_ERR_SOCKET"
# ///
"""A connection that the server has closed is taken again for the next request, which fails."""

from faultkit import FaultServer
from tests.gallery.plugin import Node

SCRIPT = """
import { request } from "undici"
for (const turn of [1, 2]) {
  await request(process.argv[1]).then(answer => answer.body.text()).catch(error => console.log(error.code))
}
"""


def test_the_second_request_is_answered(fault_server: FaultServer, node: Node) -> None:
    server = fault_server(plan=["late-write", "ok"], after_answers=1, answer="http")
    assert node(SCRIPT, server.url) == ""
