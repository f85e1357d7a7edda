"""What is put on the stage for one play, and taken off after it: rules, sysctls, further hosts, taps, forged segments.

What each needs is imported when it is first asked for: most plays need none of it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Literal

import trio

from faultkit import sockets
from faultkit.acting.notes import Notes
from faultkit.errors import Exhausted, Unable
from faultkit.evidence.transcript import Call, Packet
from faultkit.stage import Stage
from faultkit.stage.recipe import TOOLS, Tool
from faultkit.stage.sysctl import Sysctls

if TYPE_CHECKING:
    from faultkit.stage.firewall import Firewall
    from faultkit.stage.forge import Forger, Forgery
    from faultkit.stage.namespace import Namespace
    from faultkit.stage.neighbour import Neighbour
    from faultkit.witness.calls import Socket
    from faultkit.witness.tap import Tap
    from faultkit.witness.wire import Capture


_POLLED = 2.0  # seconds; arbitrary: the end is looked for, not told, so on a busy machine it is seen late


class Scenery:
    """All of it is for our own namespace alone: on the host's loopback each raises `Unable`, in the name of the play."""

    def __init__(self, name: str, stage: Stage, notes: Notes, *, captured: bool) -> None:
        self.tool: Tool | None = None  # the firewall command that is used; None: black holes at the sockets
        self.neighbours: list[Neighbour] = []
        self.captures: list[Capture] = []  # of the interfaces towards them
        self._name = name
        self._stage = stage
        self._notes = notes
        self._captured = captured
        self._firewall: Firewall | None = None
        self._sysctls: Sysctls | None = None
        self._tap: Tap | None = None
        self._forger: Forger | None = None

    def _own(self, refusal: str) -> Namespace:
        """Our namespace. Raises `Unable` with that sentence where there is none."""
        if self._stage.namespace is None:
            raise Unable(f"{self._name}: {refusal}: leave --on host out")
        return self._stage.namespace

    async def choose_tool(self, wanted: Literal["auto", "iptables", "nft", "socket"]) -> None:
        """Set `tool` to the firewall command that works here, or to None for black holes at the sockets.

        "auto" takes the first that works, and the sockets where none does or there is no namespace; a tool that is asked
        for by name and does not work raises `Unable`.
        """
        self.tool = None
        if wanted == "socket" or (wanted == "auto" and self._stage.namespace is None):
            return
        if self._stage.namespace is None:
            raise Unable(
                f"{self._name}: {wanted} works inside a private namespace only, never on the host's own firewall: "
                "leave --on host out, or take --drop-with socket"
            )
        from faultkit.stage.firewall import Firewall, choose

        ipv6 = self._stage.family == socket.AF_INET6
        for tool in TOOLS if wanted == "auto" else (wanted,):
            try:
                firewall = Firewall(self._stage.namespace, choose(tool, ipv6=ipv6), ipv6=ipv6)
                await firewall.rules()
            except Exhausted:
                raise
            except Unable:
                if wanted != "auto":
                    raise
            else:
                self.tool, self._firewall = tool, firewall
                return

    async def need_tool(self, wanted: Literal["auto", "iptables", "nft"]) -> None:
        """`choose_tool` for a cause that only a firewall can play: `Unable`, with what is missing, where there is none."""
        if self._stage.namespace is None:
            why = f" ({self._stage.refused})" if self._stage.refused else ""
            raise Unable(
                f"{self._name}: firewall rules work inside a private namespace only, never on the host's own "
                f"firewall: leave --on host out{why}"
            )
        await self.choose_tool(wanted)
        if self.tool is None:
            raise Unable(f"{self._name}: neither iptables nor nft works here: apt-get install iptables nftables")

    async def apply(self, recipe: str, step: int, *, port: int, **elsewhere: str) -> None:
        """Put one step of a firewall recipe in, with the chosen tool. Lifted at the end of the play at the latest.

        On the stage's loopback, unless `elsewhere` names another `interface` and `address`.
        """
        assert self._firewall is not None, "choose_tool() comes first"
        for line in (await self._firewall.apply(recipe, step, {"port": port, **elsewhere})).splitlines():
            self._notes.step("firewall", line)

    async def cut(self, recipe: str, step: int, *, port: int, deaf: Socket, called: str = "") -> None:
        """`apply`; where no tool was chosen, that socket drops what arrives instead. `called` is what the steps call it."""
        if self.tool:
            await self.apply(recipe, step, port=port)
        else:
            sockets.black_hole(deaf)
            called = called or f"the {deaf.role}'s socket"
            self._notes.step("black hole", f"{called} drops every segment that arrives")

    async def lift(self) -> None:
        """Take every rule of this play out again."""
        if self._firewall is not None:
            for line in (await self._firewall.lift()).splitlines():
                self._notes.step("firewall", line)

    def sysctl(self, name: str, value: int | str) -> None:
        """Set net.`name`, until the end of the play."""
        own = self._own(f"net.{name} is set inside a private namespace only")
        if self._sysctls is None:
            self._sysctls = Sysctls(own)
        self._sysctls.set(name, value)
        self._notes.step("sysctl", f"net.{name} = {value}")

    def forget_connections(self) -> None:
        """Empty the table of connection tracking, of what an earlier play left or of this one's."""
        from faultkit.stage import conntrack

        conntrack.flush(self._own("connection tracking is emptied inside a private namespace only"))

    async def ip(self, line: str) -> None:
        """Run `ip LINE`, as `faultkit.stage.addresses.ip` does."""
        from faultkit.stage.addresses import ip

        await ip(self._own("addresses are set inside a private namespace only"), line)

    async def entry_runs_out(self, whose: str, measured: str, *, last: Call, seconds: float) -> None:
        """Wait until connection tracking has no entry left, due so many seconds after `last`, and note it under that name."""
        from faultkit.stage import conntrack

        own = self._own("connection tracking is looked at inside a private namespace only")
        self._notes.expect(f"the {whose}'s entry runs out", ends=seconds)
        # The kernel tells of an entry's end only when it collects it, which may be minutes later.
        while conntrack.entries(own, self._stage.family):  # noqa: ASYNC110
            await trio.sleep(0.01)
        self._notes.step(whose, "its entry has run out: conntrack -L shows none")
        gone_ns = self._notes.transcript.steps[-1].time_ns
        self._notes.measure(measured, predicted=seconds, began_ns=last.ended_ns, ended_ns=gone_ns, slack=_POLLED)

    def tap(self) -> Tap:
        """What passes between the ends from now on, for an actor that stands in between."""
        self._own("segments are overheard and forged inside a private namespace only")
        if self._tap is None:
            from faultkit.witness.tap import Tap

            self._tap = Tap()
        return self._tap

    def forge(self, forgery: Forgery, text: str) -> int:
        """Put a forged segment on the wire; `text` says in the transcript what it is.

        Gives how many segments the tap had heard before: what is heard `since` then may be its answer.
        """
        own = self._own("segments are forged inside a private namespace only")
        if self._forger is None:
            from faultkit.stage.forge import Forger

            self._forger = Forger(own, self._stage.family)
        passed = len(self.tap().listen())
        self._notes.step("forged", text)
        self._forger.send(forgery)
        return passed

    async def answer(self, forgery: Forgery, text: str, flag: str = "") -> Packet:
        """`forge`, and wait for the answer: the first segment after it that goes back, and has that flag."""
        back = (forgery.destination, forgery.source)
        passed = self.forge(forgery, text)
        return await self.tap().hear(
            lambda p: (p.source, p.destination) == back and (not flag or flag in p.flags), since=passed
        )

    def neighbour(self, name: str, *, here: str, there: str) -> Neighbour:
        """A host in a namespace of its own, joined to the stage until the end of the play; both cable ends are captured.

        `here` and `there` are the addresses of the two ends, each with its prefix length.
        """
        own = self._own("further hosts need a private namespace")
        from faultkit.stage.neighbour import Neighbour
        from faultkit.witness.wire import Capture

        neighbour = Neighbour(own, name)
        self.neighbours.append(neighbour)
        neighbour.join(here=here, there=there)
        if self._captured:
            self.captures.append(Capture(name, both_ways=True))
        self._notes.step("stage", f"{name} ({there}) is a host of its own, joined by {name} ({here})")
        return neighbour

    async def strike(self) -> None:
        """Leave the stage as it was. The hosts stay until `close`, because the sockets in them are closed before them."""
        try:
            await self.lift()
        finally:
            if self._sysctls is not None:
                self._sysctls.restore()
            for opened in (self._tap, self._forger):
                if opened is not None:
                    opened.close()

    def close(self) -> None:
        """Leave nothing."""
        for capture in self.captures:
            capture.close()
        for neighbour in self.neighbours:
            neighbour.close()
