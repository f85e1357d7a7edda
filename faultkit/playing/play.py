"""One performance of a cause: what its two halves have in hand, and what they leave for the witnesses."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import trio

from faultkit import sockets
from faultkit.errors import Misuse, Unable
from faultkit.evidence.transcript import Address, Listed, Measurement, Step, Tally, Transcript
from faultkit.stage import Stage
from faultkit.stage.recipe import TOOLS, Tool
from faultkit.stage.sysctl import Sysctls
from faultkit.witness.calls import Calls, Socket
from faultkit.witness.kernel import LOOK_AGAIN, tcp_listed

if TYPE_CHECKING:
    from faultkit.cause import Cause
    from faultkit.playing.program import Programs
    from faultkit.stage.firewall import Firewall
    from faultkit.stage.forge import Forger, Forgery
    from faultkit.stage.neighbour import Neighbour
    from faultkit.witness.tap import Tap
    from faultkit.witness.wire import Capture


@dataclass(frozen=True, slots=True)
class Countdown:
    """What a run waits for, so that a person who waits can see it: ticks in seconds after `began` (trio's clock)."""

    tick: str  # "probe"
    end: str  # "ETIMEDOUT"
    began: float
    ticks: tuple[float, ...]
    ends: float


def withheld() -> float:
    """Seconds for which this thread could have run so far and had no processor (sched-stats.rst); 0 where nobody counts them."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Play:
    """Passed to a cause's `script` and `fault`. Each play has its own transcript; the stage outlives it."""

    def __init__(self, cause: Cause, options: Any, stage: Stage, transcript: Transcript) -> None:
        self.cause = cause
        self.options = options
        self.stage = stage
        self.transcript = transcript
        self.calls = Calls(transcript)
        self.accepted: list[Socket] = []  # the server's connections, for a script that reaches for the other end
        self.countdown: Countdown | None = None
        self.tool: Tool | None = None
        self.kept: set[str] = set()  # the roles at whose other end a closed socket was kept: see `fin_acknowledged`
        self.neighbours: list[Neighbour] = []
        self.taps: list[Capture] = []
        self.leaving = contextlib.ExitStack()  # what else is to be closed at the end, last opened first
        self.beside: trio.Nursery  # for what goes on beside both halves, from their beginning to their end
        self.programs: Programs  # of a stack, from its preparation on
        self._cues: dict[str, trio.Event] = {}
        self._serving: Address | None = None
        self._firewall: Firewall | None = None
        self._sysctls: Sysctls | None = None
        self._tap: Tap | None = None
        self._withheld = withheld()
        self._forger: Forger | None = None

    def socket(self, role: str, *, protocol: int = 0) -> Socket:
        """A new recorded TCP (or IPPROTO_MPTCP) socket, not yet bound or connected."""
        return self.calls.open_socket(role, self.stage.family, protocol)

    def hold(self, port: int = 0) -> Socket:
        """A server's socket bound to `port` (0: a free one) on the stage's loopback, not listening."""
        sock = self.socket("server")
        self._bind(sock, port)
        self.announce(sock.address)
        return sock

    def listen(self, port: int = 0, backlog: int = 128, *, role: str = "server", protocol: int = 0) -> Socket:
        """A socket listening on `port` (0: a free one) on the stage's loopback, for clients to connect to."""
        sock = self.socket(role, protocol=protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bind(sock, port)
        sock.listen(backlog)
        self.announce(sock.address)
        return sock

    def _bind(self, sock: Socket, port: int) -> None:
        try:
            sock.bind(Address(self.stage.host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Misuse(
                    f"{self.cause.name}: port {port} is in use on {self.stage.host}: take another --port"
                ) from error
            raise Unable(
                f"{self.cause.name}: port {port} on {self.stage.host} is refused ({error.strerror}): "
                "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE, so take a higher --port"
            ) from error

    def announce(self, address: Address) -> None:
        """The server is there: end the wait of `serving`."""
        self._serving = address
        self.cue("serving").set()

    async def serving(self) -> Address:
        """Wait until the server has its port. Gives its address."""
        await self.cue("serving").wait()
        assert self._serving is not None
        return self._serving

    def cue(self, name: str) -> trio.Event:
        """The event of that name, by which one half tells the other where it is. Nothing here waits for time to pass."""
        return self._cues.setdefault(name, trio.Event())

    async def delivered(self, sock: Socket) -> None:
        """Wait until the other end's kernel has acknowledged everything that was sent."""
        # A program has no event for an acknowledgement.
        while sockets.clock(sock.raw).unacknowledged:  # noqa: ASYNC110
            await trio.sleep(0.002)

    async def fin_acknowledged(self, closer: Address, other: Address) -> None:
        """Wait until `closer`'s kernel has its FIN acknowledged by `other`'s, and note in `kept` what that left of it.

        The acknowledgement is delayed (tcp_fin() enters pingpong mode): by 40 ms, or until the next tick where `other` has
        received no data yet. Data that overtakes it meets another state, so another reset reason.

        A closed socket whose FIN is acknowledged turns into a bucket, which answers data with TCP_TIMEWAIT_SOCKET. But an
        acknowledgement that comes while close() still owns the socket, in the microsecond between the two times that it
        looks at its backlog (__tcp_close(), release_sock()), leaves it a socket (tcp_rcv_state_process(), "bad case"): then
        the answer is TCP_ABORT_ON_DATA. A tick at that moment is enough, and no program can keep it away.
        """
        # No end has an event for it: the closer's program has let go, the other's is not told what its kernel sends.
        # A bucket stays one. What is a socket may be about to become one; and the list is no snapshot, so what it does not
        # name may be there all the same: both are looked at twice.
        looks = 0
        while looks < 2 and not (left := self.listed(closer, other)).bucket:
            looks = looks + 1 if left.state in ("", "FIN-WAIT-2") else 0
            await trio.sleep(LOOK_AGAIN)
        if left.state and left.orphan and not left.bucket:
            self.kept.add(self.transcript.role(other))
            self.step(self.transcript.role(closer), "its kernel keeps the socket, in FIN-WAIT-2, not just a bucket")

    def listed(self, local: Address, remote: Address) -> Listed:
        """Look that end of a connection up in the kernel's list, and write down what is new of it."""
        found = tcp_listed(local, remote)
        last = next(
            (one for one in reversed(self.transcript.listed) if one.local == local and one.remote == remote), None
        )
        if last is None or replace(last, time_ns=found.time_ns) != found:
            self.transcript.listed.append(found)
        return found

    async def choose_tool(self, wanted: Literal["auto", "iptables", "nft", "socket"]) -> None:
        """Set `tool` to the firewall command that works here, or to None for black holes at the sockets.

        "auto" takes the first that works, and the sockets where none does or there is no namespace; a tool that is asked
        for by name and does not work raises `Unable`.
        """
        self.tool = None
        if wanted == "socket" or (wanted == "auto" and self.stage.namespace is None):
            return
        if self.stage.namespace is None:
            raise Unable(
                f"{self.cause.name}: {wanted} works inside a private namespace only, never on the host's own firewall: "
                "leave --on host out, or take --drop-with socket"
            )
        from faultkit.stage.firewall import Firewall, choose

        ipv6 = self.stage.family == socket.AF_INET6
        for tool in TOOLS if wanted == "auto" else (wanted,):
            try:
                firewall = Firewall(self.stage.namespace, choose(tool, ipv6=ipv6), ipv6=ipv6)
                await firewall.rules()
            except Unable:
                if wanted != "auto":
                    raise
            else:
                self.tool, self._firewall = tool, firewall
                return

    async def need_tool(self, wanted: Literal["auto", "iptables", "nft"]) -> None:
        """`choose_tool` for a cause that only a firewall can play: `Unable`, with what is missing, where there is none."""
        if self.stage.namespace is None:
            why = f" ({self.stage.refused})" if self.stage.refused else ""
            raise Unable(
                f"{self.cause.name}: firewall rules work inside a private namespace only, never on the host's own "
                f"firewall: leave --on host out{why}"
            )
        await self.choose_tool(wanted)
        if self.tool is None:
            raise Unable(f"{self.cause.name}: neither iptables nor nft works here: apt-get install iptables nftables")

    async def apply(self, recipe: str, step: int, *, port: int, **elsewhere: str) -> None:
        """Put one step of a firewall recipe in, with the chosen tool. Lifted at the end of the play at the latest.

        On the stage's loopback, unless `elsewhere` names another `interface` and `address`.
        """
        assert self._firewall is not None, "choose_tool() comes first"
        for line in (await self._firewall.apply(recipe, step, {"port": port, **elsewhere})).splitlines():
            self.step("firewall", line)

    async def lift(self) -> None:
        """Take every rule of this play out again."""
        if self._firewall is not None:
            for line in (await self._firewall.lift()).splitlines():
                self.step("firewall", line)

    def sysctl(self, name: str, value: int | str) -> None:
        """Set net.`name` in our own namespace, until the end of the play."""
        if self.stage.namespace is None:
            raise Unable(f"{self.cause.name}: net.{name} is set inside a private namespace only: leave --on host out")
        if self._sysctls is None:
            self._sysctls = Sysctls(self.stage.namespace)
        self._sysctls.set(name, value)
        self.step("sysctl", f"net.{name} = {value}")

    def tap(self) -> Tap:
        """What passes between the ends from now on, for an actor that stands in between. In our own namespace only."""
        if self.stage.namespace is None:
            raise Unable(
                f"{self.cause.name}: segments are overheard and forged inside a private namespace only: leave --on host out"
            )
        if self._tap is None:
            from faultkit.witness.tap import Tap

            self._tap = Tap()
        return self._tap

    def forge(self, forgery: Forgery, text: str) -> None:
        """Put a forged segment on the wire of our own namespace; `text` says in the transcript what it is."""
        if self.stage.namespace is None:
            raise Unable(f"{self.cause.name}: segments are forged inside a private namespace only: leave --on host out")
        if self._forger is None:
            from faultkit.stage.forge import Forger

            self._forger = Forger(self.stage.namespace, self.stage.family)
        self.step("forged", text)
        self._forger.send(forgery)

    def neighbour(self, name: str, *, here: str, there: str) -> Neighbour:
        """A host in a namespace of its own, joined to the stage until the end of the play; both cable ends are captured.

        `here` and `there` are the addresses of the two ends, each with its prefix length.
        """
        if self.stage.namespace is None:
            raise Unable(f"{self.cause.name}: further hosts need a private namespace: leave --on host out")
        from faultkit.stage.neighbour import Neighbour
        from faultkit.witness.wire import Capture

        neighbour = Neighbour(self.stage.namespace, name)
        self.neighbours.append(neighbour)
        neighbour.join(here=here, there=there)
        if "wire" not in self.transcript.absent:
            self.taps.append(Capture(name, both_ways=True))
        self.step("stage", f"{name} ({there}) is a host of its own, joined by {name} ({here})")
        return neighbour

    async def strike(self) -> None:
        """Leave the stage as it was: rules out, sysctls back, sockets closed."""
        try:
            await self.lift()
        finally:
            if self._sysctls is not None:
                self._sysctls.restore()
            for opened in (self._tap, self._forger):
                if opened is not None:
                    opened.close()
            self.calls.discard()
            for tap in self.taps:
                tap.close()
            for neighbour in self.neighbours:
                neighbour.close()
            self.leaving.close()

    def step(self, actor: str, text: str) -> None:
        """Write down what was done to the stage."""
        self.calls.look()
        self.transcript.steps.append(Step(time.time_ns(), actor, text))

    def measure(self, name: str, *, predicted: float, measured: float, slack: float = 0.0) -> None:
        """Write down a predicted and a measured duration, in seconds; `slack` is beside that for the machine."""
        measurement = Measurement(name, predicted, measured, withheld=withheld() - self._withheld)
        self.transcript.measurements.append(replace(measurement, slack=measurement.slack + slack))

    def tally(self, label: str, outcome: str) -> None:
        """Write down one attempt of a search."""
        self.transcript.tallies.append(Tally(label, outcome))

    def expect(self, *, tick: str, end: str, ticks: tuple[float, ...], ends: float) -> None:
        """Say what the run now waits for: `ticks` and `ends` in seconds from now."""
        self.countdown = Countdown(tick, end, trio.current_time(), ticks, ends)


def rehearsal(cause: Cause, options: Any) -> Play:
    """A play that is never performed, to ask a promise with: over IPv4, and as if iptables were there. Opens nothing."""
    play = Play(cause, options, Stage(None, socket.AF_INET), Transcript(time.time_ns()))
    play.tool = "iptables"
    return play
