import urllib.request

import pytest

from faultkit import FaultServer


def test_only_uploads_fail(fault_server: FaultServer) -> None:
    server = fault_server("linger", when="path=/upload*", answer="http")
    with urllib.request.urlopen(server.url + "status", timeout=5) as answer:
        assert answer.status == 200
    with pytest.raises(OSError, match="reset by peer"):  # of urllib's own kind while it sends
        urllib.request.urlopen(server.url + "upload", data=b"...", timeout=5)


def test_by_whatever_came_first(fault_server: FaultServer) -> None:
    server = fault_server(plan=["linger", "ok"], when=lambda opening: b"/report" in opening.first, answer="http")
    with urllib.request.urlopen(server.url, timeout=5) as answer:
        assert answer.status == 200
    with pytest.raises(ConnectionResetError):
        urllib.request.urlopen(server.url + "report", timeout=5)
    with urllib.request.urlopen(server.url + "report", timeout=5) as answer:  # the second report is well
        assert answer.status == 200
