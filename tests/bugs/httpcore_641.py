# /// bug
# field = "HTTP"
# library = "httpcore"
# buggy = "0.17.3"
# fixed = "0.18.0"
# report = "encode/httpcore#641"
# seen = "httpx.WriteError"
# beside = ["httpx"]
# ///
"""An upload that is reset hides the answer that the server had given before it."""

import httpx

from faultkit import FaultServer


def test_the_early_answer_is_read(fault_server: FaultServer) -> None:
    server = fault_server("early-response")
    assert httpx.post(server.url, content=bytes(10_000_000)).status_code == 413
