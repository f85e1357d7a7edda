"""One performance of a cause: what its two halves have in hand, and what they leave for the witnesses."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio

from faultkit.acting.cues import Cues
from faultkit.acting.notes import Notes
from faultkit.acting.scenery import Scenery
from faultkit.errors import Misuse, Unable
from faultkit.evidence.transcript import Address, Listed, Transcript
from faultkit.stage import Stage
from faultkit.witness.calls import Calls, Socket
from faultkit.witness.kernel import LOOK_AGAIN, tcp_listed

if TYPE_CHECKING:
    from faultkit.acting.program import Programs


class Play:
    """Passed to a cause's `script` and `fault`, by the cause's name. Each play has its own transcript; the stage outlives it."""

    def __init__(self, name: str, options: Any, stage: Stage, transcript: Transcript) -> None:
        self.name = name
        self.options = options
        self.stage = stage
        self.transcript = transcript
        self.cues = Cues()
        self.calls = Calls(transcript)
        self.notes = Notes(transcript, self.calls)
        self.scenery = Scenery(name, stage, self.notes, captured="wire" not in transcript.absent)
        self.accepted: list[Socket] = []  # the server's connections, for a script that reaches for the other end
        self.kept: set[str] = set()  # the roles at whose other end a closed socket was kept: see `fin_acknowledged`
        self.leaving = contextlib.ExitStack()  # what else is to be closed at the end, last opened first
        self.limit = trio.CancelScope()  # what would wait for ever is ended by it; a run sets its own
        self.beside: trio.Nursery  # for what goes on beside both halves, from their beginning to their end
        self.programs: Programs  # of a stack, from its preparation on

    def socket(self, role: str, *, protocol: int = 0) -> Socket:
        """A new recorded TCP (or IPPROTO_MPTCP) socket, not yet bound or connected."""
        return self.calls.open_socket(role, self.stage.family, protocol)

    def hold(self, port: int = 0) -> Socket:
        """A server's socket bound to `port` (0: a free one) on the stage's loopback, not listening."""
        sock = self.socket("server")
        self._bind(sock, port)
        self.cues.announce(sock.address)
        return sock

    def listen(self, port: int = 0, backlog: int = 128, *, role: str = "server", protocol: int = 0) -> Socket:
        """A socket listening on `port` (0: a free one) on the stage's loopback, for clients to connect to."""
        sock = self.socket(role, protocol=protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bind(sock, port)
        sock.listen(backlog)
        self.cues.announce(sock.address)
        return sock

    async def accept(self, listener: Socket) -> Socket:
        """The next connection; it is in `accepted` too, for a script that reaches for the server's end."""
        connection = await listener.accept()
        assert connection is not None, "the other half connects, and nothing ends this listener's accept() before"
        self.accepted.append(connection)
        return connection

    async def connect(self, role: str = "client") -> Socket:
        """A socket connected to the server, as soon as that is there."""
        sock = self.socket(role)
        await sock.connect(await self.cues.serving())
        return sock

    def two_of_one_port(self, role: str) -> tuple[Socket, Socket]:
        """Two sockets bound to the same port from the beginning, so that nobody else gets it between their connections."""
        first, second = self.socket(role), self.socket(role)
        ours = Address(self.stage.host, 0)
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(ours)
            ours = sock.address
        return first, second

    def _bind(self, sock: Socket, port: int) -> None:
        try:
            sock.bind(Address(self.stage.host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Misuse(f"{self.name}: port {port} is in use on {self.stage.host}: take another --port") from error
            raise Unable(
                f"{self.name}: port {port} on {self.stage.host} is refused ({error.strerror}): "
                "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE, so take a higher --port"
            ) from error

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
            self.notes.step(
                self.transcript.role(closer), "its kernel keeps the socket, in FIN-WAIT-2, not just a bucket"
            )

    def refusal(self, role: str = "client") -> tuple[str, dict[str, int]]:
        """The reason of the RST with which what `fin_acknowledged` found answers that role's data, and the counters that this
        moves besides."""
        return ("TCP_ABORT_ON_DATA", {"TcpExtTCPAbortOnData": 1}) if role in self.kept else ("TCP_TIMEWAIT_SOCKET", {})

    def listed(self, local: Address, remote: Address) -> Listed:
        """Look that end of a connection up in the kernel's list, and write down what is new of it."""
        found = tcp_listed(local, remote)
        last = next(
            (one for one in reversed(self.transcript.listed) if one.local == local and one.remote == remote), None
        )
        if last is None or replace(last, time_ns=found.time_ns) != found:
            self.transcript.listed.append(found)
        return found

    async def strike(self) -> None:
        """Leave the stage as it was: rules out, sysctls back, sockets closed."""
        try:
            await self.scenery.strike()
        finally:
            self.calls.discard()
            self.scenery.close()
            self.leaving.close()


def rehearsal(name: str, options: Any) -> Play:
    """A play that is never performed, to ask a promise with: over IPv4, and as if iptables were there. Opens nothing."""
    play = Play(name, options, Stage(None, socket.AF_INET), Transcript(time.time_ns()))
    play.scenery.tool = "iptables"
    return play
