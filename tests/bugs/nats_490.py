# /// bug
# field = "NATS"
# library = "nats-py"
# buggy = "2.11.0"
# fixed = "2.12.0"
# report = "nats-io/nats.py#490"
# seen = "-14"
# ///
"""A server that closes while connect() is under way makes it spin for ever, with the whole event loop."""

import subprocess
import sys

from faultkit import FaultServer, Live

SCRIPT = """
import asyncio, signal, sys, nats
signal.setitimer(signal.ITIMER_REAL, 3)  # of no use were a timeout of the loop, which is never reached
async def main():
    client = await nats.connect(sys.argv[1], connect_timeout=1, reconnect_time_wait=0.1)
    while not client.is_connected:
        await asyncio.sleep(0.1)
    await client.close()
asyncio.run(main())
"""


def test_connect_takes_the_server_that_is_there_again(fault_server: FaultServer) -> None:
    async def restarting(conn: Live) -> None:
        await conn.send(b'INFO {"server_id":"x","version":"2.10.0","proto":1,"max_payload":1048576}\r\n')
        while data := await conn.receive():
            await conn.answer(b"PONG\r\n" * data.count(b"PING\r\n"))

    server = fault_server(plan=["late-write", "ok"], answer=restarting)
    url = f"nats://{server.host}:{server.port}"
    assert subprocess.run([sys.executable, "-c", SCRIPT, url]).returncode == 0
