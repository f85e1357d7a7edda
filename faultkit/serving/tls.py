"""TLS for a served fault: a certificate of a test authority, made anew in each process (trustme), and what is below."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import secrets
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from faultkit import keywords
from faultkit.errors import Misuse, Unable, exhausted, starting

if TYPE_CHECKING:
    import trustme

    from faultkit.serving.connection import Live


@dataclass(frozen=True, slots=True)
class Tls:
    """How TLS is spoken, for `tls=`.

    names      hosts and addresses of the certificate, in place of those of loopback: the client has asked for another
    alpn       protocols that are agreed to, in the server's order (RFC 7301); none: it says nothing of it, or h2 for HTTP/2
    expired    the certificate was valid until yesterday
    untrusted  another authority has signed it than the one that `server.ca_file` has
    mutual     the client needs a certificate too: `server.client_context` has one, and `server.client_cert_file`
    later      the connection begins in the clear, until the handler says `await conn.start_tls()`

    Raises `Misuse` for names and protocols that are none.
    """

    names: Sequence[str] = ()
    alpn: Sequence[str] = ()
    expired: bool = False
    untrusted: bool = False
    mutual: bool = False
    later: bool = False

    def __post_init__(self) -> None:
        keywords.check_fields(self)
        for field in ("names", "alpn"):
            value = getattr(self, field)
            if not all(one.isascii() and one.isprintable() and one for one in value):
                raise Misuse(f"Tls({field}={value!r}): it is a list of such names, each of ASCII")
            object.__setattr__(self, field, tuple(value))
        if any(len(one) > 255 for one in self.alpn):
            raise Misuse(f"Tls(alpn={self.alpn!r}): a protocol's name has up to 255 bytes")


@dataclass(frozen=True, slots=True)
class Authority:
    """The test authority, and what a client needs to trust it."""

    certificate: bytes  # PEM
    server: ssl.SSLContext  # of the server
    client: trustme.LeafCert | None = None  # that the server asks for

    def client_context(self) -> ssl.SSLContext:
        """A client's context that trusts it, and nothing else; with a certificate where the server asks for one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.certificate.decode("ascii"))
        if self.client:
            with _placed():
                self.client.configure_cert(context)
        return context

    def write(self) -> PublicFile:
        """The authority's certificate in a new temporary file, which the caller removes."""
        return PublicFile(self.certificate)

    def write_client(self) -> PublicFile:
        """The client's key and certificate, likewise. Only where there is one."""
        assert self.client
        return PublicFile(self.client.private_key_and_cert_chain_pem.bytes())


class PublicFile:
    """A new temporary file for other programs, whoever runs them, to read: it ends with us, even by kill -9.

    `sh` waits for the end of a pipe that this process holds open, and removes it.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self.path = os.path.join(tempfile.gettempdir(), f"faultkit-ca-{secrets.token_hex(8)}.pem")
            waiting, self._lifeline = os.pipe()
        except OSError as error:
            raise _no_place(error) from error
        try:
            with starting(), open(waiting, "rb") as lifeline:
                self._guardian = subprocess.Popen(
                    ["sh", "-c", 'read -r _; rm -f "$0"', self.path],
                    stdin=lifeline,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # a Ctrl-C is ours
                )
        except BaseException:
            os.close(self._lifeline)
            raise
        try:
            with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC), "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(content)
        except OSError as error:
            self.remove()
            raise _no_place(error) from error

    def remove(self) -> None:
        """Remove it; that it is gone already is no error."""
        os.close(self._lifeline)
        self._guardian.wait()


@functools.cache
def authority(name: str, asked: Tls) -> Authority:
    """This process's authority, with a certificate for that address or as it is asked for. Raises `Unable` without trustme, and
    `Misuse` for a name that no certificate can have."""
    try:
        import trustme
    except ImportError as error:
        raise exhausted(error) or Unable("TLS needs trustme, which is not installed: pip install trustme") from error
    made = trustme.CA()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    names = asked.names or ("localhost", "127.0.0.1", "::1", name)
    try:
        certificate = (trustme.CA() if asked.untrusted else made).issue_cert(
            *names, not_after=yesterday if asked.expired else None
        )
    except ValueError as error:
        raise Misuse(f"Tls(names={asked.names!r}): no certificate can have them ({error})") from error
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if asked.alpn:
        server.set_alpn_protocols([*asked.alpn])
    with _placed():
        certificate.configure_cert(server)
    if asked.mutual:
        server.verify_mode = ssl.CERT_REQUIRED
        made.configure_trust(server)
    return Authority(made.cert_pem.bytes(), server, made.issue_cert("client@faultkit.test") if asked.mutual else None)


@contextlib.contextmanager
def _placed() -> Iterator[None]:
    """OpenSSL takes a certificate with its key from a file alone, which trustme makes."""
    try:
        yield
    except OSError as error:
        raise _no_place(error) from error


def _no_place(error: OSError) -> Unable:
    return exhausted(error) or Unable(
        f"certificates cannot be written to a file ({error.strerror}): set TMPDIR to a directory of yours"
    )


def cut_off(error: trio.BrokenResourceError) -> bool:
    """Did the peer close without close_notify, as many do?"""
    # Some take it for a close_notify (OP_IGNORE_UNEXPECTED_EOF, which Python 3.11.2 sets), an error in a handshake too.
    return isinstance(error.__cause__, ssl.SSLEOFError | ssl.SSLZeroReturnError)


class Below(trio.abc.Stream):
    """The connection below TLS.

    What SSLStream waits for in between may be shielded, so whether a fault has closed the socket meanwhile is asked here.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._head = b""  # of a record: its type, version and length (RFC 8446 section 5.1)
        self._left = 0  # bytes of that record

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._live.may_read()
        fault = self._live.armed
        if not (fault and fault.served.unread):
            return await self._live.receive_below(max_bytes or 65536)
        # A client's last record of the handshake and its first request may come together, and what the fault leaves unread
        # must be left in the kernel: so no more than one record is taken.
        data = await self._live.receive_below(self._left or 5 - len(self._head))
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            if len(self._head) == 5:
                self._head, self._left = b"", int.from_bytes(self._head[3:])
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        left = bytes(data)
        while left and await self._live.may_speak():
            try:
                left = left[self._live.put(left) :]
            except BlockingIOError:
                await self.wait_send_all_might_not_block()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._live.sock)
        await self._live.still_there()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()  # the server closes the socket
