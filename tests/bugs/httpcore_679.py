# /// bug
# field = "HTTP/2"
# library = "httpcore"
# buggy = "0.17.0"
# fixed = "0.17.1"
# report = "encode/httpcore#679"
# seen = "RemoteProtocolError"
# beside = ["httpx[http2]==0.24.0"]
# ///
"""A connection on which GOAWAY came stays in the pool, and every later request fails on it."""

import contextlib

import httpx

from faultkit import FaultServer


def test_the_pool_takes_another_connection(fault_server: FaultServer) -> None:
    server = fault_server(plan=["goaway@requests=2", "ok"], answer="http2")
    with httpx.Client(http1=False, http2=True) as client:
        assert client.get(server.url).status_code == 200
        with contextlib.suppress(httpx.RemoteProtocolError):  # it may be told, once
            client.get(server.url)
        assert client.get(server.url).status_code == 200
