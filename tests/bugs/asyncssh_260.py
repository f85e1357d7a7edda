# /// bug
# field = "SSH"
# library = "asyncssh"
# buggy = "2.1.0"
# fixed = "2.2.0"
# report = "ronf/asyncssh#260"
# seen = "TimeoutError"
# ///
"""A server that is no SSH server sends on and on, and is listened to for ever."""

import asyncio

import asyncssh
import pytest

from faultkit import FaultServer, Live


async def test_another_protocol_is_an_error(fault_server: FaultServer) -> None:
    async def no_ssh(conn: Live) -> None:
        await conn.send(bytes(100_000))
        while await conn.receive():
            pass

    server = fault_server(answer=no_ssh)
    with pytest.raises(asyncssh.Error):
        await asyncio.wait_for(asyncssh.get_server_host_key(server.host, server.port), 3)
