"""Answers ready-made: what clients of other people make of WebSocket, HTTP/2, Redis, SMTP, and of HTTP/1.1 in turn and early."""

from __future__ import annotations

import contextlib
import http.client
import smtplib
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
import websockets.exceptions
from h2 import config, connection, events
from websockets.sync.client import ClientConnection, connect

import faultkit
from faultkit import Http, Http2, Misuse, Redis, Server, Smtp, Unable, WebSocket
from tests.serving.client import PATIENCE, client


@contextlib.contextmanager
def spoken(server: Server, **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://{server.host}:{server.port}/", **options) as ws:
        yield ws


def test_an_echo_of_messages() -> None:
    with faultkit.serve(answer="websocket") as server:
        with spoken(server, subprotocols=["chat", "other"]) as ws:
            assert ws.subprotocol == "chat"
            for message in ("text", b"\0\xff", "x" * 300_000, ""):
                ws.send(message)
                assert ws.recv() == message
            ws.send(["in ", "three ", "frames"])
            assert ws.recv() == "in three frames"
            assert ws.ping().wait(PATIENCE)
        record = server.connections[0].wait_for_end()
        assert (record.requests, record.answers, record.ended) == (6, 6, "peer closed")
        assert ws.close_code == 1000


def test_no_pongs() -> None:
    with faultkit.serve(answer=WebSocket(pongs=False)) as server:
        with (
            pytest.raises(websockets.exceptions.ConnectionClosedError, match="keepalive ping timeout"),
            spoken(server, ping_interval=0.1, ping_timeout=0.1) as ws,
        ):
            ws.recv()
        assert server.connections[0].received > 0


@pytest.mark.parametrize("fault", ["linger", "accept-then-close", "truncate"])
def test_a_websocket_meets_faults_by_its_messages(fault: str) -> None:
    moment = "answers" if fault == "accept-then-close" else "mid-body" if fault == "truncate" else "requests"
    when = {"at": "mid-body"} if moment == "mid-body" else {f"after_{moment}": 2}
    with faultkit.serve(fault, answer="websocket", **when) as server:
        if fault == "truncate":
            with pytest.raises(websockets.exceptions.InvalidMessage), spoken(server):
                pass
            return
        with pytest.raises(websockets.exceptions.ConnectionClosedError), spoken(server) as ws:
            ws.send("hello")
            if fault == "accept-then-close":
                assert ws.recv() == "hello"
            ws.recv()


def test_what_is_no_handshake_is_refused() -> None:
    with faultkit.serve(answer="websocket") as server, client(server) as plain:
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.recv().startswith("HTTP/1.1 400 ")
        assert plain.recv() == "EOF"


@contextlib.contextmanager
def pooled(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as pool:
        yield pool


def test_http2_with_bodies_beyond_every_window() -> None:
    body = bytes(range(256)) * 2000
    with faultkit.serve(answer=Http2(body, status=201, headers={"X-Way": "out"})) as server, pooled(server) as pool:
        for content in (b"", b"up" * 200_000):
            answer = pool.post(server.url, content=content)
            assert (answer.status_code, answer.http_version, answer.headers["x-way"]) == (201, "HTTP/2", "out")
            assert answer.content == body
        answer = pool.head(server.url)
        assert (answer.headers["content-length"], answer.content) == (str(len(body)), b"")
        assert (server.connections[0].requests, server.connections[0].answers) == (3, 3)


class H2:
    """A client that says what came, frame by frame."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.http = connection.H2Connection(config.H2Configuration(client_side=True))
        self.http.initiate_connection()
        self.stream = 1
        self.waiting: list[events.Event] = []

    def ask(self, count: int = 1) -> None:
        for _ in range(count):
            fields = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "x")]
            self.http.send_headers(self.stream, fields, end_stream=True)
            self.stream += 2
        self.sock.sendall(self.http.data_to_send())

    def come(self, *kinds: type[events.Event]) -> list[str]:
        """What of these has come until there is one of the last kind, or the end."""
        told: list[str] = []
        while True:
            while self.waiting:
                event = self.waiting.pop(0)
                if isinstance(event, kinds):
                    told.append(shown(event))
                    if isinstance(event, kinds[-1]):
                        return told
            if not (data := self.sock.recv(65536)):
                return [*told, "EOF"]
            self.waiting += self.http.receive_data(data)
            self.sock.sendall(self.http.data_to_send())


def shown(event: events.Event) -> str:
    if isinstance(event, events.ConnectionTerminated):
        return f"GOAWAY {event.last_stream_id} {int(event.error_code or 0)}"
    if isinstance(event, events.StreamReset):
        return f"RST_STREAM {event.stream_id} {int(event.error_code or 0)}"
    if isinstance(event, events.RemoteSettingsChanged):
        return "SETTINGS " + " ".join(f"{int(key)}={one.new_value}" for key, one in event.changed_settings.items())
    if isinstance(event, events.StreamEnded):
        return f"answered {event.stream_id}"
    return type(event).__name__


@contextlib.contextmanager
def frames(server: Server) -> Iterator[H2]:
    with socket.create_connection(server.address, timeout=PATIENCE) as sock:
        yield H2(sock)


END, RST, GOAWAY, SETTINGS = (
    events.StreamEnded,
    events.StreamReset,
    events.ConnectionTerminated,
    events.RemoteSettingsChanged,
)


@pytest.mark.parametrize("code", [0, 11])
def test_goaway_at_a_request_which_is_not_processed(code: int) -> None:
    with faultkit.serve(f"goaway:{code}", answer="http2") as server, frames(server) as client:
        client.ask()
        assert client.come(END) == ["answered 1"]
        client.ask()
        assert client.come(END, GOAWAY) == [f"GOAWAY 1 {code}"]
        assert client.sock.recv(100) == b""


def test_goaway_at_fire_has_processed_all() -> None:
    with faultkit.serve("goaway@fire", answer="http2") as server, frames(server) as client:
        client.ask(2)
        assert client.come(END) + client.come(END) == ["answered 1", "answered 3"]
        server.fire()
        assert client.come(GOAWAY) == ["GOAWAY 3 0"]
        assert client.sock.recv(100) == b""


def test_rst_stream_and_the_connection_goes_on() -> None:
    with faultkit.serve("rst-stream:8@requests=2", answer="http2") as server, frames(server) as client:
        client.ask(3)
        assert client.come(END, RST) == ["answered 1", "RST_STREAM 3 8"]
        assert client.come(END) == ["answered 5"]
        client.ask()
        assert client.come(END) == ["answered 7"]


def test_rst_stream_at_fire_is_for_what_is_asked_next() -> None:
    with faultkit.serve("rst-stream@fire", answer="http2") as server, frames(server) as client:
        client.ask()
        assert client.come(END) == ["answered 1"]
        server.fire()
        client.ask()
        assert client.come(END, RST) == ["RST_STREAM 3 7"]


def test_settings_at_a_moment() -> None:
    with faultkit.serve("settings:3@requests=2", answer="http2") as server, frames(server) as client:
        assert client.come(SETTINGS)  # the first ones
        client.ask()
        assert client.come(SETTINGS, END) == ["answered 1"]
        client.ask()
        assert client.come(END, SETTINGS) == ["SETTINGS 3=3"]
        assert client.come(END) == ["answered 3"]


def test_several_in_order_and_in_a_plan() -> None:
    with faultkit.serve(plan=["settings:1@answers=1 + goaway@requests=3", "ok"], answer="http2") as server:
        with pooled(server) as pool:
            assert [pool.get(server.url).status_code for _ in range(4)] == [200] * 4  # it asks again elsewhere
        assert [record.fault for record in server.connections] == ["settings:1@answers=1 + goaway@requests=3", "ok"]
        assert [met.fault for met in server.connections[0].met] == ["settings:1", "goaway"]


def test_what_is_no_http2_is_told_so() -> None:
    with faultkit.serve(answer="http2") as server, client(server) as plain:
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while plain.recv() not in ("EOF", "ECONNRESET"):
            pass
        assert plain.told[-1] == "recv EOF"


def test_redis_with_both_protocols() -> None:
    for protocol in (2, 3):
        with faultkit.serve(answer="redis") as server:
            with contextlib.closing(redis.Redis(host=server.host, port=server.port, protocol=protocol)) as one:
                assert (one.ping(), one.set("a", b"\r\n"), one.get("a"), one.get("none")) == (True, True, b"\r\n", None)
                assert (one.incr("n"), one.incr("n", 4), one.delete("a", "n", "x"), one.echo("e")) == (1, 5, 2, b"e")
                with pytest.raises(redis.ResponseError, match="not an integer"):
                    one.set("s", "x")
                    one.incr("s")
            assert server.connections[0].requests >= 9


def test_redis_shares_its_values_and_meets_faults() -> None:
    with faultkit.serve(plan=["linger", "ok"], answer=Redis({b"a": b"1"})) as server:
        with contextlib.closing(redis.Redis(host=server.host, port=server.port)) as one:
            assert one.get("a") == b"1"  # it tries again
        assert [record.fired for record in server.connections] == [True, False]


@pytest.mark.parametrize("said", [b"*1\r\n$x\r\n", b"*x\r\n", b"*1\r\n:1\r\n"])
def test_what_is_no_redis_is_told_so(said: bytes) -> None:
    with faultkit.serve(answer="redis") as server, client(server) as plain:
        plain.send(b"PING\r\n")
        assert plain.recv() == "+PONG\r\n"
        plain.send(said)
        assert plain.recv().startswith("-ERR Protocol error: expected ")
        assert plain.recv() == "EOF"


def test_smtp_takes_a_mail() -> None:
    with faultkit.serve(answer="smtp") as server:
        with smtplib.SMTP(server.host, server.port, timeout=PATIENCE) as mail:
            assert mail.sendmail("a@example.org", ["b@example.org"], "one\n.\ntwo") == {}
            assert mail.noop() == (250, b"OK")
        record = server.connections[0].wait_for_end()
        assert (record.requests, record.answers) == (7, 7)


@pytest.mark.parametrize("code", [421, 554])
def test_smtp_that_greets_with_no(code: int) -> None:
    with faultkit.serve(answer=Smtp(f"{code} not today")) as server:
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            smtplib.SMTP(server.host, server.port, timeout=PATIENCE)
        assert refused.value.smtp_code == code


def test_smtp_that_takes_no_mail_reads_none() -> None:
    with (
        faultkit.serve(answer=Smtp("554 not today")) as server,
        socket.create_connection(server.address, timeout=PATIENCE) as sock,
        sock.makefile("rwb") as mail,
    ):
        codes = [mail.readline()[:3]]
        for verb in (b"EHLO me", b"DATA", b"QUIT"):
            mail.write(verb + b"\r\n")
            mail.flush()
            codes.append(mail.readline()[:3])
        assert codes == [b"554", b"503", b"503", b"221"]


def test_smtp_that_dies_at_data() -> None:
    with (
        faultkit.serve("linger", after_requests=4, answer="smtp") as server,
        pytest.raises(smtplib.SMTPServerDisconnected),
        smtplib.SMTP(server.host, server.port, timeout=PATIENCE) as mail,
    ):
        mail.sendmail("a@example.org", ["b@example.org"], "text")


def asked(server: Server, method: str = "GET", **keywords: Any) -> tuple[int, str | None, bytes]:
    one = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
    with contextlib.closing(one):
        one.request(method, "/", **keywords)
        answer = one.getresponse()
        return answer.status, answer.getheader("X-Try"), answer.read()


def test_answers_in_turn_over_all_connections() -> None:
    answers = [Http(b"no", status=503, headers={"X-Try": "1"}), Http(b"", status=204), Http(b"yes")]
    with faultkit.serve(answer=answers) as server:
        told = [asked(server) for _ in range(4)]
        assert told == [(503, "1", b"no"), (204, None, b""), (200, None, b"yes"), (200, None, b"yes")]
        server.forget()
        assert asked(server)[0] == 503


def test_headers_of_ones_own() -> None:
    answer = Http(b"{}", headers={"content-type": "application/json", "Retry-After": "1"})
    with faultkit.serve(answer=answer) as server, client(server) as plain:
        plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = plain.recv().partition("\r\n\r\n")[0].split("\r\n")
        assert head == ["HTTP/1.1 200 ", "content-type: application/json", "Retry-After: 1", "Content-Length: 2"]


def test_an_early_413_is_never_lost_to_a_reset() -> None:
    """Twenty uploads that are still coming when the answer does: each client has the answer, then the end."""
    with faultkit.serve(answer=Http(b"too large", status=413, early=True)) as server:
        for _ in range(20):
            with client(server) as plain:
                plain.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
                sender = threading.Thread(target=lambda plain=plain: plain.sock.sendall(bytes(3_000_000)))
                sender.start()
                told = plain.recv()
                while not told.endswith("too large"):
                    told += plain.recv()
                assert told.startswith("HTTP/1.1 413 ")
                assert "Connection: close" in told
                sender.join()
                assert plain.recv() == "EOF"
        assert {record.wait_for_end().ended for record in server.connections} == {"peer closed"}


def test_an_early_status_in_place_of_the_100_that_is_waited_for() -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with faultkit.serve(answer=[Http(status=417, early=True), Http(b"got it")]) as server:
        with client(server) as plain:
            plain.send(request)
            assert plain.recv().startswith("HTTP/1.1 417 ")
        with client(server) as plain:
            plain.send(request)
            assert plain.recv() == "HTTP/1.1 100 \r\n\r\n"
            plain.send(b"hello")
            assert plain.recv().endswith("got it")


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: Http(headers={"X": "a\nb"}), "Http(headers={'X': 'a\\nb'}): it cannot be sent"),
        (lambda: Http2(status=100), "Http2(status=100): it is 200 to 599"),
        (lambda: Smtp("hello"), "Smtp(greeting='hello'): it is a code of three digits"),
        (lambda: faultkit.serve(answer=[]), "answer=[]: a list is of faultkit.Http(...), one at least"),
        (lambda: faultkit.serve("goaway"), "goaway is said in a protocol of its own: add answer='http2'"),
        (lambda: faultkit.serve(plan=["ok", "stall + settings"]), "settings is said in a protocol of its own"),
        (
            lambda: faultkit.serve("goaway:x", answer="http2"),
            "goaway:x: goaway:N takes a whole number, 0 or more",
        ),
        (
            lambda: faultkit.serve(answer="gopher"),  # type: ignore[arg-type]
            "answer='gopher' is nothing to answer: take 'echo', 'http', 'http2'",
        ),
    ],
)
def test_what_cannot_mean_anything(made: Any, sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        made()
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(("name", "library"), [("websocket", "wsproto"), ("http2", "h2")])
def test_a_library_that_is_missing_is_named(name: Any, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(Unable) as refused:
        faultkit.serve(answer=name)
    assert str(refused.value) == f"{name} needs {library}, which is not installed: pip install {library}"
