"""A FIN that follows an answer is there when the answer is: no client is quick enough to use the connection in between."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable

import aiohttp
import httpx
import pytest
import requests
import urllib3

import faultkit
from tests.serving.client import client

TIMES = int(os.environ.get("TIMES", "30"))
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
FINS = ["keepalive-race:unprocessed", "accept-then-close", "half-close", "late-write", "fin-wait-timeout"]
MSS = 65483  # of loopback over IPv4


def told_at_once(sock: socket.socket) -> bytes:
    """What recv() gives, without waiting."""
    sock.setblocking(False)
    return sock.recv(1)


@pytest.mark.parametrize("fault", FINS)
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_who_has_read_the_answer_has_the_fin(fault: str, ipv6: bool) -> None:
    for _ in range(TIMES):
        with faultkit.serve(fault, after_answers=2, ipv6=ipv6) as server, client(server) as plain:
            for sent in ("first", "second"):
                plain.send(sent.encode())
                assert plain.recv() == sent  # in one piece
            assert told_at_once(plain.sock) == b""
            assert server.connections[0].answers == 2


@pytest.mark.parametrize("size", [1, MSS - 513, MSS - 512, MSS - 1, MSS, MSS + 1, 10 * MSS, 3_000_000])
def test_of_whatever_size(size: int) -> None:
    for _ in range(5):
        with (
            faultkit.serve("keepalive-race:unprocessed", answer=b"x" * size) as server,
            client(server) as plain,
        ):
            plain.send(b"a")
            assert len(plain.recv_whole(size)) == size
            assert told_at_once(plain.sock) == b""


def test_over_tls() -> None:
    for _ in range(TIMES):
        with (
            faultkit.serve("keepalive-race:unprocessed", tls=True) as server,
            client(server) as plain,
            server.client_context.wrap_socket(plain.sock, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
            assert sock.pending() == 0
            assert told_at_once(sock) == b""


def test_a_client_that_does_not_look_loses_its_second_request() -> None:
    for _ in range(TIMES):
        with faultkit.serve("keepalive-race:unprocessed") as server, client(server) as plain:
            plain.send(b"first")
            assert plain.recv_whole(5) == "first"
            plain.send(b"second")
            assert [plain.recv(), plain.send(b"third")] == ["EOF", "EPIPE"]
            assert server.connections[0].received == 5


def test_healed_meanwhile_nothing_is_kept_back() -> None:
    """The answer waits for a client that does not read; then all is well."""
    size = 5_000_000
    with (
        faultkit.serve("keepalive-race:unprocessed", answer=b"x" * size, must_be_met=False) as server,
        client(server) as plain,
    ):
        plain.send(b"a")
        assert plain.recv(1) == "x"
        server.heal()
        assert len(plain.recv_whole(size - 1)) == size - 1
        plain.send(b"a")
        assert len(plain.recv_whole(size)) == size


def with_requests(url: str) -> list[int]:
    with requests.Session() as session:
        return [session.get(url).status_code, session.get(url).status_code]


def with_urllib3(url: str) -> list[int]:
    with urllib3.PoolManager(retries=False) as pool:
        return [pool.request("GET", url).status, pool.request("GET", url).status]


def with_httpx(url: str) -> list[int]:
    with httpx.Client() as session:
        return [session.get(url).status_code, session.get(url).status_code]


async def _aiohttp(url: str) -> list[int]:
    told = []
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(url) as answer:
                await answer.read()
                told.append(answer.status)
    return told


def with_aiohttp(url: str) -> list[int]:
    return asyncio.run(_aiohttp(url))


@pytest.mark.parametrize("library", [with_requests, with_urllib3, with_httpx, with_aiohttp])
def test_a_client_that_looks_takes_another_connection(library: Callable[[str], list[int]]) -> None:
    for _ in range(TIMES):
        with faultkit.serve(plan=["keepalive-race:unprocessed", "ok"], answer="http") as server:
            assert library(server.url) == [200, 200]
            assert [record.answers for record in server.connections] == [1, 1]


NODE = """
const http = require("http")
const agent = new http.Agent({keepAlive: true, maxSockets: 1})
const get = () => new Promise((done, failed) => http.get(process.argv[1], {agent}, answer => {
  answer.resume(); answer.on("end", () => done(answer.statusCode)) }).on("error", failed))
get().then(first => get().then(second => console.log(first, second), error => console.log(first, error.code)))
"""


def test_node() -> None:
    """It writes its second request as soon as the first answer is whole, before its loop looks at the FIN."""
    for _ in range(TIMES // 10):
        with faultkit.serve("keepalive-race:unprocessed", answer="http") as server:
            ended = subprocess.run(
                ["node", "-e", NODE, server.url], capture_output=True, text=True, timeout=20, check=True
            )
            assert ended.stdout == "200 ECONNRESET\n"
            assert server.connections[0].answers == 1
