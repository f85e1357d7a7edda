"""This host's real interface, address and listener, to fill in a recipe for a person. Nothing is changed here."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from faultkit.stage import recipe, route

EXAMPLE_PORT = 7654  # arbitrary


@dataclass(frozen=True, slots=True)
class Host:
    """Where a recipe's rules would go on this host, and how that was found."""

    interface: str
    address: str
    found: str  # "the default route's", or why it is lo
    up: bool | None  # None: not known


def look(*, ipv6: bool) -> Host:
    """The default route's interface, and the address that the kernel sends from; loopback where there is no such route."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    try:
        ours, other = (route.default(one) for one in (family, socket.AF_INET if ipv6 else socket.AF_INET6))
    except OSError as error:
        return _loopback(ipv6, f"no route can be looked up here ({error.strerror})")
    if ours and ours[1]:
        return Host(ours[0], ours[1], "of the default route", _up(ours[0]))
    # Without a default route of this family the other's interface may still have an address of it.
    found = ours or other
    if found is None:
        return _loopback(ipv6, "this host has no default route")
    if address := _address(found[0], family):
        return Host(found[0], address, "of the default route", _up(found[0]))
    return _loopback(ipv6, f"{found[0]} of the default route has no {'IPv6' if ipv6 else 'IPv4'} address")


def _loopback(ipv6: bool, why: str) -> Host:
    return Host("lo", "::1" if ipv6 else "127.0.0.1", f"loopback, because {why}", _up("lo"))


def _address(interface: str, family: socket.AddressFamily) -> str | None:
    """One of its addresses; a rule for a link-local one would meet nobody from further away, so that comes last."""
    # netifaces-plus: the same import as netifaces, which is archived and has no wheels for Python >= 3.10.
    import netifaces

    try:
        entries = netifaces.ifaddresses(interface).get(family, [])
    except ValueError:  # it went away between the two calls
        return None
    addresses = [entry["addr"].partition("%")[0] for entry in entries if "addr" in entry]
    addresses.sort(key=lambda address: ipaddress.ip_address(address).is_link_local)
    return next(iter(addresses), None)


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
