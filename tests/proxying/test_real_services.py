"""In front of the real redis, PostgreSQL and nginx: with each toxic, with faults, with TLS that passes through."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

import faultkit
from faultkit import FaultProxy
from faultkit.proxying.toxics import TYPES, made
from tests.watch import until

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
NGINX = """
daemon off; master_process off; pid {where}/pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {where}/body; proxy_temp_path {where}/proxy; fastcgi_temp_path {where}/fastcgi;
  uwsgi_temp_path {where}/uwsgi; scgi_temp_path {where}/scgi;
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{tls} ssl; root {where};
    ssl_certificate {where}/cert.pem; ssl_certificate_key {where}/key.pem;
  }}
}}
"""
ONCE = Retry(NoBackoff(), 0)
# Some that let a request through, in other ways than none.
GENTLE = {
    "latency": {"latency": 2, "jitter": 1},
    "bandwidth": {"rate": 20_000},
    "slow_close": {"delay": 2},
    "slicer": {"average_size": 700, "size_variation": 300},
    "limit_data": {"bytes": 10**9},
    "timeout": {"after_bytes": 10**9},
    "reset_peer": {"after_bytes": 10**9},
    "packet_loss": {},
    "noop": {},
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def program(port: int, *command: str, **how: Any) -> Iterator[int]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how) as process:
        try:
            until(lambda: listens(port), seconds=30)
            yield port
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    port = free_port()
    with program(port, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "") as running:
        yield running


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, ssl.SSLContext, bytes]]:
    where = tmp_path_factory.mktemp("nginx")
    where.chmod(0o755)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(where / "key.pem")
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(where / "cert.pem", append=number > 0)
    body = os.urandom(3_000_000)
    (where / "big").write_bytes(body)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port, tls = free_port(), free_port()
    (where / "nginx.conf").write_text(NGINX.format(where=where, port=port, tls=tls))
    with program(port, "nginx", "-c", str(where / "nginx.conf"), "-p", str(where)):
        yield port, tls, context, body


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    where = tempfile.mkdtemp()
    how: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to be root
        nobody = pwd.getpwnam("nobody")
        os.chown(where, nobody.pw_uid, nobody.pw_gid)
        how = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    port, data = free_port(), f"{where}/data"
    try:
        made = [str(POSTGRES[-1] / "initdb"), "-D", data, "-U", "it", "-A", "trust", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=where, **how)
        options = ["-p", str(port), "-k", where, "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        with program(port, str(POSTGRES[-1] / "postgres"), "-D", data, *options, cwd=where, **how) as running:
            until(lambda: is_up(running), seconds=30)  # it listens before that
            yield running
    finally:
        shutil.rmtree(where)


def is_up(port: int) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=port, user="it", dbname="postgres", sslmode="disable").close()
        return True
    return False


def gentle(proxy: faultkit.Proxy, type: str) -> None:
    for stream in ("upstream", "downstream"):
        proxy.add(made(type, stream=stream, attributes=GENTLE[type], fractions=True))


@pytest.mark.parametrize("type", TYPES)
def test_redis_with_each_toxic(type: str, redis_port: int, fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(("127.0.0.1", redis_port))
    gentle(proxy, type)
    with redis.Redis(port=proxy.port, socket_timeout=10) as client:
        for number in range(20):
            client.set(f"key{number}", os.urandom(10) * 1000)
        assert [len(client.get(f"key{number}") or b"") for number in range(20)] == [10_000] * 20
    assert proxy.connections[0].received > 200_000


@pytest.mark.parametrize("fault", ["linger", "unread", "late-write", "crash:read", "half-close", "garbage"])
def test_redis_whose_connections_end(fault: str, redis_port: int, fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(("127.0.0.1", redis_port), plan=[f"{fault}@requests=1", "ok"])
    with redis.Redis(port=proxy.port, socket_timeout=10, retry=ONCE) as client:
        with pytest.raises((redis.ConnectionError, redis.exceptions.InvalidResponse, redis.TimeoutError)):
            client.ping()
        client.connection_pool.disconnect()
        assert client.ping() is True


@pytest.mark.parametrize("fault", ["stall", "black-hole", "zero-window"])
def test_redis_that_hangs_until_it_is_healed(fault: str, redis_port: int, fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(("127.0.0.1", redis_port), f"{fault}@requests=1")
    with redis.Redis(port=proxy.port, socket_timeout=0.2, retry=ONCE) as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        proxy.heal()
        assert client.ping() is True


@pytest.mark.parametrize("type", TYPES)
def test_postgres_with_each_toxic(type: str, postgres: int, fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(("127.0.0.1", postgres))
    gentle(proxy, type)
    where = {"host": "127.0.0.1", "port": proxy.port, "user": "it", "dbname": "postgres", "sslmode": "disable"}
    with psycopg.connect(**where) as connection:  # type: ignore[arg-type]
        rows = connection.execute("SELECT n, repeat('x', 50) FROM generate_series(1, 5000) AS n").fetchall()
        assert [row[0] for row in rows] == list(range(1, 5001))


def test_postgres_that_is_reset_in_the_middle_of_an_answer(postgres: int, fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(("127.0.0.1", postgres), plan=["linger@sent=50000", "ok"])
    where = {"host": "127.0.0.1", "port": proxy.port, "user": "it", "dbname": "postgres", "sslmode": "disable"}
    query = "SELECT repeat('x', 100) FROM generate_series(1, 5000)"
    with psycopg.connect(**where) as connection, pytest.raises(psycopg.OperationalError):  # type: ignore[arg-type]
        connection.execute(query)
    with psycopg.connect(**where) as connection:  # type: ignore[arg-type]
        assert len(connection.execute(query).fetchall()) == 5000
    assert proxy.connections[0].sent == 50_000


@pytest.mark.parametrize("type", TYPES)
def test_nginx_with_each_toxic_and_tls_passed_through(
    type: str, nginx: tuple[int, int, ssl.SSLContext, bytes], fault_proxy: FaultProxy
) -> None:
    _, tls, context, body = nginx
    proxy = fault_proxy(("127.0.0.1", tls))
    gentle(proxy, type)
    with urllib.request.urlopen(f"https://localhost:{proxy.port}/big", timeout=30, context=context) as answer:
        assert answer.read() == body


def test_nginx_whose_answer_is_cut(nginx: tuple[int, int, ssl.SSLContext, bytes], fault_proxy: FaultProxy) -> None:
    proxy = fault_proxy(("127.0.0.1", nginx[0]), "linger", after_sent=100_000)
    with pytest.raises(ConnectionResetError), urllib.request.urlopen(proxy.url + "big", timeout=10) as answer:
        answer.read()


def test_a_service_that_is_stopped_and_started_again(fault_proxy: FaultProxy) -> None:
    port = free_port()
    proxy = fault_proxy(("127.0.0.1", port))
    with redis.Redis(port=proxy.port, socket_timeout=10, retry=ONCE) as client:
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()
            with program(port, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""):
                assert client.ping() is True
