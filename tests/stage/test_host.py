from __future__ import annotations

import errno
import os
import socket
import subprocess
from types import SimpleNamespace

import psutil  # type: ignore[import-untyped]
import pytest

from faultkit.errors import Misuse
from faultkit.stage import host, namespace, recipe, route
from faultkit.stage.firewall import find
from tests.stage.child import in_child


def routed(*commands: str) -> list[str | None]:
    """What is found in a namespace with loopback alone, once `ip` has done that: for IPv4 and for IPv6."""

    def look() -> list[str | None]:
        namespace.enter()
        ip = find("ip")
        assert ip
        for words in commands:
            subprocess.run([ip, *words.split()], check=True)
        told = (host.look(ipv6=ipv6) for ipv6 in (False, True))
        return [f"{one.interface} {one.address} {one.found} {one.up}" for one in told]

    found: list[str | None] = in_child(look)
    return found


WAN = ("link add wan type veth peer name away", "link set wan up", "link set away up")
VPN = ("tuntap add wg0 mode tun", "link set wg0 up", "addr add 10.9.8.7/32 dev wg0")
NOWHERE = "loopback, because this host has no default route True"


def test_the_default_routes_interface() -> None:
    addresses = ("addr add 192.0.2.2/24 dev wan", "-6 addr add 2001:db8:1::2/64 dev wan nodad")
    routes = ("route add default via 192.0.2.1", "-6 route add default via 2001:db8:1::1")
    assert routed(*WAN, *addresses, *routes) == [
        "wan 192.0.2.2 of the default route True",
        "wan 2001:db8:1::2 of the default route True",
    ]
    # Not the link-local address, though the kernel has that too.
    assert routed(*WAN, *addresses, routes[0])[1] == "wan 2001:db8:1::2 of the default route True"


@pytest.mark.parametrize(
    "route",
    [
        ["route add default dev wg0"],  # no gateway: VPN, PPP
        ["route add default dev wg0 table 51820", "rule add table 51820"],  # as wg-quick does
        ["route add 0.0.0.0/1 dev wg0", "route add 128.0.0.0/1 dev wg0"],  # as OpenVPN does
        ["route add default via 192.0.2.1 metric 100", "route add default dev wg0 metric 50"],
    ],
)
def test_a_default_route_without_a_gateway(route: list[str]) -> None:
    assert routed(*WAN, "addr add 192.0.2.2/24 dev wan", *VPN, *route)[0] == "wg0 10.9.8.7 of the default route False"


def test_an_interface_that_has_no_address_of_its_own() -> None:
    """The kernel sends from another's."""
    wan, vpn = (*WAN, "addr add 192.0.2.2/24 dev wan"), VPN[:2]
    assert routed(*wan, *vpn, "route add default dev wg0")[0] == "wg0 192.0.2.2 of the default route False"
    assert routed(*vpn, "route add default dev wg0")[1] == (
        "lo ::1 loopback, because wg0 of the default route has no IPv6 address True"
    )


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_no_default_route(kind: str) -> None:
    assert routed() == [f"lo 127.0.0.1 {NOWHERE}", f"lo ::1 {NOWHERE}"]
    assert routed(f"route add {kind} default")[0] == f"lo 127.0.0.1 {NOWHERE}"


def test_routes_that_may_not_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(route, "default", refuse)
    assert host.look(ipv6=False).found == (
        "loopback, because no route can be looked up here (Address family not supported by protocol)"
    )


def test_an_interface_with_an_odd_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "default", lambda family: ("a;b'c", "192.0.2.2"))
    assert "\niptables -I INPUT -i 'a;b'\"'\"'c' -p tcp " in host.filled("syn-drop")
    assert host.look(ipv6=False).up is None
    monkeypatch.setattr(host, "_up", lambda interface: False)
    assert "interface a;b'c (of the default route, DOWN), address 192.0.2.2;" in host.filled("syn-drop")
    monkeypatch.setattr(route, "default", lambda family: ("wan+", "192.0.2.2"))
    with pytest.raises(Misuse, match=r"interface 'wan\+' cannot be written"):
        host.filled("syn-drop")


def test_this_machine_as_it_is() -> None:
    for ipv6 in (False, True):
        found = host.look(ipv6=ipv6)
        assert found.interface in psutil.net_if_addrs()
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
