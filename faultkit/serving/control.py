"""What servers in the foreground are told while they run: by lines on standard input, or by signals."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import trio

from faultkit.errors import Misuse
from faultkit.serving.faults import OK
from faultkit.serving.server import Server
from faultkit.serving.udp import UdpServer

CHUNK = 65536  # bytes; arbitrary
LONGEST = 4096  # characters of a line; arbitrary

# verb: what it takes
VERBS: Mapping[str, str] = {"fire": "", "heal": "", "restart": "[MS]", "arm": "FAULT", "forget": "", "quit": ""}
SIGNALS: Mapping[signal.Signals, str] = {
    signal.SIGUSR1: "fire",
    signal.SIGUSR2: "heal",
    signal.SIGRTMIN: "restart",
}


@dataclass(frozen=True, slots=True)
class Order:
    """One line: `fire`, `restart 500`, `arm linger@requests=2 port=8081`."""

    verb: str
    argument: str = ""
    port: int | None = None  # None: of every server


def parsed(line: str) -> Order:
    """What the line says. Raises `Misuse`."""
    words = line[:LONGEST].split()
    ports = [word for word in words if word.startswith("port=")]
    verb, *rest = [word for word in words if word not in ports] or [""]
    if verb not in VERBS:
        known = ", ".join(f"{name} {takes}".strip() for name, takes in VERBS.items())
        raise Misuse(f"{verb!r} is none of what can be told: {known}; port=N behind it names one of several")
    argument = " ".join(rest)
    if bool(argument) > bool(VERBS[verb]) or (verb == "arm" and not argument):
        raise Misuse(f"{verb} takes {VERBS[verb] or 'nothing'}, not {argument!r}")
    if verb == "restart" and argument and not (argument.isdecimal() and int(argument) < 2**31):
        raise Misuse(f"restart {argument}: it takes a whole number of milliseconds, in which it is down")
    if len(ports) > 1 or any(not port[5:].isdecimal() for port in ports):
        raise Misuse(f"{' '.join(ports)}: it is port=N, once")
    return Order(verb, argument, int(ports[0][5:]) if ports else None)


def obey(order: Order, servers: Sequence[Server | UdpServer]) -> None:
    """Do it to the servers that are meant; it is done when this returns. Raises `Misuse`, as the servers do."""
    meant = [server for server in servers if order.port in (None, server.port)]
    if not meant:
        raise Misuse(f"port={order.port} is none of these: {', '.join(str(server.port) for server in servers)}")
    for server in meant:
        if order.verb == "fire":
            server.fire()
        elif order.verb == "heal":
            server.heal()
        elif order.verb == "restart":
            if isinstance(server, UdpServer):
                raise Misuse(
                    "restart: a server of UDP has no connections to reset: fire and heal do what there is to do"
                )
            server.restart(down_seconds=int(order.argument or 0) / 1000)
        elif order.verb == "arm":
            server.arm(None if order.argument == OK else order.argument)
        elif order.verb == "forget":
            server.forget()


async def lines(source: str) -> AsyncGenerator[str, None]:
    """Each line of standard input, "-", or of a file that may be a FIFO, as it comes; it ends with that. Raises `Misuse`."""
    try:
        descriptor = 0 if source == "-" else await trio.to_thread.run_sync(_opened, source, abandon_on_cancel=True)
    except OSError as error:
        raise Misuse(f"control={source}: it cannot be read ({error.strerror})") from error
    left = b""
    while True:
        try:  # a thread, because not every file is one that an event tells of; one that still waits is left behind
            data = await trio.to_thread.run_sync(os.read, descriptor, CHUNK, abandon_on_cancel=True)
        except OSError as error:
            raise Misuse(f"control={source}: it cannot be read ({error.strerror})") from error
        *whole, left = (left + (data or b"\n" * bool(left))).split(b"\n")
        for line in whole:
            if line.strip():
                yield line.decode("utf-8", "replace")
        if not data:
            break
        left = left[: LONGEST + 1]
    if descriptor:
        os.close(descriptor)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
