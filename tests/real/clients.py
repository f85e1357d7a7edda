"""The clients: each is one small adapter, which opens it the way its documentation does and asks it for a path.

An adapter gives `ask(method, path)`: one request on the same client object, its answer as text. What a client raises comes
out as it is. Methods are those of HTTP; redis-py has GET for GET and INCR for POST.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import httpx
import redis
import requests
import urllib3
from redis.backoff import NoBackoff
from redis.retry import Retry as RedisRetry
from requests.adapters import HTTPAdapter

from faultkit.serving.answers import Handler
from faultkit.sockets import TCP_USER_TIMEOUT
from tests.real import answers
from tests.real.faults import FAULTS, OVER_TLS, Met

BODY = b"twelve bytes"  # of a POST

Ask = Callable[[str, str], str]


@dataclass(frozen=True)
class Setting:
    """How a client is set up for one play."""

    url: str  # without a path
    timeout_seconds: float  # for connecting and for reading, each
    trusted: str | None = None  # file of the authority that signs for the server
    user_timeout_ms: int | None = None  # TCP_USER_TIMEOUT, where it is to be set

    @property
    def address(self) -> tuple[str, int]:
        """The server's."""
        parts = urllib.parse.urlsplit(self.url)
        assert parts.hostname and parts.port
        return parts.hostname, parts.port

    @property
    def options(self) -> list[tuple[int, int, int]]:
        """The socket options that are to be set, as setsockopt takes them."""
        return [] if self.user_timeout_ms is None else [(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, self.user_timeout_ms)]


@dataclass(frozen=True)
class Client:
    """A row of the table."""

    name: str
    open: Callable[[Setting], AbstractContextManager[Ask]]
    libraries: tuple[str, ...]  # distributions, whose versions matter
    set_up: str  # how, in a sentence, for the page
    socket_options: str  # by which documented hook
    timeout_seconds: float = 0.5  # short where every try has to wait for it
    answer: Handler = answers.http
    tls: bool = False
    methods: tuple[str, ...] = ("GET", "POST")
    faults: tuple[Met, ...] = FAULTS


def _body(method: str) -> bytes | None:
    return BODY if method == "POST" else None


@contextlib.contextmanager
def _http_client(setting: Setting) -> Iterator[Ask]:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            for option in setting.options:
                self.sock.setsockopt(*option)

    connection = Connection(*setting.address, timeout=setting.timeout_seconds)

    def ask(method: str, path: str) -> str:
        connection.request(method, path, _body(method))
        return connection.getresponse().read().decode()

    with contextlib.closing(connection):
        yield ask


@contextlib.contextmanager
def _urllib3(setting: Setting) -> Iterator[Ask]:
    options = [*urllib3.connection.HTTPConnection.default_socket_options, *setting.options]
    with urllib3.PoolManager(timeout=setting.timeout_seconds, socket_options=options) as pool:

        def ask(method: str, path: str) -> str:
            return pool.request(method, setting.url + path, body=_body(method)).data.decode()

        yield ask


class _Adapter(HTTPAdapter):
    """requests' way to reach urllib3's socket_options."""

    def __init__(self, options: list[tuple[int, int, int]], retries: int | urllib3.Retry) -> None:
        self._options = [*urllib3.connection.HTTPConnection.default_socket_options, *options]
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more, socket_options=self._options)


@contextlib.contextmanager
def _requests(setting: Setting, retries: int | urllib3.Retry = 0) -> Iterator[Ask]:
    with requests.Session() as session:
        session.trust_env = False  # or REQUESTS_CA_BUNDLE would win over `verify`
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(setting.options, retries))
        if setting.trusted:
            session.verify = setting.trusted

        def ask(method: str, path: str) -> str:
            url = setting.url + path
            return session.request(method, url, data=_body(method), timeout=setting.timeout_seconds).text

        yield ask


def _requests_with_retry(setting: Setting) -> AbstractContextManager[Ask]:
    return _requests(setting, urllib3.Retry(3))


@contextlib.contextmanager
def _httpx(setting: Setting, retries: int = 0) -> Iterator[Ask]:
    secure = ssl.create_default_context(cafile=setting.trusted)
    transport = httpx.HTTPTransport(verify=secure, retries=retries, socket_options=setting.options)
    with httpx.Client(transport=transport, timeout=setting.timeout_seconds) as session:

        def ask(method: str, path: str) -> str:
            return session.request(method, setting.url + path, content=_body(method)).text

        yield ask


def _httpx_with_retries(setting: Setting) -> AbstractContextManager[Ask]:
    return _httpx(setting, 1)


@contextlib.contextmanager
def _aiohttp(setting: Setting) -> Iterator[Ask]:
    def made(info: aiohttp.AddrInfoType) -> socket.socket:
        sock = socket.socket(info[0], info[1], info[2])
        for option in setting.options:
            sock.setsockopt(*option)
        return sock

    async def open_session() -> aiohttp.ClientSession:
        secure = ssl.create_default_context(cafile=setting.trusted)
        limits = aiohttp.ClientTimeout(sock_connect=setting.timeout_seconds, sock_read=setting.timeout_seconds)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=secure, socket_factory=made if setting.options else None), timeout=limits
        )

    # The loop runs while a request goes on, and not between two of them, as one does that is busy elsewhere: what comes in
    # meanwhile waits in the kernel.
    with asyncio.Runner() as loop:
        session = loop.run(open_session())

        async def request(method: str, path: str) -> str:
            url = setting.url + path
            async with session.request(method, url, data=_body(method)) as response:
                return await response.text()

        try:
            yield lambda method, path: loop.run(request(method, path))
        finally:
            loop.run(session.close())


@contextlib.contextmanager
def _redis(setting: Setting, retries: int | None = None) -> Iterator[Ask]:
    default = redis.Redis().get_retry()
    assert default
    options = {name: value for _, name, value in setting.options}
    with redis.Redis(
        *setting.address,
        socket_timeout=setting.timeout_seconds,
        socket_connect_timeout=setting.timeout_seconds,
        socket_keepalive_options=options,
        retry=RedisRetry(NoBackoff(), default.get_retries() if retries is None else retries),
        decode_responses=True,
    ) as client:

        def ask(method: str, path: str) -> str:
            if method == "GET":
                return str(client.get(path))
            return f"{path.rpartition('/')[0]}/{int(client.incr(path)) - answers.LARGE}"

        yield ask


def _redis_without_retry(setting: Setting) -> AbstractContextManager[Ask]:
    return _redis(setting, 0)


PLAIN = (
    Client(
        "http.client",
        _http_client,
        (),
        "one `HTTPConnection`, as it comes",
        "`setsockopt` on its `sock` after `connect()`",
    ),
    Client(
        "urllib3",
        _urllib3,
        ("urllib3",),
        "a `PoolManager`, as it comes: with `Retry(3)`",
        "`PoolManager(socket_options=...)`",
        timeout_seconds=0.3,
    ),
    Client(
        "requests",
        _requests,
        ("requests", "urllib3"),
        "a `Session`, as it comes",
        "an `HTTPAdapter` that gives `init_poolmanager` its `socket_options`",
    ),
    Client(
        "requests with Retry",
        _requests_with_retry,
        ("requests", "urllib3"),
        "a `Session` with `HTTPAdapter(max_retries=Retry(3))` mounted",
        "an `HTTPAdapter` that gives `init_poolmanager` its `socket_options`",
        timeout_seconds=0.3,
    ),
    Client(
        "httpx",
        _httpx,
        ("httpx", "httpcore"),
        "a `Client`, as it comes",
        "`HTTPTransport(socket_options=...)`",
    ),
    Client(
        "httpx with retries",
        _httpx_with_retries,
        ("httpx", "httpcore"),
        "a `Client` with `HTTPTransport(retries=1)`",
        "`HTTPTransport(socket_options=...)`",
    ),
    Client(
        "aiohttp",
        _aiohttp,
        ("aiohttp",),
        "a `ClientSession`, as it comes",
        "`TCPConnector(socket_factory=...)`",
    ),
    Client(
        "redis-py",
        _redis,
        ("redis",),
        "a `Redis`, with as many retries as it has by default but no pause between them",
        "`Redis(socket_keepalive_options=...)`",
        timeout_seconds=0.2,
        answer=answers.redis,
    ),
    Client(
        "redis-py without retry",
        _redis_without_retry,
        ("redis",),
        "a `Redis` with `Retry(NoBackoff(), 0)`",
        "`Redis(socket_keepalive_options=...)`",
        answer=answers.redis,
    ),
)

# Which requests are sent again does not change with TLS, so GET says it.
_TLS: dict[str, Any] = {"tls": True, "methods": ("GET",), "faults": OVER_TLS}

CLIENTS = (
    *PLAIN,
    *(
        replace(client, name=f"{client.name} over TLS", **_TLS)
        for client in PLAIN
        if client.name in ("requests", "httpx", "aiohttp")
    ),
)
