"""A UDP server with faults, for clients such as DNS resolvers: each datagram is answered, or meets its fault."""

from __future__ import annotations

import contextlib
import difflib
import errno
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faultkit import sockets
from faultkit.errors import Misuse
from faultkit.evidence.transcript import Address
from faultkit.serving import waiting
from faultkit.serving.datagrams import SENDABLE, Answering
from faultkit.serving.door import DRAW, DRAWS, ephemeral
from faultkit.serving.engine import Engine, Watch
from faultkit.serving.faults import NOISE, OK
from faultkit.serving.plan import check_list
from faultkit.serving.record import size
from faultkit.serving.server import FaultNotMet, HandlerCrashed
from faultkit.witness.kernel import counters

LARGEST = 1 << 16  # bytes of a datagram
BATCH = 64  # datagrams before others have their turn; arbitrary


@dataclass(frozen=True, slots=True)
class UdpFault:
    """A fault with its number."""

    name: str  # "truncate:20"
    kind: str
    number: int | None


# What each does, and what its number behind a colon is; "" for none.
FAULTS: Mapping[str, tuple[str, str]] = {
    "silence": ("no answer comes", ""),
    "port-unreachable": ("nobody has the port: the kernel's ICMP port unreachable, ECONNREFUSED", ""),
    "truncate": ("half of the answer, or N bytes; of DNS the answer with TC and without records", "bytes"),
    "garbage": ("N bytes that mean nothing, 64 where it is left out", "bytes"),
    "duplicate": ("the answer twice", ""),
    "other-port": ("the answer comes from another port", ""),
}


def fault(name: str) -> UdpFault:
    """The fault of that name. Raises `Misuse`."""
    if not isinstance(name, str):
        if isinstance(name, list | tuple):
            raise Misuse(f"fault={name!r} is a list: a fault for each datagram in turn is plan=[...]")
        raise Misuse(f"fault={name!r} is no name: it is one of {', '.join(FAULTS)}")
    base, colon, number = name.partition(":")
    if base not in FAULTS:
        near = difflib.get_close_matches(base[:80], FAULTS, n=1)
        raise Misuse(
            f"there is no fault {name!r} of UDP: "
            + (f"did you mean {near[0]}?" if near else f"it is one of {', '.join(FAULTS)}")
        )
    if colon and not (FAULTS[base][1] and number.isdecimal() and 0 < int(number) <= SENDABLE):
        takes = f"a whole number of bytes, 1 to {SENDABLE}," if FAULTS[base][1] else "nothing"
        raise Misuse(f"{name}: {base} takes {takes} there")
    return UdpFault(name, base, int(number) if colon else None)


@dataclass(frozen=True, slots=True)
class UdpPlan:
    """`of(n)` is the fault of datagram n, the first being 1; None where it is answered."""

    every: UdpFault | None = None
    listed: tuple[UdpFault | None, ...] = ()

    @property
    def unreachable(self) -> bool:
        """Is nobody to have the port?"""
        return self.every is not None and self.every.kind == "port-unreachable"

    def of(self, number: int) -> UdpFault | None:
        """The fault of that datagram."""
        return self.listed[number - 1] if number <= len(self.listed) else self.every


def chosen(name: str | None, plan: Sequence[str] | None) -> UdpPlan:
    """The plan that these ask for. Raises `Misuse`."""
    if name is not None and plan is not None:
        raise Misuse(f"fault {name!r} and a plan: the plan says what each datagram gets; leave one of them out")
    if plan is None:
        return UdpPlan(None if name in (None, OK) else fault(name))
    check_list(plan, "['silence', 'ok']")
    if any(isinstance(one, list | tuple) for one in plan):
        raise Misuse(f"plan={plan!r}: a datagram has one fault: write them in one list, ['silence', 'truncate', 'ok']")
    listed = tuple(None if one == OK else fault(one) for one in plan)
    if any(one and one.kind == "port-unreachable" for one in listed):
        raise Misuse("port-unreachable lets no datagram in, so none can be counted: serve it alone, and heal() it")
    return UdpPlan(None, listed)


def bound(family: int, host: str, port: int) -> socket.socket:
    """A socket at that port, or a free one. Raises as bind(2) does."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        # Only a port that is named to bind() stays when the socket forgets its peer (udp_disconnect()): a free one is drawn.
        for _ in range(1 if port else DRAWS):
            try:
                sock.bind((host, port or DRAW.randint(*ephemeral())))
                return sock
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port:
                    raise
        raise OSError(errno.EADDRINUSE, "every port is in use")
    except BaseException:
        sock.close()
        raise


@dataclass(slots=True)
class Datagram:
    """One that came: `number`, from 1 on; `peer`; its `data`; `fault`, "ok" for none; `answered`, in bytes; `at`, in seconds of
    `time.monotonic()`."""

    number: int
    peer: Address
    data: bytes
    fault: str
    at: float
    answered: int = 0

    def __repr__(self) -> str:
        return (
            f"<datagram {self.number} from {self.peer}: {self.fault}, {size(len(self.data))} in, {self.answered} out>"
        )


class UdpServer:
    """A UDP port with a fault on it. Made by `faultkit.serve_udp`, and by the fixture `fault_server_udp`."""

    seed = None

    def __init__(
        self,
        sock: socket.socket,
        plan: UdpPlan,
        answer: Answering,
        must_be_met: bool,
        each: Callable[[Datagram], None] | None = None,
    ) -> None:
        self._sock = sock
        self._each = each  # told of each datagram; they are not kept then
        self._count = 0
        self._plan = plan
        self._answer = answer
        self._must_be_met = must_be_met
        self._opened_as = plan
        self._engine: Engine | None = None
        self._watch: Watch | None = None
        self._waiting = waiting.Waiting()
        self._came: list[Datagram] = []
        self._crash: BaseException | None = None
        self._healed = False
        self._closed = False
        self._refused_before = 0  # by the kernel, in this network namespace
        self._address = Address(*sock.getsockname()[:2])

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as `socket.sendto` takes them."""
        return self._address.host, self._address.port

    @property
    def host(self) -> str:
        """127.0.0.1, or where it was told to listen."""
        return self._address.host

    @property
    def port(self) -> int:
        """Its own until it is closed."""
        return self._address.port

    @property
    def url(self) -> str:
        """`udp://127.0.0.1:41234`."""
        return f"udp://{self._address}"

    @property
    def datagrams(self) -> list[Datagram]:
        """What has come so far, in order."""
        return list(self._came)

    connections = datagrams  # for reports

    @property
    def turned_away(self) -> bool:
        """May a client have met `port-unreachable`? The kernel counts those for the whole network namespace."""
        return self._plan.unreachable and _unreachables() > self._refused_before

    @property
    def came(self) -> bool:
        """Has a datagram come, or been refused?"""
        return self._count > 0 or self.turned_away

    @property
    def keeps_out(self) -> bool:
        """Does its fault let no datagram in?"""
        return self._plan.unreachable

    def wait_for_datagram(self, number: int = 1, *, timeout_seconds: float = 5.0) -> Datagram:
        """Wait until so many have come, and give that one. Raises `TimeoutError`; not in an event loop."""
        waiting.check_number("datagram", number)
        self._waiting.wait(
            lambda: len(self._came) >= number, lambda: f"{_came(len(self._came))}, not {number},", timeout_seconds
        )
        return self._came[number - 1]

    async def await_datagram(self, number: int = 1) -> Datagram:
        """The same in asyncio or Trio; the caller's own timeout ends the wait."""
        waiting.check_number("datagram", number)
        await self._waiting.come(lambda: len(self._came) >= number)
        return self._came[number - 1]

    def heal(self) -> None:
        """From now on every datagram is answered."""
        self._run(lambda: self._set(healed=True))

    def fire(self) -> None:
        """Undo `heal`: faults set in again."""
        self._run(lambda: self._set(healed=False))

    def arm(self, fault: str | None = None, *, plan: Sequence[str] | None = None) -> None:
        """Begin anew with another fault or plan, or with none: what has come is forgotten."""
        self._begin_anew(chosen(fault, plan))

    def forget(self) -> None:
        """Begin anew with the same fault or plan."""
        self._begin_anew(self._plan)

    def rearm(self) -> None:
        """Begin anew as it was opened."""
        self._begin_anew(self._opened_as)

    def check(self) -> None:
        """Raise `HandlerCrashed` where the test's function did, and `FaultNotMet` where a fault was armed and nobody met it."""
        if self._engine and not self._closed:
            self._engine.between_turns(self._hear)  # what is in the kernel's queue came in time
        self.check_crash()
        if sentence := self._unmet():
            raise FaultNotMet(sentence)

    async def acheck(self) -> None:
        """`check`, in the loop in which the server runs."""
        self.check()

    def check_crash(self) -> None:
        """Raise `HandlerCrashed` where the test's function did."""
        if self._crash is not None:
            raise HandlerCrashed(f"{type(self._crash).__name__}: {self._crash}".partition("\n")[0]) from self._crash

    # What the engine and the fixtures call.

    def open(self, engine: Engine) -> None:
        """Serve with that engine."""
        self._engine = engine
        engine.between_turns(self._begin)

    @property
    def elsewhere(self) -> bool:
        """Was this process forked from the one in which the server runs?"""
        return self._engine is not None and self._engine.elsewhere

    def close(self) -> None:
        """End it."""
        assert self._engine
        self._engine.between_turns(self._end)

    async def aclose(self) -> None:
        """End it, in the engine's own loop."""
        self.close()

    def _run(self, work: Callable[[], None]) -> None:
        if self._engine is None or self._closed:
            raise Misuse("the server is closed: this goes inside the `with`, and for the fixtures inside the test")
        self._engine.between_turns(work)

    def _begin_anew(self, plan: UdpPlan) -> None:
        def anew() -> None:
            self._hear()
            self._plan, self._crash, self._came, self._count = plan, None, [], 0
            self._set(healed=False)

        self._run(anew)

    def _begin(self) -> None:
        assert self._engine
        self._set(healed=False)
        self._watch = self._engine.watch(self._sock.fileno(), self._hear, self._broke)

    def _set(self, *, healed: bool) -> None:
        self._healed = healed
        if self._plan.unreachable and not healed:
            self._refused_before = _unreachables()
            self._sock.connect(self._sock.getsockname())  # whoever else sends to this port finds nobody there
        else:
            sockets.dissolve(self._sock)

    def _end(self) -> None:
        if not self._closed:
            assert self._engine
            self._engine.forget(self._watch)
            self._closed = True
            self._sock.close()

    def _broke(self, error: BaseException) -> None:
        self._crash = self._crash or error

    def _hear(self) -> None:
        for _ in range(BATCH):
            try:
                data, peer = self._sock.recvfrom(LARGEST)
            except BlockingIOError:
                return
            self._meet(data, peer)

    def _meet(self, data: bytes, peer: Any) -> None:
        number = self._count + 1
        fault = None if self._healed else self._plan.of(number)
        record = Datagram(number, Address(*peer[:2]), data, fault.name if fault else OK, time.monotonic())
        try:
            answer = self._answer.answer(data)
        except Exception as error:  # it is the test's own
            self._crash = self._crash or error
            answer = None
        sending = [answer] if answer is not None else []
        match fault.kind if fault else "":
            case "silence":
                sending = []
            case "duplicate":
                sending *= 2
            case "truncate":
                sending = [self._answer.cut(one, fault.number if fault else None) for one in sending]
            case "garbage":
                length = (fault and fault.number) or len(NOISE)
                sending = [(NOISE * (length // len(NOISE) + 1))[:length]]
        record.answered = sum(map(len, sending))
        if not self._each:
            self._came.append(record)  # before it is sent: a client may look as soon as it is told
        self._count = number
        self._waiting.changed()
        with self._from(fault) as sock, contextlib.suppress(OSError):  # what UDP cannot send is lost
            for one in sending:
                sock.sendto(one, peer)
        if self._each:
            self._each(record)

    @contextlib.contextmanager
    def _from(self, fault: UdpFault | None) -> Iterator[socket.socket]:
        if fault and fault.kind == "other-port":
            with bound(self._sock.family, self.host, 0) as other:
                yield other
        else:
            yield self._sock

    def _unmet(self) -> str | None:
        if not self._must_be_met:
            return None
        where, plan = f"on UDP port {self.port}", self._plan
        if plan.unreachable:
            return None if self.turned_away else f"port-unreachable {where} was never met: no client sent anything"
        for number, fault in enumerate(plan.listed, 1):
            if fault and number > len(self._came):
                return f"{fault.name} {where} was never met: it was planned for datagram {number}, and {_came(len(self._came))}"
        if plan.every and all(one.fault == OK for one in self._came):
            return f"{plan.every.name} {where} was never met: {_came(len(self._came))}"
        return None


def _came(count: int) -> str:
    return {0: "no datagram came", 1: "1 datagram came"}.get(count, f"{count} datagrams came")


def _unreachables() -> int:
    told = counters()
    return told.get("IcmpOutDestUnreachs", 0) + told.get("Icmp6OutDestUnreachs", 0)
