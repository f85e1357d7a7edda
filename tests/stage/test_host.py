from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import netifaces
import psutil  # type: ignore[import-untyped]
import pytest

from faultkit.errors import Misuse
from faultkit.stage import host, namespace, recipe
from tests.stage.child import in_child

V4, V6 = netifaces.AF_INET, netifaces.AF_INET6


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine whose routes and addresses the test writes down."""
    told = SimpleNamespace(routes={}, addresses={}, up={"lo": True})
    monkeypatch.setattr(netifaces, "gateways", lambda: {"default": told.routes})
    monkeypatch.setattr(netifaces, "ifaddresses", lambda name: told.addresses[name])
    statistics = {name: SimpleNamespace(isup=up) for name, up in told.up.items()}
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {**statistics, "wan": SimpleNamespace(isup=False)})
    return told


def test_the_default_routes_interface(machine: SimpleNamespace) -> None:
    machine.routes = {V4: ("192.0.2.1", "wan")}
    machine.addresses = {"wan": {V4: [{"addr": "192.0.2.2"}], V6: [{"addr": "fe80::1%wan"}, {"addr": "2001:db8::2"}]}}
    assert host.look(ipv6=False) == host.Host("wan", "192.0.2.2", "of the default route", False)
    assert host.look(ipv6=True).address == "2001:db8::2"  # not the link-local one, though it comes first
    assert "interface wan (of the default route, DOWN), address 192.0.2.2;" in host.filled("syn-drop")


def test_a_link_local_address_is_better_than_none(machine: SimpleNamespace) -> None:
    machine.routes = {V6: ("fe80::2", "wan")}
    machine.addresses = {"wan": {V6: [{"addr": "fe80::1%wan"}]}}
    assert host.look(ipv6=True).address == "fe80::1"
    assert host.look(ipv6=False).interface == "lo"


def test_no_default_route(machine: SimpleNamespace) -> None:
    assert host.look(ipv6=True) == host.Host("lo", "::1", "loopback, because this host has no default route", True)
    assert "interface lo (loopback, because this host has no default route, up), address 127.0.0.1" in host.filled(
        "syn-drop"
    )


def test_no_address_of_that_family(machine: SimpleNamespace) -> None:
    machine.routes = {V4: ("192.0.2.1", "wan")}
    machine.addresses = {"wan": {V4: [{"addr": "192.0.2.2"}]}}
    found = host.look(ipv6=True)
    assert (found.interface, found.address) == ("lo", "::1")
    assert found.found == "loopback, because wan of the default route has no IPv6 address"


def test_an_interface_with_an_odd_name(machine: SimpleNamespace) -> None:
    machine.routes = {V4: ("192.0.2.1", "a;b'c")}
    machine.addresses = {"a;b'c": {V4: [{"addr": "192.0.2.2"}]}}
    assert "\niptables -I INPUT -i 'a;b'\"'\"'c' -p tcp " in host.filled("syn-drop")
    assert host.look(ipv6=False).up is None
    machine.routes = {V4: ("192.0.2.1", "wan+")}
    machine.addresses = {"wan+": {V4: [{"addr": "192.0.2.2"}]}}
    with pytest.raises(Misuse, match=r"interface 'wan\+' cannot be written"):
        host.filled("syn-drop")


def test_this_machine_as_it_is() -> None:
    for ipv6 in (False, True):
        found = host.look(ipv6=ipv6)
        assert found.interface in netifaces.interfaces()
        for name in recipe.names():
            for tool in recipe.TOOLS:
                values: dict[str, str | int] = {"port": 7654, "interface": found.interface, "address": found.address}
                document = recipe.load(name).text(values, tool)
                printed = host.filled(name, port=7654, ipv6=ipv6, tool=tool)
                title, _, rest = document.partition("\n")
                assert printed.startswith(f"{title}\n\nFilled in for this host: ") and printed.endswith(rest)


def test_a_namespace_that_has_only_loopback() -> None:
    def look() -> str:
        namespace.enter()
        return host.filled("idle-firewall", ipv6=True)

    assert "interface lo (loopback, because this host has no default route, up), address ::1" in in_child(look)


def test_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        name = psutil.Process().name()
        assert host.listeners(port) == f"on port {port} listens {name} (pid {os.getpid()})"
    assert host.listeners(port) == f"nobody listens on port {port} now"


def test_who_listens_is_not_for_everybody_to_see() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def look() -> str:
            server.close()  # the child's copy, which would be its own to see
            return host.listeners(port)

        if os.geteuid() == 0:
            assert in_child(look, "nobody") == f"on port {port} listens a process that only root may see"
        else:
            assert in_child(look) == f"on port {port} listens {psutil.Process().name()} (pid {os.getpid()})"


def test_the_look_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert host.listeners(80) == "who listens on port 80 could not be looked up"
    assert "who listens on port 80 could not be looked up" in host.filled("syn-drop", port=80)


def test_a_listener_that_is_gone_or_named_oddly(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(psutil, "Process", gone)
        assert host.listeners(port) == f"on port {port} listens pid {os.getpid()}"
        monkeypatch.setattr(psutil, "Process", lambda pid: SimpleNamespace(name=lambda: "a\x1b[31m"))
        assert host.listeners(port) == f"on port {port} listens a?[31m (pid {os.getpid()})"


def test_bad_values() -> None:
    with pytest.raises(Misuse, match="port 99999 is not a TCP port"):
        host.filled("syn-drop", port=99999)
    with pytest.raises(Misuse, match="did you mean syn-drop"):
        host.filled("syn-dro")
