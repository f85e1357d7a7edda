"""Python's http.client. Like its neighbours: `SECONDS BYTES URL ...` asks for each URL in turn, with one connection to a
server for as long as that allows; the last with a POST of so many bytes, if any; no call may take longer than that."""

from __future__ import annotations

import http.client
import sys
import urllib.parse

limit, upload, urls = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
connections: dict[str, http.client.HTTPConnection] = {}
for number, url in enumerate(urls, 1):
    server = urllib.parse.urlsplit(url).netloc
    connection = connections.setdefault(server, http.client.HTTPConnection(server, timeout=limit))
    body = bytes(upload) if upload and number == len(urls) else None
    connection.request("POST" if body else "GET", "/", body)
    print(len(connection.getresponse().read()))
