"""A firewall for tests: rules in the sandbox that the tests run in (`faultkit sandbox -- pytest`), and nowhere else.

Plain calls, that return when the kernel has the rules: for sync tests, and in asyncio or trio, whose loop waits for the
milliseconds that they take. Several processes may use it side by side in one sandbox, each for ports of its own.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Literal

import trio

from faultkit.errors import Misuse, Unable
from faultkit.stage import firewall, sandbox
from faultkit.stage.namespace import Namespace


class Firewall:
    """What was applied is lifted all together: by `lift`, or at the end of the `with` block.

    Rules are for 127.0.0.1 and ::1 alike, or for the one `address` that is named.
    """

    def __init__(self, own: Namespace, tool: Literal["auto", "iptables", "nft"] = "auto") -> None:
        self._own = own
        self._tool = tool
        self._walls: dict[bool, firewall.Firewall] = {}  # by: is it IPv6's?
        self._lock = threading.Lock()  # threads of a test may change it at the same time

    def drop(self, port: int, *, address: str | None = None) -> None:
        """Drop whatever goes to that port or comes from it, without a word: the peer is gone."""
        self._apply([("idle-firewall", step) for step in (1, 2)], port, address)

    def reject(self, port: int, *, answer: str = "tcp-reset", address: str | None = None) -> None:
        """Refuse whatever goes to that port, with a RST or an ICMP error: one of `REFUSALS`."""
        if answer not in firewall.REFUSALS:
            raise Misuse(
                f"a firewall has no answer {answer!r} to reject with: take one of {', '.join(firewall.REFUSALS)}"
            )
        self._apply([("reject", firewall.REFUSALS.index(answer) + 1)], port, address)

    def apply(self, name: str, *, port: int, step: int = 1, address: str | None = None) -> None:
        """Apply a step of a recipe (`faultkit recipe` names them all)."""
        self._apply([(name, step)], port, address)

    def lift(self) -> None:
        """Take out every rule that was put in here, and no other; nothing where there is none."""

        async def work() -> None:
            failures: list[Unable] = []
            for wall in self._walls.values():
                try:
                    await wall.lift()
                except Unable as error:
                    failures.append(error)
            if failures:
                raise failures[0]

        with self._lock:
            _do(work)

    def __enter__(self) -> Firewall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()

    def _apply(self, steps: list[tuple[str, int]], port: int, address: str | None) -> None:
        addresses = _loopback() if address is None else [address]

        async def work() -> None:
            for where in addresses:
                for name, step in steps:
                    await self._wall(":" in where).apply(name, step, {"port": port, "address": where})

        with self._lock:
            _do(work)

    def _wall(self, ipv6: bool) -> firewall.Firewall:
        if ipv6 not in self._walls:
            tool = firewall.choose(self._tool, ipv6=ipv6)
            table = f"faultkit_{secrets.token_hex(8)}"
            self._walls[ipv6] = firewall.Firewall(self._own, tool, ipv6, table, alone=True)
        return self._walls[ipv6]


def open_firewall(tool: Literal["auto", "iptables", "nft"] = "auto") -> Firewall:
    """The firewall of the sandbox that we are in. Raises `Unable` outside of one, and without such a tool."""
    own = sandbox.inside()
    if own is None:
        raise Unable(
            "firewall rules work only inside a private namespace: run the tests with faultkit sandbox -- pytest ..."
        )
    firewall.choose(tool)
    return Firewall(own, tool)


def _loopback() -> list[str]:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:  # this machine has no IPv6
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


def _do(work: Callable[[], Awaitable[None]]) -> None:
    # In a thread of its own: the caller's may run an event loop already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(trio.run, work).result()
