# /// bug
# field = "gRPC"
# registry = "npm"
# library = "@grpc/grpc-js"
# buggy = "1.5.10"
# fixed = "1.8.0"
# report = "grpc/grpc-node#2097"
# seen = "hangs"
# ///
"""The keepalive finds out that the peer has vanished, and the calls that wait for it wait on."""

from faultkit import FaultServer
from tests.gallery.plugin import Node

SCRIPT = """
import grpc from "@grpc/grpc-js"
const options = { "grpc.keepalive_time_ms": 500, "grpc.keepalive_timeout_ms": 500 }
const client = new grpc.Client(process.argv[1], grpc.credentials.createInsecure(), options)
const error = await new Promise(done => client.makeUnaryRequest("/a/b", Buffer.from, String, "", done))
console.log(error.code)
"""


def test_the_call_ends(fault_server: FaultServer, node: Node) -> None:
    server = fault_server("black-hole", after_requests=1, answer="http2")
    assert node(SCRIPT, f"{server.host}:{server.port}") == "14"
