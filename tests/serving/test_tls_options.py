"""`tls=faultkit.Tls(...)`: certificates that are wrong, the client's own, ALPN, TLS that begins later, and half an end of it."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Live, Misuse, Server, Tls, sockets
from tests.serving.client import PATIENCE


@contextlib.contextmanager
def encrypted(
    server: Server, context: ssl.SSLContext | None = None, name: str = "127.0.0.1"
) -> Iterator[ssl.SSLSocket]:
    trusting = context or server.client_context
    with (
        socket.create_connection(server.address, timeout=PATIENCE) as plain,
        trusting.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False) as sock,
    ):
        yield sock


WRONG = {
    "another name": (Tls(names=["example.org"]), "IP address mismatch"),
    "expired": (Tls(expired=True), "certificate has expired"),
    "another authority": (Tls(untrusted=True), "certificate signature failure|unable to get local issuer|self.signed"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_client_that_verifies_does_not_take_a_wrong_certificate(wrong: str) -> None:
    tls, told = WRONG[wrong]
    with faultkit.serve(tls=tls) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match=told), encrypted(server):
            pass
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        with encrypted(server, unverified) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert (server.connections[0].wait_for_end().ended or "").startswith("lost: ")


def test_another_name_that_the_client_asks_for() -> None:
    with faultkit.serve(tls=Tls(names=["example.org", "192.0.2.1"])) as server:
        for name in ("example.org", "192.0.2.1"):
            with encrypted(server, name=name) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"


def test_a_client_has_to_have_a_certificate() -> None:
    with faultkit.serve(tls=Tls(mutual=True)) as server:
        with encrypted(server) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        trusting = ssl.create_default_context(cafile=server.ca_file)
        trusting.load_cert_chain(server.client_cert_file)
        with encrypted(server, trusting) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        bare = ssl.create_default_context(cafile=server.ca_file)
        with pytest.raises(ssl.SSLError, match="certificate required"), encrypted(server, bare) as sock:
            sock.sendall(b"early")  # TLS 1.3: the client is through before the server has looked
            sock.recv(1)
        assert server.connections[2].wait_for_end().ended == "lost: PEER_DID_NOT_RETURN_A_CERTIFICATE"


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [(["h2", "x"], ["x", "h2"], "h2"), (["h2"], ["x"], None), ([], ["x"], None)]
)
def test_alpn(ours: list[str], theirs: list[str], agreed: str | None) -> None:
    async def tells(conn: Live) -> None:
        await conn.send(str(conn.alpn).encode())

    with faultkit.serve(tls=Tls(alpn=ours), answer=tells) as server:
        context = server.client_context
        context.set_alpn_protocols(theirs)
        with encrypted(server, context) as sock:
            assert (sock.selected_alpn_protocol(), sock.recv(10)) == (agreed, str(agreed).encode())


def test_http2_is_agreed_to_by_itself() -> None:
    with faultkit.serve(answer="http2", tls=True) as server:
        with httpx.Client(http2=True, verify=server.client_context, timeout=PATIENCE) as client:
            answer = client.get(server.url)
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")


async def upgrades(conn: Live) -> None:
    """Echoes, in TLS after "upgrade"."""
    while data := await conn.receive():
        await conn.request()
        await conn.answer(data)
        if data == b"upgrade":
            await conn.start_tls()


@contextlib.contextmanager
def upgraded(server: Server) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        for said in (b"clear", b"upgrade"):
            plain.sendall(said)
            assert plain.recv(100) == said
        with server.client_context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            yield sock


def test_tls_that_begins_later() -> None:
    with faultkit.serve(tls=Tls(later=True), answer=upgrades) as server:
        with upgraded(server) as sock:
            sock.sendall(b"secret")
            assert sock.recv(100) == b"secret"
            assert sock.version()
        record = server.connections[0].wait_for_end()
        assert (record.received, record.sent, record.requests) == (18, 18, 3)  # of the application's


@pytest.mark.parametrize("moment", ["client-hello", "handshake", "requests"])
def test_faults_in_tls_that_begins_later(moment: str) -> None:
    when: dict[str, Any] = {"after_requests": 3} if moment == "requests" else {"at": moment}
    with faultkit.serve("linger", tls=Tls(later=True), answer=upgrades, **when) as server:
        with contextlib.suppress(OSError), upgraded(server) as sock:  # ssl may tell of a reset as of an end
            sock.sendall(b"x")
            assert sock.recv(1) == b""
        assert server.connections[0].wait_for_fired().ended == "abort"


def test_who_goes_instead_of_a_handshake_is_no_crash() -> None:
    with faultkit.serve(tls=Tls(later=True), answer=upgrades) as server:
        with socket.create_connection(server.address, timeout=PATIENCE) as plain:
            plain.sendall(b"upgrade")
            assert plain.recv(100) == b"upgrade"
        assert (server.connections[0].wait_for_end().ended or "").startswith(("lost: ", "peer closed"))


def test_start_tls_has_to_be_meant() -> None:
    with faultkit.serve(answer=upgrades, must_be_met=False) as server:
        with socket.create_connection(server.address, timeout=PATIENCE) as plain:
            plain.sendall(b"upgrade")
            assert plain.recv(100) == b"upgrade"
            server.connections[0].wait_for_end()
        with pytest.raises(HandlerCrashed, match=r"conn.start_tls\(\): serve with tls=faultkit.Tls\(later=True\)"):
            server.check()
        server.forget()


def test_smtp_with_starttls() -> None:
    with (
        faultkit.serve(tls=Tls(later=True), answer="smtp") as server,
        smtplib.SMTP(server.host, server.port, timeout=PATIENCE) as mail,
    ):
        mail.ehlo()
        assert mail.has_extn("starttls")
        mail.starttls(context=server.client_context)
        mail.ehlo()
        assert not mail.has_extn("starttls")
        assert mail.sendmail("a@example.org", ["b@example.org"], "text") == {}


def told_at_the_end(server: Server) -> tuple[object, str]:
    """What a client that is strict about the end reads, and the state that its socket is left in."""
    context = server.client_context
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0x80))
    with encrypted(server, context) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        try:
            told: object = sock.recv(1)
        except ssl.SSLEOFError:
            told = "cut short"
        while server.connections[0].ended is None and sockets.state(sock) == "ESTABLISHED" and told == "cut short":
            pass
        return told, sockets.state(sock)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_close_notify_alone_and_fin_alone(version: ssl.TLSVersion) -> None:
    for fault, expected in (("close-notify", (b"", "ESTABLISHED")), ("no-close-notify", ("cut short", "CLOSE-WAIT"))):
        for _ in range(10):
            with faultkit.serve(fault, tls=True) as server:
                server._authority.server.maximum_version = version  # type: ignore[union-attr]
                try:
                    assert told_at_the_end(server) == expected
                finally:
                    server._authority.server.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED  # type: ignore[union-attr]
                assert server.connections[0].wait_for_end().ended == "peer closed"


def test_a_handler_may_say_them_too() -> None:
    async def ends(conn: Live) -> None:
        await conn.send(await conn.receive())
        conn.close_notify()
        await trio.sleep_forever()

    with faultkit.serve(answer=ends, tls=True) as server:
        assert told_at_the_end(server) == (b"", "ESTABLISHED")


@pytest.mark.parametrize("fault", ["close-notify", "no-close-notify"])
@pytest.mark.parametrize("early", ["after_requests", "fire", "in order"])
def test_what_is_said_in_tls_waits_for_the_handshake(early: str, fault: str) -> None:
    asked: dict[str, Any] = {"after_requests": 1} if early == "after_requests" else {"at": "fire"}
    asked = {} if early == "in order" else asked
    name = f"slices:3@requests=1 + {fault}" if early == "in order" else fault
    with (
        faultkit.serve(name, tls=Tls(later=True), answer=upgrades, **asked) as server,
        socket.create_connection(server.address, timeout=PATIENCE) as plain,
    ):
        record = server.wait_for_connection()
        if early == "fire":
            server.fire()
        for said in (b"clear", b"upgrade"):
            plain.sendall(said)
            assert read_whole(plain, len(said)) == said
        assert fault not in [met.fault for met in record.met]
        with server.client_context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            assert sock.recv(1) == b""
            assert record.met[-1].fault == fault


def read_whole(sock: socket.socket, size: int) -> bytes:
    told = b""
    while len(told) < size:
        told += sock.recv(size - len(told))
    return told


def test_starttls_and_then_close_notify() -> None:
    with faultkit.serve("close-notify", after_requests=1, tls=Tls(later=True), answer="smtp") as server:
        mail = smtplib.SMTP(server.host, server.port, timeout=PATIENCE)
        mail.ehlo()
        assert server.connections[0].met == []
        mail.starttls(context=server.client_context)
        with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
            mail.ehlo()
        mail.close()
        assert [met.fault for met in server.connections[0].met] == ["close-notify"]


def test_one_that_waits_for_tls_in_vain_is_not_met() -> None:
    sentence = (
        r"^close-notify on port \d+ was never met: it was to set in after 1 request, and 1 connection came: "
        r"connection 1 had 5 bytes in, 5 out, peer closed; it is said in TLS, and there was no handshake$"
    )
    with (
        pytest.raises(FaultNotMet, match=sentence),
        faultkit.serve("close-notify", after_requests=1, tls=Tls(later=True), answer=upgrades) as server,
    ):
        with socket.create_connection(server.address, timeout=PATIENCE) as plain:
            plain.sendall(b"clear")
            assert plain.recv(100) == b"clear"
        server.connections[0].wait_for_end()


def test_one_that_waits_for_tls_is_healed() -> None:
    with faultkit.serve("close-notify", at="fire", tls=True, must_be_met=False) as server:
        with socket.create_connection(server.address, timeout=PATIENCE) as plain:
            server.wait_for_connection()
            server.fire()
            server.heal()
            with server.client_context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
                server.fire()
                assert sock.recv(1) == b""
        assert server.connections[0].fired


@pytest.mark.parametrize("fault", ["close-notify", "no-close-notify"])
@pytest.mark.parametrize("moment", [{"at": "accept"}, {"after_bytes": 0}, {"at": "client-hello"}])
def test_what_is_said_in_tls_cannot_come_before(moment: dict[str, Any], fault: str) -> None:
    when = moment.get("at", "accept")
    sentence = f"{fault} `at {when}`: it is said in TLS, which the handshake begins: take at='handshake', or later"
    with pytest.raises(Misuse) as refused:
        faultkit.serve(fault, tls=True, **moment)
    assert str(refused.value) == sentence
    with pytest.raises(Misuse, match="it is said in TLS"):
        faultkit.serve(plan=["ok", f"{fault}@{when}"], tls=True)


def test_a_handler_that_says_it_in_the_clear_has_crashed() -> None:
    async def says(conn: Live) -> None:
        conn.close_notify()

    with (
        pytest.raises(HandlerCrashed, match=r"Misuse: close_notify\(\) is said in TLS, and there was no handshake yet"),
        faultkit.serve(answer=says) as server,
        socket.create_connection(server.address, timeout=PATIENCE),
    ):
        server.wait_for_connection().wait_for_end()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Tls(names="example.org"), "Tls(names='example.org'): it is a list of text"),
        (lambda: Tls(alpn=["x" * 256]), "Tls(alpn=('xxx"),
        (
            lambda: faultkit.serve(tls="yes"),  # type: ignore[arg-type]
            "tls='yes' says nothing of TLS: it is True, or faultkit.Tls(...)",
        ),
        (lambda: faultkit.serve("close-notify"), "close-notify is said in a protocol of its own: add tls=True"),
    ],
)
def test_what_cannot_mean_anything(make: Any, sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        make()
    assert str(refused.value).startswith(sentence)
