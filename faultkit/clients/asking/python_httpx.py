"""httpx: one Client."""

from __future__ import annotations

import sys

import httpx

limit, upload, urls = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
with httpx.Client(timeout=limit) as client:
    for number, url in enumerate(urls, 1):
        body = bytes(upload) if upload and number == len(urls) else None
        print(len(client.request("POST" if body else "GET", url, content=body).content))
