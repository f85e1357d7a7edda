import http.client
import time

from faultkit import FaultServer


def test_a_client_that_tries_until_the_server_is_up_again(fault_server: FaultServer) -> None:
    server = fault_server(answer="http")
    client = http.client.HTTPConnection(server.host, server.port, timeout=5)
    client.request("GET", "/")
    assert client.getresponse().read()

    server.restart(down_seconds=0.2)
    began, tries, pause = time.monotonic(), 0, 0.01
    while True:  # the code under test
        try:
            client.request("GET", "/")
            assert client.getresponse().status == 200
            break
        except ConnectionError:
            client.close()
            tries += 1
            time.sleep(pause)
            pause *= 2
    assert time.monotonic() - began > 0.15
    assert tries < 8  # it backs off
    assert [connection.ended for connection in server.connections] == ["abort", None]
    client.close()
