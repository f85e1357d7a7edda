import smtplib

import httpx
import pytest

from faultkit import FaultServer, Http


def test_a_client_that_waits_as_it_is_told(fault_server: FaultServer) -> None:
    server = fault_server(answer=[Http(status=503, headers={"Retry-After": "1"}), Http(b"well")])
    with httpx.Client() as client:
        answer = client.get(server.url)  # the code under test
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert client.get(server.url).text == "well"


def test_a_request_that_goaway_crosses_is_asked_again(fault_server: FaultServer) -> None:
    server = fault_server(plan=["goaway@requests=2", "ok"], answer="http2")
    with httpx.Client(http1=False, http2=True) as client:
        assert [client.get(server.url).status_code for _ in range(3)] == [200, 200, 200]
    assert len(server.connections) == 2


def test_a_mail_server_that_dies_at_data(fault_server: FaultServer) -> None:
    server = fault_server("linger", after_requests=4, answer="smtp")
    with pytest.raises(smtplib.SMTPServerDisconnected), smtplib.SMTP(server.host, server.port, timeout=5) as client:
        client.sendmail("from@example.org", ["to@example.org"], "text")
