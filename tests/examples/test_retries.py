import urllib.request

from faultkit import FaultServer


def fetch(url: str, tries: int = 3) -> bytes:
    """The code under test."""
    for left in reversed(range(tries)):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except ConnectionResetError:
            if not left:
                raise
    raise ValueError("not tried")


def test_the_third_try_gets_the_answer(fault_server: FaultServer) -> None:
    server = fault_server(plan=["linger", "unread", "ok"], answer="http")
    assert fetch(server.url) == b"hello from faultkit\n"
    assert [connection.fired for connection in server.connections] == [True, True, False]
