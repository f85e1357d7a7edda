"""`fault_server_session`: servers that outlive a test, whose faults, records and findings are each test's own."""

from __future__ import annotations

import pytest

from tests.plugin.project import Project

POOL = """
import http.client

import pytest

@pytest.fixture(scope="session")
def server(fault_server_session):
    return fault_server_session(answer="http")

@pytest.fixture(scope="session")
def pool(server):
    pooled = http.client.HTTPConnection(server.host, server.port, timeout=5)
    yield pooled
    pooled.close()

def status(pool):
    pool.request("GET", "/")
    answer = pool.getresponse()
    answer.read()
    return answer.status
"""

TESTS = """
def test_healthy(server, pool):
    assert status(pool) == 200
    assert [record.fault for record in server.connections] == ["ok"]

def test_the_pooled_one_is_reset(server, pool):
    server.fault = "linger"
    with pytest.raises(ConnectionResetError):
        status(pool)
    pool.close()

def test_not_met(server, pool):
    server.fault = "linger@requests=2"
    status(pool)

def test_healthy_again(server, pool):
    assert (server.fault, status(pool)) == (None, 200)
    assert len(server.connections) == 1

def test_that_asks_for_nothing():
    pass

def test_fails_by_itself(server, pool):
    server.plan = ["stall"]
    assert server.connections == []

def test_last(server, pool):
    assert status(pool) == 200
"""


def test_each_test_finds_it_as_it_was_opened_and_what_is_wrong_is_its_own(project: Project) -> None:
    result = project.run(POOL + TESTS)
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*linger on port * was never met: it was to set in after 2 requests, and 1 connection came: *",
            "*fault_server_session(answer='http') on port *",
            "FAILED test_*::test_not_met*",
            "FAILED test_*::test_fails_by_itself*",
        ]
    )


def test_a_fault_from_the_beginning_has_to_be_met_by_each_test_that_asks_for_it(project: Project) -> None:
    result = project.run(
        """
        import socket, pytest

        @pytest.fixture(scope="module")
        def server(fault_server_session):
            return fault_server_session("linger")

        def met(server):
            with socket.create_connection(server.address) as client:
                client.sendall(b"x")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)

        def test_meets(server):
            met(server)

        def test_does_not(server):
            pass

        def test_asks_for_none(fault_server):
            fault_server()

        def test_meets_again(server):
            met(server)
        """
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*linger on port * was never met: no connection came*"])


@pytest.mark.parametrize("workers", [(), ("-n2", "-pno:benchmark")], ids=["alone", "xdist"])
def test_a_crash_is_told_once(project: Project, workers: tuple[str, ...]) -> None:
    result = project.run_apart(
        """
        import socket, pytest

        async def handler(conn):
            if await conn.receive() == b"bad":
                raise ValueError("a mistake")

        @pytest.fixture(scope="session")
        def server(fault_server_session):
            return fault_server_session(answer=handler)

        @pytest.mark.parametrize("said", [b"good", b"bad", b"good"])
        def test_it(server, said):
            with socket.create_connection(server.address) as client:
                client.sendall(said)
                assert client.recv(1) == b""
        """,
        *workers,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*connection 1: ValueError: a mistake*"])
