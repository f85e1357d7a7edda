"""This host's real interface, address and listener, to fill in a recipe for a person. Nothing is changed here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from faultkit.stage import recipe

EXAMPLE_PORT = 7654  # arbitrary


@dataclass(frozen=True, slots=True)
class Host:
    """Where a recipe's rules would go on this host, and how that was found."""

    interface: str
    address: str
    found: str  # "the default route's", or why it is lo
    up: bool | None  # None: not known


def look(*, ipv6: bool) -> Host:
    """The default route's interface with its address; loopback where there is none."""
    # netifaces-plus: the same import as netifaces, which is archived and has no wheels for Python >= 3.10.
    import netifaces

    family = netifaces.AF_INET6 if ipv6 else netifaces.AF_INET
    word = "IPv6" if ipv6 else "IPv4"
    lo = "::1" if ipv6 else "127.0.0.1"
    defaults = netifaces.gateways().get("default")
    # Without a default route of this family the other's interface may still have an address of it.
    route = None
    if isinstance(defaults, dict):
        route = defaults.get(family) or next(iter(defaults.values()), None)
    if route is None:
        return Host("lo", lo, "loopback, because this host has no default route", _up("lo"))
    interface = route[1]
    try:
        entries = netifaces.ifaddresses(interface).get(family, [])
    except (ValueError, OSError):  # it went away between the two calls
        entries = []
    addresses = [entry["addr"].partition("%")[0] for entry in entries if "addr" in entry]
    # A rule for a link-local address would meet nobody from further away.
    addresses.sort(key=lambda address: ipaddress.ip_address(address).is_link_local)
    if not addresses:
        return Host("lo", lo, f"loopback, because {interface} of the default route has no {word} address", _up("lo"))
    return Host(interface, addresses[0], "of the default route", _up(interface))


def listeners(port: int) -> str:
    """Who listens on that port, in words: with name and pid where we may see them."""
    import psutil  # type: ignore[import-untyped]

    try:
        # An ordinary user gets other users' sockets without their pid.
        found = {
            connection.pid
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        }
    except (psutil.Error, OSError):
        return f"who listens on port {port} could not be looked up"
    if not found:
        return f"nobody listens on port {port} now"
    told = []
    for pid in sorted(found, key=lambda pid: pid or 0):
        if pid is None:
            told.append("a process that only root may see")
            continue
        try:
            # A program chooses its own name, and may put terminal controls into it.
            name = "".join(letter if letter.isprintable() else "?" for letter in psutil.Process(pid).name())
            told.append(f"{name} (pid {pid})")
        except (psutil.Error, OSError):
            told.append(f"pid {pid}")
    return f"on port {port} listens {' and '.join(told)}"


def filled(name: str, *, port: int = EXAMPLE_PORT, ipv6: bool = False, tool: recipe.Tool = "iptables") -> str:
    """A recipe filled in for this host, ready to read, and to paste line by line."""
    chosen = recipe.load(name)
    host = look(ipv6=ipv6)
    text = chosen.text({"port": port, "interface": host.interface, "address": host.address}, tool)
    title, _, rest = text.partition("\n")
    state = {True: ", up", False: ", DOWN", None: ""}[host.up]
    about = (
        f"Filled in for this host: interface {host.interface} ({host.found}{state}), address {host.address}; "
        f"{listeners(port)}. Nothing has been changed: faultkit only prints this."
    )
    return f"{title}\n\n{about}\n{rest}"


def _up(interface: str) -> bool | None:
    import psutil

    try:
        statistics = psutil.net_if_stats()
    except (psutil.Error, OSError):
        return None
    return bool(statistics[interface].isup) if interface in statistics else None
