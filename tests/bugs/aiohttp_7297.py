# /// bug
# field = "HTTP"
# library = "aiohttp"
# buggy = "3.9.5"
# fixed = "3.10.0"
# report = "aio-libs/aiohttp#7297"
# seen = "aiohttp.client_exceptions"
# ///
"""A GET that meets the server's idle timeout on a kept connection is not tried again."""

import aiohttp
import pytest

from faultkit import FaultServer


@pytest.mark.parametrize("fin", ["unsent", "in-flight", "unprocessed"])
async def test_the_second_get_is_answered(fault_server: FaultServer, fin: str) -> None:
    server = fault_server(plan=[f"keepalive-race:{fin}", "ok"], answer="http")
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(server.url) as answer:
                assert await answer.text() == "hello from faultkit\n"
