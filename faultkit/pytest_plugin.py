"""The pytest plugin: fixtures, and what makes them loud. The work is done in `faultkit.serving`.

pytest loads this with every test run of an environment that has faultkit, so it imports nothing until a fixture is used, and
nothing that an older pytest has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from faultkit.proxying.fixture import FaultProxy
    from faultkit.proxying.loop import Loop
    from faultkit.serving.engine import Engine
    from faultkit.serving.firewall import Firewall
    from faultkit.serving.fixture import FaultServer, FaultServerUdp

OLDEST = 8  # of pytest, as the extra says: an older one has no hook wrappers that may fail, and no stash
# The names under which pytest-trio may be registered: by itself, and by `-p`.
PYTEST_TRIO = ("trio", "pytest_trio.plugin")


def pytest_configure(config: pytest.Config) -> None:
    if not _too_old():
        config.pluginmanager.import_plugin("faultkit.pytest_plugin_hooks")
    if any(config.pluginmanager.has_plugin(name) for name in PYTEST_TRIO):
        config.pluginmanager.import_plugin("faultkit.pytest_plugin_trio")


@pytest.fixture(scope="session")
def fault_server_defaults() -> Mapping[str, Any]:
    """Keywords of `faultkit.serve` for every server that names no other. To be overridden: `return {"answer": "http"}`."""
    return {}


@pytest.fixture(scope="session")
def _fault_server_thread() -> Iterator[None]:
    """Keeps the servers' thread, with its Trio loop, from one test to the next. Overridden with a narrower scope, each
    test has a thread of its own."""
    _must_be_real()
    from faultkit.serving.engine import SHARED

    SHARED.hold()
    yield
    SHARED.release()


@pytest.fixture
def fault_server(
    request: pytest.FixtureRequest, fault_server_defaults: Mapping[str, Any], _fault_server_thread: None
) -> Iterator[FaultServer]:
    """Opens servers with faults, on loopback: `server = fault_server("linger", after_bytes=1)`, then `server.url`.

    It takes what `faultkit.serve` takes. A fault that no client met, and a handler that crashed, fail the test.
    """
    from faultkit.serving.engine import SHARED

    engine = SHARED.hold()
    try:
        servers = opened(request, engine, fault_server_defaults)
        yield servers
        told = set(servers.complaints)
        servers.close()
    finally:
        SHARED.release()
    fail([complaint for complaint in servers.complaints if complaint not in told])


@pytest.fixture
def fault_server_udp(request: pytest.FixtureRequest, _fault_server_thread: None) -> Iterator[FaultServerUdp]:
    """The same for UDP: `server = fault_server_udp("silence", answer="dns")`. It takes what `faultkit.serve_udp` takes."""
    from faultkit.pytest_plugin_hooks import OPENED
    from faultkit.serving.engine import SHARED
    from faultkit.serving.fixture import FaultServerUdp

    _must_be_new_enough("fault_server_udp")
    engine = SHARED.hold()
    try:
        servers = FaultServerUdp(engine, request.fixturename)
        request.node.stash.setdefault(OPENED, []).append(servers)
        yield servers
        told = set(servers.complaints)
        servers.close()
    finally:
        SHARED.release()
    fail([complaint for complaint in servers.complaints if complaint not in told])


@pytest.fixture(scope="session")
def fault_server_session(request: pytest.FixtureRequest, _fault_server_thread: None) -> Iterator[FaultServer]:
    """`fault_server` for fixtures of a wider scope than one test: what it opens is there until the session ends. It takes what
    `faultkit.serve` takes, without `fault_server_defaults`, which may be a test's own.

    Each test that asks for one, directly or not, finds the servers as they were opened: `server.fault = "linger"` and
    `server.arm(...)` are for that test alone, and so is what is wrong.
    """
    from faultkit.serving.engine import SHARED

    engine = SHARED.hold()
    try:
        servers = opened(request, engine, {})
        yield servers
        told = set(servers.complaints)
        servers.close()
    finally:
        SHARED.release()
    fail([complaint for complaint in servers.complaints if complaint not in told])


@pytest.fixture(scope="session")
def fault_proxy_defaults() -> Mapping[str, Any]:
    """Keywords of `faultkit.proxy` for every proxy that names no other. To be overridden: `return {"upstream_down": "close"}`."""
    return {}


@pytest.fixture(scope="session")
def _fault_proxy_thread() -> Iterator[None]:
    """Keeps the proxies' thread from one test to the next."""
    _must_be_real()
    from faultkit.proxying.thread import SHARED

    SHARED.hold()
    yield
    SHARED.release()


@pytest.fixture
def fault_proxy(
    request: pytest.FixtureRequest, fault_proxy_defaults: Mapping[str, Any], _fault_proxy_thread: None
) -> Iterator[FaultProxy]:
    """Opens proxies in front of services: `proxy = fault_proxy(("localhost", 6379), "linger")`, then `proxy.address`.

    It takes what `faultkit.proxy` takes. A fault or a toxic that no client met fails the test.
    """
    from faultkit.proxying.thread import SHARED

    loop = SHARED.hold()
    try:
        proxies = opened_proxies(request, loop, fault_proxy_defaults)
        yield proxies
        told = set(proxies.complaints)
        proxies.close()
    finally:
        SHARED.release()
    fail([complaint for complaint in proxies.complaints if complaint not in told])


@pytest.fixture
def firewall() -> Iterator[Firewall]:
    """Drops and rejects in the private namespace that the tests run in: `faultkit sandbox -- pytest`. Lifted with the test.

    `firewall.drop(port)`, `firewall.reject(port)`, `firewall.apply("idle-firewall", port=port)`. Elsewhere it fails the test.
    """
    _must_be_new_enough("firewall")
    from faultkit.errors import Unable
    from faultkit.serving.firewall import open_firewall

    try:
        rules = open_firewall()
    except Unable as refusal:
        raise _sentence(str(refusal)) from None
    with rules:
        yield rules


def opened(request: pytest.FixtureRequest, engine: Engine, defaults: Mapping[str, Any]) -> FaultServer:
    """What the fixture gives, noted for the hooks below."""
    _must_be_new_enough(str(request.fixturename))
    from faultkit.errors import Misuse
    from faultkit.pytest_plugin_hooks import OPENED
    from faultkit.serving.fixture import FaultServer

    try:
        servers = FaultServer(engine, request.fixturename, defaults)
    except Misuse as refusal:
        raise _sentence(str(refusal)) from None
    request.node.stash.setdefault(OPENED, []).append(servers)
    return servers


def opened_proxies(request: pytest.FixtureRequest, loop: Loop, defaults: Mapping[str, Any]) -> FaultProxy:
    """The same of proxies."""
    _must_be_new_enough(str(request.fixturename))
    from faultkit.errors import Misuse
    from faultkit.proxying.fixture import FaultProxy
    from faultkit.pytest_plugin_hooks import OPENED

    try:
        proxies = FaultProxy(loop, request.fixturename, defaults)
    except Misuse as refusal:
        raise _sentence(str(refusal)) from None
    request.node.stash.setdefault(OPENED, []).append(proxies)
    return proxies


def fail(complaints: list[str]) -> None:
    """Fail the test if there is any."""
    if complaints:
        raise _sentence("\n".join(complaints))


def _too_old() -> bool:
    return int(pytest.__version__.split(".")[0]) < OLDEST


def _must_be_new_enough(fixture: str) -> None:
    if _too_old():
        raise _sentence(
            f"{fixture} needs pytest {OLDEST} or later, and this is {pytest.__version__}: pip install 'pytest>={OLDEST}'"
        )


def _must_be_real() -> None:
    from faultkit.errors import Unable, refuse_green_threads

    try:
        refuse_green_threads()
    except Unable as refusal:
        raise _sentence(str(refusal)) from None


def _sentence(sentence: str) -> BaseException:
    return pytest.fail.Exception(sentence, pytrace=False)
