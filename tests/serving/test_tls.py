"""TLS, and faults before, during and after its handshake, to a client that is Python's own ssl."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, Live, Misuse, Server, sockets
from tests.serving.client import Client, client

REQUEST = b"0123456789abcdefghij"
ANSWER = REQUEST.decode()


class TlsClient(Client):
    """TLS over a plain socket, whose errno is told as it is: ssl's own sockets make an EOF of a reset (Python 3.11.7).

    Notes `hello` too: what the handshake was told. An end without close_notify is "cut off".
    """

    def __init__(self, plain: socket.socket, server: Server, version: ssl.TLSVersion | None = None) -> None:
        super().__init__(plain, server)
        context = server.client_context
        if version:
            context.maximum_version = version
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def hello(self) -> str:
        return self._tell("hello", lambda: self._pump(self.tls.do_handshake))

    def send(self, data: bytes) -> str:
        return self._tell("send", lambda: self._pump(lambda: self.tls.write(data)))

    def recv(self, size: int = 65536) -> str:
        return self._tell("recv", lambda: self._read(size))

    def recv_whole(self, size: int) -> str:
        def whole() -> bytes:
            data = b""
            while len(data) < size and (part := self._read(size - len(data))):
                data += part
            return data

        return self._tell("recv", whole)

    def _read(self, size: int) -> bytes:
        try:
            data = self._pump(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:  # close_notify
            return b""
        assert isinstance(data, bytes)
        return data

    def _tell(self, name: str, call: Callable[[], object]) -> str:
        refused = ""

        def tried() -> object:
            nonlocal refused
            try:
                return call()
            except ssl.SSLEOFError:
                refused = "cut off"
            except ssl.SSLError as error:
                refused = error.reason
            return None

        outcome = self._note(name, tried)
        if refused:
            self.told[-1] = f"{name} {refused}"
        return refused or outcome

    def _pump(self, call: Callable[[], object]) -> object:
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                self._flush()
                if not (data := self.sock.recv(65536)):
                    raise ssl.SSLEOFError from None  # what ssl itself makes of it depends on Python's version
                self._in.write(data)
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._out.read():
            self.sock.sendall(data)


@contextlib.contextmanager
def tls_client(server: Server, *, timeout: float = 20, version: ssl.TLSVersion | None = None) -> Iterator[TlsClient]:
    with client(server, timeout=timeout) as plain:
        yield TlsClient(plain.sock, server, version)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
versions = pytest.mark.parametrize("version", VERSIONS, ids=["tls1.2", "tls1.3"])


@versions
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_a_healthy_connection(ipv6: bool, version: ssl.TLSVersion) -> None:
    with faultkit.serve(tls=True, ipv6=ipv6) as server:
        with tls_client(server, version=version) as ours:
            ours.hello()
            for _ in range(3):
                ours.send(REQUEST)
                assert ours.recv() == ANSWER
            assert ours.tls.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
        record = server.wait_for_connection().wait_for_end()
        # Of the application, not of TLS.
        assert (record.received, record.sent, record.ended) == (60, 60, "peer closed")


@versions
def test_a_handler_that_returns_closes_with_a_word(version: ssl.TLSVersion) -> None:
    async def handler(conn: Live) -> None:
        await conn.send(b"bye")

    with faultkit.serve(tls=True, answer=handler) as server, tls_client(server, version=version) as ours:
        ours.hello()
        assert ours.recv() == "bye"
        assert ours.recv() == "EOF"  # close_notify
        assert server.connections[0].wait_for_end().ended == "closed"


def test_the_file_of_the_authority_is_what_others_trust() -> None:
    with faultkit.serve(tls=True, answer="http") as server:
        assert server.url == f"https://127.0.0.1:{server.port}/"
        for context in (ssl.create_default_context(cafile=server.ca_file), server.client_context):
            with urllib.request.urlopen(server.url, context=context, timeout=20) as page:
                assert page.read() == b"hello from faultkit\n"
        path = server.ca_file
        assert "PRIVATE" not in Path(path).read_text()
    assert not os.path.exists(path)


@pytest.mark.parametrize("ask", [lambda server: server.ca_file, lambda server: server.client_context])
def test_without_tls_there_is_nothing_to_trust(ask: Callable[[Server], object]) -> None:
    with faultkit.serve() as server, pytest.raises(Misuse) as refused:
        ask(server)
    assert str(refused.value) == "this server does not speak TLS, so there is nothing to trust: serve it with tls=True"


def test_no_file_is_made_for_a_server_that_is_closed() -> None:
    with faultkit.serve(tls=True) as server:
        pass
    with pytest.raises(Misuse) as refused:
        print(server.ca_file)
    assert str(refused.value) == "the server is closed, and the file of its authority with it"


# How the record says that it ended, where the client is to blame.


def mistrusts(server: Server) -> None:
    with client(server) as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain.sock, server_hostname="localhost")


def speaks_http(server: Server) -> None:
    with client(server) as plain:
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.recv()


def says_nothing(server: Server) -> None:
    with client(server):
        server.wait_for_connection()


def resets(server: Server) -> None:
    with client(server) as plain:
        server.wait_for_connection()
        sockets.abort(plain.sock)


@pytest.mark.parametrize(
    ("play", "ended"),
    [
        (mistrusts, "lost: TLSV1_ALERT_UNKNOWN_CA"),
        (speaks_http, "lost: HTTP_REQUEST"),
        (says_nothing, "peer closed"),
        (resets, "lost: ECONNRESET"),
    ],
)
def test_a_handshake_that_the_client_breaks_is_no_crash(play: Callable[[Server], None], ended: str) -> None:
    with faultkit.serve(tls=True) as server:
        play(server)
        assert server.wait_for_connection().wait_for_end().ended == ended


# fault, what the client is told of its handshake, how the record says that it ended
DURING: dict[str, tuple[str, str | None]] = {
    "linger": ("ECONNRESET", "abort"),
    "disconnect": ("ECONNRESET", "disconnect"),
    "unread": ("ECONNRESET", "close with"),
    "crash:unread": ("ECONNRESET", "killed with"),
    "late-write": ("cut off", "close"),
    "crash:read": ("cut off", "killed"),
    "accept-then-close": ("cut off", None),
    "half-close": ("cut off", None),
    "garbage": ("WRONG_VERSION_NUMBER", None),
    "stall": ("timeout", None),
    "black-hole": ("timeout", None),
}


@versions
@pytest.mark.parametrize("name", DURING)
def test_a_fault_after_the_client_hello(name: str, version: ssl.TLSVersion) -> None:
    told, ended = DURING[name]
    with faultkit.serve(name, at="client-hello", tls=True) as server:
        with tls_client(server, timeout=0.2 if told == "timeout" else 20, version=version) as ours:
            ours.hello()
            assert ours.told == [f"hello {told}"]
            record = server.wait_for_connection()
            assert record.fired
            if ended:
                assert str(record.wait_for_end().ended).startswith(ended)
        assert (record.received, record.requests) == (0, 0)


@versions
@pytest.mark.parametrize("name", ["linger", "late-write", "accept-then-close", "garbage", "stall"])
def test_a_fault_before_the_handshake(name: str, version: ssl.TLSVersion) -> None:
    """As soon as it is accepted, and so the reset may come in connect() too: by chance."""
    for _ in range(10):
        with faultkit.serve(name, at="accept", tls=True) as server, contextlib.ExitStack() as stack:
            try:
                ours = stack.enter_context(tls_client(server, timeout=0.2 if name == "stall" else 20, version=version))
            except OSError as error:
                assert (name, error.errno) == ("linger", errno.ECONNRESET)
                continue
            told = ours.hello()
            assert (
                told
                in {
                    "linger": {"ECONNRESET", "EPIPE"},
                    "late-write": {"cut off", "ECONNRESET", "EPIPE"},
                    "accept-then-close": {"cut off"},
                    "garbage": {"WRONG_VERSION_NUMBER"},
                    "stall": {"timeout"},
                }[name]
            )


AFTER: dict[str, tuple[str, str | None]] = {
    "linger": ("ECONNRESET", "abort"),
    "disconnect": ("ECONNRESET", "disconnect"),
    "late-write": ("cut off", "close"),
    "crash:read": ("cut off", "killed"),
    "accept-then-close": ("cut off", None),
    "half-close": ("cut off", None),
    "garbage": ("WRONG_VERSION_NUMBER", None),
    "stall": ("timeout", None),
    "black-hole": ("timeout", None),
}


@versions
@pytest.mark.parametrize("name", AFTER)
def test_a_fault_after_the_handshake(name: str, version: ssl.TLSVersion) -> None:
    told, ended = AFTER[name]
    with (
        faultkit.serve(name, at="handshake", tls=True) as server,
        tls_client(server, timeout=0.2 if told == "timeout" else 20, version=version) as ours,
    ):
        ours.hello()
        ours.recv()
        assert ours.told == ["hello ok", f"recv {told}"]
        record = server.wait_for_connection()
        assert record.fired
        if ended:
            assert record.wait_for_end().ended == ended


# fault, what the client is told of its request
FIRST_BYTE: dict[str, list[str]] = {
    "linger": ["recv ECONNRESET"],
    "unread": ["recv ECONNRESET"],
    "crash:unread": ["recv ECONNRESET"],
    "disconnect": ["recv ECONNRESET"],
    "late-write": ["recv cut off"],
    "half-close": ["recv cut off"],
    "truncate": [f"recv {ANSWER[:10]}", "recv cut off"],
    "garbage": ["recv WRONG_VERSION_NUMBER"],
    "slices:3": [f"recv {ANSWER}"],
    "slow:200": [f"recv {ANSWER}"],
    "stall": ["recv timeout"],
    "black-hole": ["recv timeout"],
    "zero-window": ["recv timeout"],
    "keepalive-race:unprocessed": [f"recv {ANSWER}", "recv cut off"],
}


@versions
@pytest.mark.parametrize("name", FIRST_BYTE)
def test_a_fault_at_its_own_trigger(name: str, version: ssl.TLSVersion) -> None:
    told = FIRST_BYTE[name]
    with (
        faultkit.serve(name, tls=True) as server,
        tls_client(server, timeout=0.2 if "recv timeout" in told else 20, version=version) as ours,
    ):
        ours.hello()
        ours.send(REQUEST)
        size = {"truncate": 10}.get(name, 20)
        for call in told:
            ours.recv_whole(size) if "0" in call else ours.recv()
        assert ours.told == ["hello ok", "send ok", *told]
        record = server.connections[0]
        assert record.fired
        left_unread = name in ("unread", "crash:unread")
        assert record.received == (0 if left_unread else 20)


@versions
@pytest.mark.parametrize("name", ["keepalive-race:unsent", "keepalive-race:in-flight"])
def test_a_race_of_the_second_request(name: str, version: ssl.TLSVersion) -> None:
    for _ in range(5):
        with faultkit.serve(name, tls=True) as server, tls_client(server, version=version) as ours:
            ours.hello()
            ours.send(REQUEST)
            assert ours.recv_whole(20) == ANSWER
            ours.send(REQUEST)
            assert ours.recv() == "ECONNRESET"
            assert server.connections[0].wait_for_end().fired


def test_in_flight_no_fin_has_arrived_over_tls_too() -> None:
    with faultkit.serve("keepalive-race:in-flight", tls=True) as server, tls_client(server) as ours:
        ours.hello()
        ours.send(REQUEST)
        assert ours.recv_whole(20) == ANSWER
        assert server.wait_for_connection().wait_for_end().ended == "close"
        assert ours.waits()
        assert sockets.state(ours.sock) == "ESTABLISHED"


def test_the_reset_takes_nothing_of_an_answer_that_was_cut_in_the_middle() -> None:
    with faultkit.serve("linger", at="mid-body", tls=True) as server, tls_client(server) as ours:
        ours.hello()
        ours.send(REQUEST)
        assert ours.recv_whole(10) == ANSWER[:10]
        assert ours.recv() == "ECONNRESET"
        assert server.connections[0].sent == 10


def test_each_slice_is_a_segment_of_its_own() -> None:
    with faultkit.serve("slices:2", tls=True) as server, tls_client(server) as ours:
        ours.hello()
        ours.send(b"x")
        assert ours.recv() == "x"
        before = segments(ours.sock)
        ours.send(REQUEST * 10)
        assert len(ours.recv_whole(200)) == 200
        assert segments(ours.sock) - before == 100


def segments(sock: socket.socket) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int.from_bytes(info[152:156], "little")  # tcpi_data_segs_in


def test_a_black_hole_is_healed_over_tls_too() -> None:
    with faultkit.serve("black-hole", at="client-hello", tls=True) as server, tls_client(server) as ours:
        ours.sock.settimeout(0.1)
        assert ours.hello() == "timeout"
        server.heal()
        ours.sock.settimeout(20)
        assert ours.hello() == "ok"
        ours.send(REQUEST)
        assert ours.recv() == ANSWER


@pytest.mark.parametrize("during", [False, True], ids=["after the handshake", "in the handshake"])
def test_fire_over_tls(during: bool) -> None:
    with faultkit.serve("linger", at="fire", tls=True) as server, tls_client(server) as ours:
        if during:
            server.wait_for_connection()
        else:
            ours.hello()
        server.fire()
        assert (ours.hello() if during else ours.recv()) in ("ECONNRESET", "EPIPE")
        assert server.connections[0].wait_for_end().ended == "abort"


@pytest.mark.parametrize("moment", ["client-hello", "handshake"])
def test_a_client_that_goes_before_that_has_not_met_it(moment: Any) -> None:
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve("linger", at=moment, tls=True) as server:
        says_nothing(server)
        server.connections[0].wait_for_end()
    assert str(unmet.value).startswith(
        f"linger on port {server.port} was never met: it was to set in at {moment}, and "
    )


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"at": "client-hello"}, "at='client-hello' never comes without TLS: add tls=True"),
        ({"at": "handshake"}, "at='handshake' never comes without TLS: add tls=True"),
        (
            {"fault": "early-response", "tls": True},
            "early-response answers in plain HTTP, which means nothing over TLS: leave tls out",
        ),
        (
            {"fault": None, "plan": ["ok", "early-response"], "tls": True},
            "early-response answers in plain HTTP, which means nothing over TLS: leave tls out",
        ),
        (
            {"fault": "unread", "tls": True, "at": "handshake"},
            "unread leaves received bytes unread, and `at handshake` there may be none: take after_bytes or after_requests",
        ),
    ],
)
def test_what_cannot_be_over_tls_is_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(**{"fault": "linger", **keywords})
    assert str(refused.value) == sentence


def test_chance_draws_nothing_that_means_nothing_over_tls() -> None:
    with faultkit.serve(random=1.0, seed=3, tls=True, must_be_met=False) as server:
        drawn = {fault.name for number in range(1, 500) if (fault := server._plan.of(number))}
    with faultkit.serve(random=1.0, seed=3, must_be_met=False) as server:
        plain = {fault.name for number in range(1, 500) if (fault := server._plan.of(number))}
    assert plain - drawn == {"early-response"}
