# /// bug
# field = "HTTP"
# registry = "npm"
# library = "node-fetch"
# buggy = "2.6.1"
# fixed = "2.7.0"
# report = "node-fetch/node-fetch#1172"
# seen = "hangs"
# ///
"""A chunked body that ends too early: the promise is neither kept nor broken."""

import faultkit
from tests.gallery.plugin import Node

SCRIPT = """
import fetch from "node-fetch"
const answer = await fetch(process.argv[1])
await answer.text().then(text => console.log("whole:", text), error => console.log(error.code))
"""


def test_a_short_body_is_an_error(fault_server: faultkit.FaultServer, node: Node) -> None:
    server = fault_server("truncate", answer=faultkit.Http(chunked=True))
    assert node(SCRIPT, server.url) == "ERR_STREAM_PREMATURE_CLOSE"
