# /// bug
# field = "SMTP"
# library = "aiosmtplib"
# buggy = "5.1.0"
# fixed = "5.1.3"
# report = "cole/aiosmtplib#345"
# seen = "TimeoutError"
# ///
"""A server that resets after QUIT: quit() waits for its answer until the timeout, a minute."""

import asyncio
import contextlib

import aiosmtplib

from faultkit import FaultServer, Live


async def test_quit_ends(fault_server: FaultServer) -> None:
    async def smtp(conn: Live) -> None:
        await conn.send(b"220 ready\r\n")
        while await conn.receive():
            await conn.request()
            await conn.answer(b"250 ok\r\n")

    server = fault_server("linger", after_requests=2, answer=smtp)
    client = aiosmtplib.SMTP(hostname=server.host, port=server.port)
    await client.connect()  # and EHLO
    with contextlib.suppress(aiosmtplib.SMTPServerDisconnected):  # it may be told
        await asyncio.wait_for(client.quit(), 3)
