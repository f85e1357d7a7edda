"""Where a proxy is to listen, as Go reads it and complains of it: clients' tests look for these words."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

import trio

from faultkit.controlling.refusal import Refusal
from faultkit.proxying.resolving import Endpoint

LOOPBACK = "127.0.0.1"


class NoAddress(Exception):
    """The text is no address, or its name is none."""


def split(address: str) -> tuple[str, str]:
    """Host and port as they are written. Raises `NoAddress`."""
    host, colon, port = address.rpartition(":")
    if not colon:
        raise NoAddress(f"address {address}: missing port in address")
    if address.startswith("["):
        inner, bracket, rest = address[1:].partition("]")
        if not bracket:
            raise NoAddress(f"address {address}: missing ']' in address")
        if not rest.startswith(":"):
            raise NoAddress(f"address {address}: missing port in address")
        host, port = inner, rest[1:]
    if ":" in port or (":" in host and not address.startswith("[")):
        raise NoAddress(f"address {address}: too many colons in address")
    for text in (host, port):
        for bracket in "[]":
            if bracket in text:
                raise NoAddress(f"address {address}: unexpected '{bracket}' in address")
    return host, port


def port_number(port: str) -> int:
    """A port by number or name; 0 for none. Raises `NoAddress`."""
    if not port:
        return 0
    digits = port.removeprefix("-")
    if digits.isdecimal() and digits.isascii():
        if port.startswith("-") or len(port) > 5 or int(port) > 65535:
            raise NoAddress(f"address {port}: invalid port")
        return int(port)
    try:
        return socket.getservbyname(port, "tcp")
    except OSError:
        raise NoAddress(f"lookup tcp/{port}: unknown port") from None


async def resolved(address: str, *, everywhere: bool) -> Endpoint:
    """Where that is: an address and a port, 0 for a free one. Raises `NoAddress`.

    Without a host it is everywhere, where that is so, and loopback otherwise: who means more says it by name.
    """
    host, port = split(address) if address else ("", "")
    number = port_number(port)
    if not host:
        return Endpoint("::" if everywhere else LOOPBACK, number)
    return Endpoint(await _looked_up(host), number)


async def _looked_up(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        told = await trio.to_thread.run_sync(
            lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), abandon_on_cancel=True
        )
    except (OSError, UnicodeError):
        raise NoAddress(f"lookup {host}: no such host") from None
    told.sort(key=lambda one: one[0] != socket.AF_INET)  # who writes localhost means IPv4
    return str(told[0][4][0])


def cannot_listen(where: Endpoint, error: OSError) -> Refusal:
    """The sentence of a bind(2) that failed."""
    reason = os.strerror(error.errno or errno.EIO).lower()
    return Refusal(f"listen tcp {where}: bind: {reason}", 500)


def service(text: str) -> Endpoint:
    """An upstream by any text: whether anything is there is found out when a client comes."""
    try:
        host, port = split(text)
        return Endpoint(host, port_number(port), text)
    except NoAddress:
        return Endpoint("?", -1, text)  # which getaddrinfo(3) refuses
