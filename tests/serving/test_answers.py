"""What a healthy connection answers, to clients of the standard library and to bytes by hand."""

from __future__ import annotations

import contextlib
import http.client
import re
from collections.abc import Iterator
from typing import Any

import pytest

import faultkit
from faultkit import Http, Misuse, Server
from tests.serving.client import PATIENCE, Client, client


@pytest.fixture
def web() -> Iterator[Server]:
    with faultkit.serve(answer="http") as server:
        yield server


def browser(server: Server) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE))


def everything(plain: Client) -> bytes:
    data = b""
    while part := plain.sock.recv(65536):
        data += part
    return data


def test_an_echo_gives_every_byte_back() -> None:
    sent = bytes(range(256)) * 4000
    with faultkit.serve() as server, client(server) as plain:
        plain.sock.sendall(sent[:300_000])
        assert plain.recv_whole(300_000).encode("latin-1") == sent[:300_000]
        record = server.connections[0]
        assert record.received == 300_000


def test_fixed_bytes_answer_whatever_comes() -> None:
    with faultkit.serve(answer=b"+PONG\r\n") as server, client(server) as plain:
        for _ in range(3):
            plain.send(b"PING\r\n")
            assert plain.recv() == "+PONG\r\n"
        assert (server.connections[0].requests, server.connections[0].answers) == (3, 3)


def test_a_connection_is_kept_for_the_next_request(web: Server) -> None:
    with browser(web) as page:
        for method, body in (
            ("GET", None),
            ("POST", b"x" * 100_000),
            ("PUT", iter([b"in ", b"chunks"])),
            ("GET", None),
        ):
            page.request(method, "/any", body=body, encode_chunked=not isinstance(body, bytes))
            answer = page.getresponse()
            assert (answer.status, answer.read()) == (200, b"hello from faultkit\n")
        [record] = web.connections
        assert (record.requests, record.answers) == (4, 4)


def test_the_answer_to_head_has_no_body(web: Server) -> None:
    with browser(web) as page:
        for _ in range(2):  # a body would be taken for the second answer
            page.request("HEAD", "/")
            answer = page.getresponse()
            assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "20", b"")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body(status: int) -> None:
    with faultkit.serve(answer=Http(status=status)) as server, browser(server) as page:
        for _ in range(2):
            page.request("GET", "/")
            answer = page.getresponse()
            assert (answer.status, answer.read()) == (status, b"")
            assert (answer.headers["Content-Length"] is None) == (status == 204)


def test_an_answer_in_chunks() -> None:
    with faultkit.serve(answer=Http(chunked=True)) as server, browser(server) as page:
        for method, body in (("GET", b"hello from faultkit\n"), ("HEAD", b""), ("GET", b"hello from faultkit\n")):
            page.request(method, "/")
            answer = page.getresponse()
            assert (answer.headers["Transfer-Encoding"], answer.headers["Content-Length"]) == ("chunked", None)
            assert answer.read() == body
        assert len(server.connections) == 1


def test_to_http_1_0_the_end_of_an_answer_without_a_length_is_fin() -> None:
    with faultkit.serve(answer=Http(chunked=True)) as server, client(server) as plain:
        plain.send(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = everything(plain).partition(b"\r\n\r\n")
        assert (b"chunked" in head, body) == (False, b"hello from faultkit\n")


def test_a_chunk_that_is_cut_in_two() -> None:
    with faultkit.serve("truncate", answer=Http(chunked=True)) as server, browser(server) as page:
        page.request("GET", "/")
        with pytest.raises(http.client.IncompleteRead):
            page.getresponse().read()
        assert server.connections[0].fired


def test_an_answer_of_ones_own() -> None:
    ours = Http(b'{"up": false}', status=503, content_type="application/json")
    with faultkit.serve(answer=ours) as server, browser(server) as page:
        page.request("GET", "/")
        answer = page.getresponse()
        assert (answer.status, answer.headers["Content-Type"], answer.read()) == (
            503,
            "application/json",
            b'{"up": false}',
        )


def test_a_client_that_asks_first_is_told_to_go_on(web: Server) -> None:
    with client(web) as plain:
        plain.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert plain.recv().startswith("HTTP/1.1 100 ")
        plain.send(b"body")
        assert plain.recv().startswith("HTTP/1.1 200 ")


def test_connection_close_is_done(web: Server) -> None:
    with client(web) as plain:
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert everything(plain).endswith(b"hello from faultkit\n")
        assert web.connections[0].wait_for_end().ended == "closed"


def test_requests_that_come_together_are_answered_one_by_one(web: Server) -> None:
    with client(web) as plain:
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert len(re.findall(b"hello from faultkit", everything(plain))) == 4


@pytest.mark.parametrize("behind", [0, 3_000_000])
def test_no_http_is_told_so_and_the_answer_is_not_reset(web: Server, behind: int) -> None:
    for _ in range(5):
        with client(web) as plain:
            plain.send(b"*1\r\n$4\r\nPING\r\n\r\n" + bytes(behind))
            told = everything(plain)
            assert told.startswith(b"HTTP/1.1 400 ")
            assert told.endswith(b"\n")


def test_a_client_that_goes_in_the_middle_of_a_request_is_no_crash(web: Server) -> None:
    with client(web) as plain:
        plain.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    web.wait_for_connection().wait_for_end()
    web.check()


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: Http(status=100), "Http(status=100): it is 200 to 599"),
        (lambda: Http(status="200"), "Http(status='200'): it is a whole number"),  # type: ignore[arg-type]
        (lambda: Http("text"), "Http(body='text'): it is bytes"),  # type: ignore[arg-type]
        (
            lambda: faultkit.serve(answer="htpp"),  # type: ignore[arg-type]
            "answer='htpp' is nothing to answer: take 'echo', 'http', 'http2', 'websocket', 'redis', 'smtp', "
            "faultkit.Http(...) or a list of them, bytes, or async def handler(conn)",
        ),
        (
            lambda: faultkit.serve(answer=None),  # type: ignore[arg-type]
            "answer=None is nothing to answer: take 'echo', 'http', 'http2', 'websocket', 'redis', 'smtp', "
            "faultkit.Http(...) or a list of them, bytes, or async def handler(conn)",
        ),
    ],
)
def test_what_is_no_answer_is_one_sentence(made: Any, sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        made()
    assert str(refused.value) == sentence
