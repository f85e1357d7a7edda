"""Which connections have the fault: by their first bytes, by their request, by their peer, by a function."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Misuse, Opening
from faultkit.evidence.transcript import Address
from faultkit.serving.which import More, chosen
from tests.serving.client import client


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


WHENS: dict[str, tuple[Any, bytes, bytes]] = {
    "path": ("path=/up*", get("/upload?id=1"), get("/other")),
    "method": ("method=POST", get("/", "POST"), get("/")),
    "first bytes": ("first=GET /a", get("/a"), get("/b")),
    "a function": (lambda opening: b"Host: a" in opening.first, get("/"), b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("case", WHENS)
def test_who_is_meant_has_it(case: str, tls: bool) -> None:
    when, meant, other = WHENS[case]
    with faultkit.serve("linger", when=when, answer="http", tls=tls) as server:
        for said in (other, meant, other, meant):
            with client(server) as plain:
                if tls:
                    plain.sock = server.client_context.wrap_socket(plain.sock, server_hostname="localhost")
                plain.send(said)
                told = plain.recv()
                plain.sock.close()
                assert told.startswith("HTTP/1.1 200") is (said is other), told
            server.connections[-1].wait_for_end()
        assert [record.fault for record in server.connections] == ["ok", "linger", "ok", "linger"]
        assert [record.received for record in server.connections if record.fault == "ok"] == [len(other)] * 2


def test_a_request_line_in_pieces_is_waited_for() -> None:
    with faultkit.serve("unread", after_requests=1, when="path=/here", answer="http") as server:
        for path, told in (("/there", "HTTP/1.1 200"), ("/here", "ECONNRESET")):
            with client(server) as plain:
                line = get(path)
                for at in range(0, 16, 4):
                    plain.send(line[at : at + 4])
                    assert plain.waits(0.01)
                plain.send(line[16:])
                assert plain.recv().startswith(told)


def test_a_plan_is_for_those_who_are_meant() -> None:
    with faultkit.serve(plan=["linger", "ok", "half-close"], when="first=a") as server:
        told = []
        for word in ("b", "a", "b", "a", "b", "a", "a"):
            with client(server) as plain:
                plain.send(word.encode())
                told.append(plain.recv())
        assert told == ["b", "ECONNRESET", "b", "a", "b", "EOF", "a"]


def test_by_peer() -> None:
    with faultkit.serve("linger", when="peer=127.0.0.2") as server:
        for host, told in (("127.0.0.1", b"x"), ("127.0.0.2", None)):
            with socket.create_connection(server.address, 20, source_address=(host, 0)) as sock:
                sock.sendall(b"x")
                if told:
                    assert sock.recv(1) == told
                else:
                    with pytest.raises(ConnectionResetError):
                        sock.recv(1)


def test_an_idle_time_begins_when_it_is_known_to_be_meant() -> None:
    with faultkit.serve("linger", when="first=a", after_idle_seconds=0.1) as server, client(server) as plain:
        assert plain.waits(0.3)
        plain.send(b"a")
        assert [plain.recv(), plain.recv()] == ["a", "ECONNRESET"]


def test_the_peer_closes_before_it_has_said_enough() -> None:
    with faultkit.serve("linger", when="path=/", answer="http", must_be_met=False) as server, client(server) as plain:
        plain.send(b"GE")
        plain.sock.shutdown(socket.SHUT_WR)
        assert plain.recv().startswith("HTTP/1.1 400") or plain.told[-1] == "recv EOF"
        assert server.connections[0].fault == "ok"


def test_nobody_was_meant() -> None:
    with (
        pytest.raises(FaultNotMet) as unmet,
        faultkit.serve("linger", when="first=a") as server,
        client(server) as plain,
    ):
        plain.send(b"b")
        assert plain.recv() == "b"
    assert str(unmet.value) == f"linger on port {server.port} was never met: 1 connection came, and `when` chose none"


def test_a_function_that_raises_is_a_crash() -> None:
    def breaks(opening: Opening) -> bool:
        raise KeyError("no such thing")

    with (
        pytest.raises(HandlerCrashed, match=r"^connection 1: KeyError: 'no such thing'$"),
        faultkit.serve("linger", when=breaks) as server,
        client(server) as plain,
    ):
        plain.send(b"x")
        assert plain.recv() in ("EOF", "ECONNRESET")


def test_an_opening() -> None:
    opening = Opening(1, Address("::1", 7), get("/a b", "PUT")[:4])
    with pytest.raises(More):
        assert opening.path
    assert Opening(1, None, b"+PING\r\n").path == Opening(1, None, b"GET", whole=True).method == ""
    assert Opening(1, None, get("/a?b")).path == "/a?b"
    assert Opening(1, None, b"x" * 9000).path == ""


MISUSES: list[tuple[dict[str, Any], str]] = [
    (
        {"when": "paht=/"},
        "when='paht=/' chooses no connection: take path=/upload*, method=POST, first=TEXT, peer=ADDRESS, or in Python "
        "a function of faultkit.Opening",
    ),
    (
        {"when": "path=/x", "answer": "http2"},
        "when='path=/x' is of HTTP/1, and answer='http2' is none: take first=TEXT, or a function",
    ),
    (
        {"when": "method=POST", "answer": "redis"},
        "when='method=POST' is of HTTP/1, and answer='redis' is none: take first=TEXT, or a function",
    ),
    (
        {"when": "path=/x", "answer": faultkit.Smtp()},
        "when='path=/x' is of HTTP/1, and answer='smtp' is none: take first=TEXT, or a function",
    ),
    (
        {"when": "first=GET", "answer": "http2"},
        "when='first=GET': every client of HTTP/2 begins with 'PRI * HTTP/2.0': take peer=ADDRESS, or a function",
    ),
    (
        {"fault": "stall", "when": "peer=127.0.0.1", "unix": True},
        "when='peer=127.0.0.1': a client of a Unix socket has no address: take first=TEXT, or a function",
    ),
    (
        {"when": "peer=::1"},
        "when='peer=::1': the server is at 127.0.0.1, where nobody comes from there: take another address",
    ),
    *(
        (
            {"when": never},
            f"when={never!r} chooses no connection: take path=/upload*, method=POST, first=TEXT, peer=ADDRESS, or in Python "
            "a function of faultkit.Opening",
        )
        for never in ("path=/a b", "path=/\u20ac", "method=GET /", "first=")
    ),
    ({"when": "peer=somewhere"}, "when='peer=somewhere': somewhere is no address"),
    (
        {"fault": "accept-then-reset"},
        "accept-then-reset `at accept`: `when` is asked when the first bytes are there: take a later trigger",
    ),
    (
        {"fault": "refuse"},
        "refuse is done before there is a connection, so `when` can choose none: leave one out",
    ),
    ({"fault": None}, "when= chooses connections for a fault, and there is none: name one"),
    (
        {"fault": None, "random": 0.5},
        "when= with random and no fault: some of all set in before a connection says anything; name the fault",
    ),
    (
        {"fault": "unread", "tls": True},
        "unread leaves bytes unread, and over TLS, and on a Unix socket, `when` has to read them: leave one of them out",
    ),
]


@pytest.mark.parametrize(("keywords", "sentence"), MISUSES)
def test_what_cannot_mean_anything_is_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(**{"fault": "linger", "when": "path=/", **keywords})
    assert str(refused.value) == sentence


def test_the_notation_and_a_function_are_the_same() -> None:
    which = chosen("method=PUT")
    assert which
    assert which(Opening(1, None, get("/", "PUT")))
    assert chosen(None) is None


@pytest.mark.parametrize("said", [b"\x00\x01\x02", b"\x16\x03\x01\x02", b"*1\r\n$4\r\nPING\r\n", b"GET /here HTTP/2"])
def test_what_is_no_request_is_not_kept_waiting(said: bytes) -> None:
    with faultkit.serve("linger", when="path=/here", must_be_met=False) as server, client(server) as plain:
        plain.send(said)
        assert plain.recv() == said.decode("latin-1")
