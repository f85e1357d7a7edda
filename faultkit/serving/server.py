"""One server: its port, its plan, what it saw; how a test waits for it, fires, heals, and what it complains of."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Sequence
from urllib.parse import quote

import trio

from faultkit import keywords
from faultkit.errors import Misuse, Unable
from faultkit.serving import plan as plans
from faultkit.serving import tracebacks, unix, unmet, waiting, which
from faultkit.serving.faults import OK
from faultkit.serving.gate import Attempt
from faultkit.serving.port import TURNED_AWAY, Port
from faultkit.serving.record import Connection
from faultkit.serving.unix import UnixDoor
from faultkit.serving.which import Which


class FaultNotMet(AssertionError):
    """A fault was armed and no client met it: one sentence."""


class HandlerCrashed(AssertionError):
    """The test's own handler raised an exception, which is the `__cause__`: one sentence."""


class Server(Port):
    """A port with a fault on it. Made by `faultkit.serve`, and by the fixture `fault_server`."""

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<server at {self.url}: {self._plan}; {unmet.came(self._count)}{closed}>"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as `socket.connect` takes them; of a Unix socket its path and 0."""
        return self._door.address.host, self._door.address.port

    @property
    def path(self) -> str:
        """Of a Unix socket, as `socket.connect` takes it. Raises `Misuse` for another."""
        if not isinstance(self._door, UnixDoor):
            raise Misuse("this server has a port, and no path: serve it with unix=True")
        return self._door.path

    @property
    def place(self) -> str:
        """Where it is, for reports."""
        return f"on port {self._place}" if isinstance(self._place, int) else f"at {self._place}"

    @property
    def host(self) -> str:
        """127.0.0.1, or where it was told to listen."""
        return self._door.address.host

    @property
    def port(self) -> int:
        """Its own until it is closed, also while nobody listens on it."""
        return self._door.address.port

    @property
    def url(self) -> str:
        """`http://127.0.0.1:41234/`; https with TLS."""
        if isinstance(self._door, UnixDoor):
            return f"http+unix://{quote(self._door.path, safe='')}/"
        return f"http{'s' if self._authority else ''}://{self._door.address}/"

    @property
    def container_url(self) -> str:
        """`url` as a container on this machine can use it: the address of Docker's or Podman's bridge, or else of the interface
        with the default route. Raises `Misuse` where the server listens on loopback, `Unable` where there is no such address."""
        return f"http{'s' if self._authority else ''}://{self._container_address()}/"

    @property
    def seed(self) -> int | None:
        """With `random`: what to give as `seed` to have the same faults again."""
        return self._plan.seed

    @property
    def connections(self) -> list[Connection]:
        """What each connection did so far, in the order in which they were accepted."""
        return list(self._connections)

    @property
    def attempts(self) -> list[Attempt]:
        """Each attempt to connect, in order: `number`, `peer`, `met` ("connected", "refused", "unanswered"), `at`, in seconds of
        `time.monotonic()`, and `pause_seconds` since the one before. Raises `Misuse` where some were turned away uncounted."""
        if self.turned_away and not self._gate:
            raise Misuse(
                "some clients met a closed door, and nobody counts those: name refuse in a plan, one for each attempt"
            )
        found: list[Attempt] = []
        for record in self._connections:
            pause = record.opened_at - found[-1].at if found else 0.0
            met = record.ended if record.ended in TURNED_AWAY else "connected"
            found.append(Attempt(record.number, record.peer, met or "connected", record.opened_at, pause))
        return found

    @property
    def speaks_tls(self) -> bool:
        """Was it served with `tls=`?"""
        return self._authority is not None

    @property
    def asks_for_certificate(self) -> bool:
        """With `Tls(mutual=True)`."""
        return self._authority is not None and self._authority.client is not None

    @property
    def ca_file(self) -> str:
        """With TLS: the file of the authority to trust, for `verify=`, `--cacert` and the like. Removed with the server."""
        if self._ca_file is None:
            authority = self._trusted()
            if self._closed:
                raise Misuse("the server is closed, and the file of its authority with it")
            self._ca_file = authority.write()
        return self._ca_file.path

    @property
    def client_cert_file(self) -> str:
        """With `Tls(mutual=True)`: the file of a client's key and certificate, for `cert=`, `--cert` and the like."""
        if self._client_file is None:
            authority = self._trusted()
            if authority.client is None:
                raise Misuse("this server asks for no certificate: serve it with tls=faultkit.Tls(mutual=True)")
            if self._closed:
                raise Misuse("the server is closed, and the file of its client with it")
            self._client_file = authority.write_client()
        return self._client_file.path

    @property
    def client_context(self) -> ssl.SSLContext:
        """With TLS: an `ssl.SSLContext` for a client, which trusts this server and no other."""
        return self._trusted().client_context()

    def wait_for_connection(self, number: int = 1, *, timeout_seconds: float = 5.0) -> Connection:
        """Wait until so many connections have been accepted, and give that one. Raises `TimeoutError`; not in an event loop."""
        waiting.check_number("connection", number)
        if self._engine:
            self._engine.must_be_here()
        self._waiting.wait(lambda: self._count >= number, lambda: self._came_instead(number), timeout_seconds)
        return self._connections[number - 1]

    async def await_connection(self, number: int = 1) -> Connection:
        """The same in asyncio or Trio; the caller's own timeout ends the wait."""
        waiting.check_number("connection", number)
        await self._waiting.come(lambda: self._count >= number)
        return self._connections[number - 1]

    def _came_instead(self, number: int) -> str:
        if self._count == 0 and self.turned_away:
            return "no connection was accepted, only turned away,"
        return f"{unmet.came(self._count)}, not {number},"

    @property
    def turned_away(self) -> bool:
        """Has a client met the closed door of `refuse`, `connect-hang` and the like? Where a refusal is counted for the whole
        network namespace, another port's passes for it."""
        if self._gate:  # its door throws away what the gate sees
            return any(record.ended in TURNED_AWAY for record in self._connections)
        return self._door.turned_away

    @property
    def came(self) -> bool:
        """Has a client come, or been turned away at the door?"""
        return self._count > 0 or self.turned_away

    async def await_ended(self, number: int) -> None:
        """Wait until so many connections have ended."""
        await self._waiting.come(lambda: self._count - len(self._sessions) - len(self._expected) >= number)

    def fire(self) -> None:
        """Let the fault set in now: on every live connection that has one and has not met it, and at the listening socket."""
        self._run(self._fire)

    def heal(self) -> None:
        """From now on all is well: closed doors open, live connections hear and speak again, later ones are healthy."""
        self._run(self._heal)

    def restart(self, *, down_seconds: float = 0.0) -> None:
        """Be restarted, as often as one likes: live connections are reset, who comes in the next so many seconds is refused, then
        all is as before. `heal()` brings it up at once. Gives back as soon as it is down; who waits for it to be up connects.
        """
        if isinstance(down_seconds, bool) or not isinstance(down_seconds, int | float) or not 0 <= down_seconds < 2**31:
            raise Misuse(f"restart(down_seconds={down_seconds!r}): it is 0 or more")
        if self._gate:
            raise Misuse("restart(): this plan turns attempts away by itself, one by one: leave one of them out")
        if self._plan.door:
            raise Misuse(f"restart(): {self._plan.door.name} keeps clients out by itself: fire() and heal() do that")
        self._run(functools.partial(self._restart, down_seconds))

    @property
    def fault(self) -> str | None:
        """The fault of every connection, as it is written; None where there is none, or a plan. To be set: from now on every
        connection has that one, as `arm` says."""
        one = self._plan.fault or self._plan.door or self._plan.waiting
        return one.title if one else None

    @fault.setter
    def fault(self, name: str | None) -> None:
        self.arm(name)

    @property
    def plan(self) -> list[str] | None:
        """The fault of each connection in turn; None where there is no such list. To be set, as `fault`."""
        return [fault.title if fault else OK for fault in self._plan.listed] or None

    @plan.setter
    def plan(self, names: Sequence[str] | None) -> None:
        self.arm(plan=names)

    def arm(
        self,
        fault: str | None = None,
        *,
        plan: Sequence[str] | None = None,
        when: str | Which | None = None,
        random: float | None = None,
        seed: int | None = None,
        must_be_met: bool | None = None,
    ) -> None:
        """Begin anew, with another fault or plan, or with none: records are forgotten, doors open, and what was done to live
        connections is healed. Those count as just come, from number 1 on in the order of their age, and are left alone where
        their turn is a fault that sets in before anything is said.

        Takes what `faultkit.serve` takes; a trigger is written behind the fault: `server.arm("linger@requests=2")`.
        """
        given = locals()
        chosen = plans.chosen(fault, plan, random, seed, None, tls=self._authority is not None)
        plans.check_spoken(chosen, self._sessions.speaks, tls=self._authority is not None)
        choice = which.chosen(when)
        ahead = isinstance(self._door, UnixDoor)
        which.check_spoken(when, self._sessions.speaks, "" if ahead else self.host)
        if ahead:
            unix.check(chosen, None)
        if choice:
            which.check(chosen, tls=self._authority is not None or ahead)
        keywords.check(Server.arm, given)  # what none of those has looked at
        self._run(functools.partial(self._renew, chosen, choice, must_be_met))

    def forget(self) -> None:
        """Begin anew with the same fault or plan: as `arm`."""
        self._run(functools.partial(self._renew, self._plan, self._which, self._must_be_met))

    def rearm(self) -> None:
        """Begin anew as it was opened."""
        self._run(functools.partial(self._renew, *self._opened_as))

    def check(self) -> None:
        """Raise `HandlerCrashed` where a handler did, and `FaultNotMet` where a fault was armed and nobody met it.

        The end of the `with`, and of a test, does it too. Not in the loop in which the server runs: `acheck` there.
        """
        if self._undecided():
            assert self._engine
            if self._engine.here:
                raise Misuse("check() would block the loop in which the server runs: await acheck() there")
            with contextlib.suppress(trio.RunFinishedError):  # another thread has closed it meanwhile
                self._engine.wait_for(self._settle)
        self._complain()

    async def acheck(self) -> None:
        """`check`, in the loop in which the server runs."""
        if self._undecided():
            await self._settle()
        self._complain()

    def _undecided(self) -> bool:
        """What a client did before it went is in the kernel's queues, and the engine may not have looked yet: may that
        still meet the fault, or crash the test's own handler?"""
        return not self._closed and self._crash is None and (not self._sessions.lean or self._unmet() is not None)

    def _complain(self) -> None:
        self.check_crash()
        if sentence := self._unmet():
            raise FaultNotMet(sentence)

    def check_crash(self) -> None:
        """Raise `HandlerCrashed` where a handler did, and `Unable` where the machine had no more descriptors or memory."""
        if self._crash is not None:
            number, error, lacking = self._crash
            if lacking:
                raise Unable(f"{self.place.removeprefix('on ')}, connection {number}: {lacking}") from error
            said = str(error).partition("\n")[0]  # a failed assertion under pytest says more: it is in the cause
            cure = (
                "; a handler in asyncio is answer=faultkit.in_asyncio(handler)"
                if tracebacks.meant_asyncio(error)
                else ""
            )
            raise HandlerCrashed(f"connection {number}: {type(error).__name__}{said and ': '}{said}{cure}") from error

    @property
    def keeps_out(self) -> bool:
        """Does its fault let no connection in?"""
        return self._plan.door is not None
