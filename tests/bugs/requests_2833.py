# /// bug
# field = "HTTP"
# library = "urllib3"
# buggy = "1.26.20"
# fixed = "2.2.3"
# report = "psf/requests#2833"
# seen = "hello"
# beside = ["requests==2.31.0"]
# ///
"""A body that is shorter than its Content-Length passes for whole."""

import pytest
import requests

from faultkit import FaultServer


def test_a_short_body_is_an_error(fault_server: FaultServer) -> None:
    server = fault_server("truncate", answer="http")
    with pytest.raises(requests.RequestException):
        assert requests.get(server.url).content == b"hello from faultkit\n"
