# /// bug
# field = "PostgreSQL"
# library = "pg8000"
# buggy = "1.25.0"
# fixed = "1.26.0"
# report = "tlocke/pg8000#102"
# seen = "struct.error"
# ///
"""A server that closes in the middle of the login raises an error of the parser."""

import pg8000.native
import pytest

from faultkit import FaultServer


def test_a_server_that_is_still_starting(fault_server: FaultServer) -> None:
    server = fault_server("late-write")
    with pytest.raises(pg8000.native.InterfaceError):
        pg8000.native.Connection("user", host=server.host, port=server.port, timeout=5)
