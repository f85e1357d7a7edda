# /// bug
# field = "HTTP"
# registry = "npm"
# library = "got"
# buggy = "9.6.0"
# fixed = "10.7.0"
# report = "sindresorhus/got#1096"
# seen = "hangs"
# ///
"""A body that is cut off: the promise is neither kept nor broken."""

from faultkit import FaultServer
from tests.gallery.plugin import Node

SCRIPT = """
import got from "got"
await got(process.argv[1], { retry: 0 }).then(answer => console.log("whole"), error => console.log(error.code))
"""


def test_a_short_body_is_an_error(fault_server: FaultServer, node: Node) -> None:
    server = fault_server("truncate", answer="http")
    assert node(SCRIPT, server.url) == "ECONNRESET"
