"""aiohttp: one ClientSession."""

from __future__ import annotations

import asyncio
import sys

import aiohttp

limit, upload, urls = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


async def main() -> None:
    # Of its limits only the one for everything ends a write.
    limits = aiohttp.ClientTimeout(total=limit + 10, sock_connect=limit, sock_read=limit)
    async with aiohttp.ClientSession(timeout=limits) as session:
        for number, url in enumerate(urls, 1):
            body = bytes(upload) if upload and number == len(urls) else None
            async with session.request("POST" if body else "GET", url, data=body) as response:
                print(len(await response.read()))


asyncio.run(main())
