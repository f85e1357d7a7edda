import smtplib
import ssl

import httpx
import pytest

from faultkit import FaultServer, Tls


def test_a_client_that_verifies(fault_server: FaultServer) -> None:
    for wrong in (Tls(expired=True), Tls(untrusted=True), Tls(names=["example.org"])):
        server = fault_server(answer="http", tls=wrong)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(server.url, verify=server.client_context)


def test_a_mail_server_that_dies_in_starttls(fault_server: FaultServer) -> None:
    server = fault_server("linger", at="client-hello", answer="smtp", tls=Tls(later=True))
    with pytest.raises((OSError, ssl.SSLError)), smtplib.SMTP(server.host, server.port, timeout=5) as client:
        client.starttls(context=server.client_context)
