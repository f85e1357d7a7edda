import urllib.request

import pytest

from faultkit import FaultServer


def test_a_reset_is_not_hidden(fault_server: FaultServer) -> None:
    server = fault_server("linger", after_bytes=1)
    with pytest.raises(ConnectionResetError):
        urllib.request.urlopen(server.url, timeout=5)
