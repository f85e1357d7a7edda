"""What the witnesses saw in one run, on one clock.

Pure: no socket, no trio, no subprocess. Every time is CLOCK_REALTIME in whole nanoseconds (``..._ns``), because that is
the clock in which the kernel stamps packets; everything shown to a person is in seconds since `Transcript.began_ns`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple


class Address(NamedTuple):
    """One end of a TCP connection. IPv6 hosts are written without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Connection = frozenset[Address]  # its two ends


@dataclass(frozen=True, slots=True)
class Call:
    """One socket call of one end, as the program saw it.

    `outcome` is "ok", a number of bytes, "EOF" (recv gave no bytes), an errno name ("ECONNRESET"), or "cancelled" where
    the run ended before the call did.
    """

    role: str
    socket: int  # the role's first socket is 1, its second 2
    name: str
    argument: str
    outcome: str
    began_ns: int
    ended_ns: int
    data: bytes = b""  # what recv gave

    @property
    def told(self) -> str:
        """What the program was told, in the words of a promise: "recv ECONNRESET", "send 5", "connect ok"."""
        return f"{self.name} {self.outcome}"

    @property
    def shown_ns(self) -> int:
        """When a ladder shows it: a call that causes packets when it began, a call that waits for them when it ended."""
        return self.ended_ns if self.name in ("connect", "accept", "recv", "getsockopt") else self.began_ns


@dataclass(frozen=True, slots=True)
class Packet:
    """One TCP segment as the capture saw it (RFC 9293 section 3.1). `seq` and `ack` are the raw 32-bit numbers."""

    time_ns: int
    source: Address
    destination: Address
    flags: tuple[str, ...]  # in Wireshark's order: FIN SYN RST PSH ACK URG ECE CWR
    seq: int
    ack: int
    window: int  # as sent, not scaled
    payload: int  # bytes of data
    options: tuple[
        tuple[str, int | tuple[int, ...] | None], ...
    ]  # ("MSS", 65495), ("TS", (value, echo)), ("SACK_PERM", None)
    ttl: int  # IPv6: hop limit
    ip_id: int  # IPv6: 0
    frame: bytes  # the whole Ethernet frame

    @property
    def timestamps(self) -> tuple[int, ...]:
        """Its timestamp and echo (RFC 7323 section 3); empty without them."""
        return next((value for name, value in self.options if name == "TS" and isinstance(value, tuple)), ())


class Frame(NamedTuple):
    """One Ethernet frame, or its beginning."""

    time_ns: int
    frame: bytes
    size: int  # bytes that it had


@dataclass(frozen=True, slots=True)
class Reset:
    """One reset by the kernel's own account: a tcp:tcp_send_reset or tcp:tcp_receive_reset event."""

    time_ns: int
    direction: Literal["sent", "received"]
    source: Address  # who sent the RST
    destination: Address
    state: str  # TCP state of the sending socket; "" where there was none or the event has no such field
    reason: str  # sk_rst_reason without prefix ("TCP_STATE"); "" for a received one


@dataclass(frozen=True, slots=True)
class Count:
    """What the counters of one network namespace had moved by when they were read.

    Every RST that was captured until `passed_ns` is in it; so may be one that is captured until `ended_ns`.
    """

    place: str  # the namespace: "" is the stage's own, else a neighbour's name
    passed_ns: int  # when the last RST before the reading was captured
    ended_ns: int  # when the reading was over
    moved: dict[str, int]  # nstat's names, since the run began
    listeners: frozenset[Address] | None = None  # who listened there then; None where that could not be looked up


@dataclass(frozen=True, slots=True)
class Listed:
    """One end of a connection in the kernel's list (proc_net_tcp.txt), as a look at it found it."""

    time_ns: int
    local: Address
    remote: Address
    state: str  # by its name in RFC 9293, "" where two looks found none: the list is no snapshot
    bucket: bool  # what tcp_time_wait() puts in a socket's place, for FIN-WAIT-2 as for TIME-WAIT
    orphan: bool  # no program holds it, as no program holds a bucket


@dataclass(frozen=True, slots=True)
class Step:
    """Something done to the stage while the play ran: a firewall rule, a black hole, a sysctl."""

    time_ns: int
    actor: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line that a real program printed, or wrote to its log, as it stands there; the time is that of its arrival."""

    time_ns: int
    program: str
    text: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to a real program and what came of it: a status ("502"), or what the call that failed was told."""

    client: str
    request: str  # "POST /race"
    outcome: str
    began_ns: int
    ended_ns: int
    note: str = ""  # what the recipe has to say of it
    body: bytes = b""

    @property
    def told(self) -> str:
        """In the words of a promise: "POST /race 502"."""
        return f"{self.request} {self.outcome}"


SLACK = 0.3  # seconds; arbitrary: what every measurement is allowed for the machine


@dataclass(frozen=True, slots=True)
class Measurement:
    """A duration that the kernel's clocks decide: predicted before, measured after.

    The kernel's timer wheel fires late by up to an eighth of each timer, never early (kernel/time/timer.c), so a
    measurement agrees between `predicted` and `predicted` * 9/8 + `slack`, all in seconds. `slack` is for the machine.
    `withheld` is the time for which a busy one let this program wait for a processor meanwhile: it may have noted by that
    much too late when the measured time began, and when it ended.
    """

    name: str
    predicted: float
    measured: float
    slack: float = SLACK
    withheld: float = 0.0

    @property
    def latest(self) -> float:
        """The latest that still agrees, in seconds."""
        return self.predicted * 1.125 + self.slack + self.withheld

    @property
    def agrees(self) -> bool:
        """5 ms early is allowed for: the kernel counts from the packet, the program from the return of its call."""
        return self.predicted - 0.005 - self.withheld <= self.measured <= self.latest


@dataclass(frozen=True, slots=True)
class Tally:
    """One attempt of a search: what was tried ("501 ms") and how it ended ("recv ECONNRESET")."""

    label: str
    outcome: str


_AFTERWARDS_NS = 20_000_000  # arbitrary: a program logs what it was told within some microseconds


@dataclass(slots=True)
class Transcript:
    """All witnesses' events of one run.

    What follows from the wire and from the kernel is read off `packets`, `resets` and `counters`. Each is all that its
    witness had to see, or None: where one lost a part, what it did see proves little, for what it lost may say the
    opposite. `captured`, `traced` and `counted` are what there is of it, to be shown.
    """

    began_ns: int
    ended_ns: int = 0
    calls: list[Call] = field(default_factory=list)
    captured: list[Packet] = field(default_factory=list)
    complaints: list[Frame] = field(default_factory=list)  # ICMP errors about its segments
    traced: list[Reset] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)  # nstat's names, only those that moved
    counts: list[Count] = field(default_factory=list)  # in order: at first, each time a RST had passed, at the end
    places: dict[str, str] = field(
        default_factory=dict
    )  # host -> the namespace that it is in, where not the stage's own
    listed: list[Listed] = field(default_factory=list)
    deaths: dict[tuple[str, int], tuple[int, int]] = field(
        default_factory=dict
    )  # of processes: which socket was closed when
    steps: list[Step] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    connections: dict[tuple[str, int], Connection] = field(default_factory=dict)  # of each role's sockets that have one
    roles: dict[Address, str] = field(default_factory=dict)  # whose address it is
    absent: dict[str, str] = field(default_factory=dict)  # witness -> why it saw nothing, or not all
    strangers: int = 0  # RSTs that were captured and are of no end of this run
    alone: bool = True  # the counters are this run's alone (a private namespace)
    overdue: bool = False  # ended by the run's own time limit

    @property
    def packets(self) -> list[Packet] | None:
        """Every packet of the run, in order; None where the wire was not seen, or not wholly."""
        return None if "wire" in self.absent else self.captured

    @property
    def resets(self) -> list[Reset] | None:
        """Every reset by the kernel's account, in order of time; None where it was not seen, or not wholly."""
        return None if "reasons" in self.absent else self.traced

    @property
    def counters(self) -> dict[str, int] | None:
        """The counters that this run moved, and by how much; None where others move them too."""
        return self.counted if self.alone else None

    def calls_of(self, role: str, name: str) -> list[Call]:
        """That role's calls of that name, in order."""
        return [call for call in self.calls if (call.role, call.name) == (role, name)]

    def role(self, address: Address) -> str:
        """Whose end that address is; an address that no end of this run ever had is "unknown"."""
        return self.roles.get(address, "unknown")

    def seconds(self, time_ns: int) -> float:
        """A time of this transcript as seconds since it began."""
        return (time_ns - self.began_ns) / 1e9

    @property
    def duration(self) -> float:
        """Seconds from the first event to the end of the run."""
        return self.seconds(self.ended_ns)

    def only(self, connection: Connection) -> Transcript:
        """What concerns one connection: its packets, its sockets' calls, and what was done and printed meanwhile."""
        packets = [packet for packet in self.captured if {packet.source, packet.destination} == connection]
        began, ended = packets[0].time_ns, packets[-1].time_ns
        own = {key for key, ends in self.connections.items() if ends == connection}
        return replace(
            self,
            calls=[call for call in self.calls if (call.role, call.socket) in own],
            captured=packets,
            steps=[step for step in self.steps if began <= step.time_ns <= ended],
            lines=[line for line in self.lines if began <= line.time_ns <= ended + _AFTERWARDS_NS],
        )
