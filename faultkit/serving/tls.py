"""TLS for a served fault: a certificate of a test authority, made anew in each process (trustme)."""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import tempfile
from dataclasses import dataclass

from faultkit.errors import Unable


@dataclass(frozen=True, slots=True)
class Authority:
    """The test authority, and what a client needs to trust it."""

    certificate: bytes  # PEM
    server: ssl.SSLContext  # of the server, for localhost, 127.0.0.1 and ::1

    def client_context(self) -> ssl.SSLContext:
        """A client's context that trusts it, and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.certificate.decode("ascii"))
        return context

    def write(self) -> str:
        """The authority's certificate in a new temporary file, which the caller removes."""
        descriptor, path = tempfile.mkstemp(prefix="faultkit-ca-", suffix=".pem")
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.certificate)
        return path


@functools.cache
def authority(*names: str) -> Authority:
    """This process's authority, with a certificate for these names. Raises `Unable` without trustme."""
    try:
        import trustme
    except ImportError as error:
        raise Unable("TLS needs trustme, which is not installed: pip install 'faultkit[tls]'") from error
    made = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("localhost", "127.0.0.1", "::1", *names).configure_cert(server)
    return Authority(made.cert_pem.bytes(), server)


def remove(path: str) -> None:
    """Remove a file that `write` made; one that is gone already is no error."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
