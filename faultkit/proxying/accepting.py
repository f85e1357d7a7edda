"""What comes of each connection that a proxy accepts: its faults and toxics, its service, its end."""

from __future__ import annotations

import errno
import functools
import socket
import time
from collections.abc import Callable
from typing import Literal

from faultkit.errors import Unable, exhausted
from faultkit.evidence.transcript import Address
from faultkit.proxying import resolving
from faultkit.proxying.counted import Counted
from faultkit.proxying.down import Down
from faultkit.proxying.listening import Listening
from faultkit.proxying.pair import Pair
from faultkit.proxying.pipes import Pipes
from faultkit.proxying.resolving import Found
from faultkit.proxying.seen import HEALTHY, Seen, add
from faultkit.proxying.seen import Bytes as Bytes
from faultkit.proxying.seen import Event as Event
from faultkit.proxying.upon import NoToxic as NoToxic
from faultkit.proxying.upon import Taken as Taken
from faultkit.serving.faults import Fault
from faultkit.serving.which import Opening

Towards = Literal["client", "upstream", "both"]


class Accepting(Seen):
    """As much of a proxy as meets connections."""

    pipes: Pipes
    tell: Callable[[Event], None] | None
    each: Callable[[Pair], None] | None
    _towards: Towards
    _healed: bool
    _down: Down
    _beyond: bool
    _literal: Found | None
    _allowed: Found | None  # the same where it may be connected to: asked once, not for each connection
    _lookup: resolving.Lookup

    # Connections.

    def _begin(self, sock: socket.socket, peer: Address) -> None:
        pair = self._record(sock, peer)
        self._live[pair.number] = pair
        if self.tell:
            self.say("accepted", pair, f"from {peer}")
        if self._which and not self._healed:
            pair.ask(functools.partial(self._choose, pair))
        elif self._plan is not HEALTHY and not self._healed and (fault := self._planned(pair.number)):
            self._arm(pair, fault)
        if len(self._upon):
            self._upon.put_on_all(pair)
        if pair.over or pair.orphaned:
            return
        if self._allowed:
            pair.connect(self._allowed)
        elif self._literal:
            self._found(pair, self._literal)
        else:
            pair.client.watch_end()
            self._lookup.ask(self._upstream, functools.partial(self._found, pair))

    def _record(self, sock: socket.socket | None, peer: Address | None) -> Pair:
        pair = Pair(self, self._count + 1, sock, peer)
        if self._keep:
            self._connections.append(pair)
        self._count += 1  # only now: another thread looks at it, and then for the record
        self.waiting.changed()
        return pair

    def _choose(self, pair: Pair, opening: Opening) -> None:
        """Is that connection meant? Then it gets the next fault."""
        assert self._which
        if self._which(opening):
            self._meant.append(pair)
            if fault := self._planned(len(self._meant)):
                self._arm(pair, fault)

    def _planned(self, number: int) -> Fault | None:
        fault = self._plan.of(number)
        return None if fault and fault.served.door else fault

    def _arm(self, pair: Pair, fault: Fault) -> None:
        for side in (pair.client, pair.upstream):
            if self._towards in ("both", pair.which(side)) and not pair.over:
                pair.arm(side, fault)

    def _turned_away(self, count: int, fault: Fault) -> None:
        for _ in range(count):
            pair = self._record(None, None)
            pair.fault = fault.title
            pair.meet(fault.name)
            pair.end("never accepted")
            pair.over = True
            pair.done()

    def _found(self, pair: Pair, found: Found | OSError) -> None:
        if pair.over:
            return
        if isinstance(found, list) and not self._may(found):
            found = OSError(errno.EACCES, f"{self.upstream} is outside the own network")
        if isinstance(found, OSError):
            self.upstream_down(pair, found)
        else:
            pair.connect(found)

    def _may(self, found: Found) -> bool:
        """May it be connected to?"""
        return self._beyond or resolving.is_near(found)

    def connected(self, pair: Pair) -> None:
        """The service has taken a connection."""
        self.say("connected", pair, f"to {self.upstream}")

    def upstream_down(self, pair: Pair, error: OSError) -> None:
        """The service has not."""
        word = errno.errorcode.get(error.errno or 0) or str(error)
        if self.tell:
            self.say("upstream down", pair, word)
        self._down.told(pair, f"upstream: {word}")

    def found_service(self, tell: Callable[[Found | OSError], None]) -> None:
        """Look the service up."""
        if self._literal:
            tell(self._literal)
        else:
            self._lookup.ask(self._upstream, tell)

    @property
    def door(self) -> Listening:
        """Where it listens."""
        return self._door

    def over(self, pair: Pair) -> None:
        """A connection is."""
        self._live.pop(pair.number, None)
        add(self._passed, pair)
        self._door.watch_again()
        self.waiting.changed()
        if self.each:
            self.each(pair)
        if self.tell:
            self.say("ended", pair, pair.ended or "")

    def met(self, pair: Counted, fault: str) -> None:
        """A fault has set in."""
        if self.tell:
            self.say("fault", pair, fault)

    def broke(self, pair: Pair, error: BaseException) -> None:
        """Something of ours is broken."""
        self._trouble(pair.number, error)

    def lacking(self, error: Exception) -> None:
        """No descriptors, no memory."""
        self._trouble(self._count + 1, error)

    def _trouble(self, number: int, error: BaseException) -> None:
        lacking = error if isinstance(error, Unable) else exhausted(error)
        if self.trouble is None:
            self.trouble = (number, error, lacking)
            self.say("trouble", None, str(lacking or f"{type(error).__name__}: {error}"))

    def say(self, kind: str, pair: Counted | None, text: str) -> None:
        """Tell who listens."""
        if self.tell:
            self.tell(Event(time.time(), self.name, kind, pair.number if pair else None, text))
