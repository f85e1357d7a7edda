"""requests: one Session."""

from __future__ import annotations

import sys

import requests

limit, upload, urls = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
with requests.Session() as session:
    for number, url in enumerate(urls, 1):
        body = bytes(upload) if upload and number == len(urls) else None
        print(len(session.request("POST" if body else "GET", url, data=body, timeout=limit).content))
