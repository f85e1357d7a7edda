"""A proxy between a plain client and the servers: `proxied.py nginx|haproxy SECONDS BYTES URL ...`. What it logs is what it
says; the client that asks it is on a Unix socket, so that nobody counts its connections."""

from __future__ import annotations

import ctypes
import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)

NGINX = """\
daemon off;
master_process off;
pid {here}/pid;
error_log stderr error;
events {{}}
http {{
    access_log off;
    client_body_temp_path {here}/body;
    proxy_temp_path {here}/proxy;
    fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi;
    scgi_temp_path {here}/scgi;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_connect_timeout {limit}ms;
    proxy_read_timeout {limit}ms;
    proxy_send_timeout {limit}ms;
{upstreams}
    server {{
        listen unix:{here}/front;
{locations}
    }}
}}
"""

HAPROXY = """\
global
    nbthread 1
    log stderr format raw local0
defaults
    mode http
    log global
    option httplog
    timeout connect {limit}ms
    timeout server {limit}ms
    timeout client 1m
    http-reuse always
frontend front
    bind unix@{here}/front
{uses}
{backends}
"""


def with_parent() -> None:
    """End with the process that started this one, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def nginx(here: str, limit: int, servers: list[str]) -> tuple[str, list[str]]:
    upstreams = [f"    upstream s{n} {{ server {server}; keepalive 4; }}" for n, server in enumerate(servers)]
    locations = [f"        location /{n} {{ proxy_pass http://s{n}/; }}" for n in range(len(servers))]
    text = NGINX.format(
        here=here,
        limit=limit,
        upstreams="\n".join(upstreams),
        locations="\n".join(locations),
    )
    return text, ["nginx", "-p", here, "-e", "stderr", "-c"]


def haproxy(here: str, limit: int, servers: list[str]) -> tuple[str, list[str]]:
    uses = [f"    use_backend s{n} if {{ path /{n} }}" for n in range(len(servers))]
    backends = [f"backend s{n}\n    server s {server}" for n, server in enumerate(servers)]
    text = HAPROXY.format(here=here, limit=limit, uses="\n".join(uses), backends="\n".join(backends))
    return text, ["haproxy", "-db", "-f"]


PROXIES: dict[str, Callable[[str, int, list[str]], tuple[str, list[str]]]] = {"nginx": nginx, "haproxy": haproxy}


class Connection(http.client.HTTPConnection):
    def __init__(self, path: str, patience: float) -> None:
        super().__init__("proxy", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def first(path: str, patience: float, proxy: subprocess.Popen[bytes]) -> Connection:
    """Connected, as soon as the proxy listens, which is nobody's event."""
    while True:
        connection = Connection(path, patience)
        try:
            connection.connect()
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            if proxy.poll() is not None:
                raise SystemExit(f"{proxy.args!r} ended with {proxy.returncode}") from None


def main(name: str, limit: float, upload: int, urls: list[str]) -> int:
    servers = list(dict.fromkeys(urllib.parse.urlsplit(url).netloc for url in urls))
    failed = False
    with tempfile.TemporaryDirectory(dir=".") as made:
        here = str(Path(made).resolve())
        text, argv = PROXIES[name](here, int(limit * 1000), servers)
        file = Path(here, f"{name}.cfg")
        file.write_text(text)
        with subprocess.Popen([*argv, str(file)], preexec_fn=with_parent) as proxy:
            try:
                connection = first(f"{here}/front", limit + 3, proxy)
                for number, url in enumerate(urls, 1):
                    body = bytes(upload) if upload and number == len(urls) else None
                    where = servers.index(urllib.parse.urlsplit(url).netloc)
                    try:
                        connection.request("POST" if body else "GET", f"/{where}", body)
                        answer = connection.getresponse()
                        answer.read()
                        failed = answer.status in (502, 503, 504)
                    except (OSError, http.client.HTTPException):
                        failed = True
                    connection.close()
            finally:
                proxy.send_signal(signal.SIGQUIT if name == "nginx" else signal.SIGUSR1)
    return int(failed)


sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
