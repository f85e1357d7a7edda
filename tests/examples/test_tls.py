import ssl
import urllib.error
import urllib.request

import pytest

from faultkit import FaultServer


def test_a_handshake_that_is_cut_off(fault_server: FaultServer) -> None:
    server = fault_server(plan=["linger", "ok"], at="client-hello", tls=True, answer="http")
    trusted: ssl.SSLContext = server.client_context
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(server.url, context=trusted, timeout=5)
    with urllib.request.urlopen(server.url, context=trusted, timeout=5) as answer:
        assert answer.status == 200
