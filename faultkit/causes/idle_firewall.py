# What OUTPUT drops never reaches the capture; what INPUT drops is captured and lost.
# Where the sender's own OUTPUT chain drops, its kernel knows that the segment never left (tcp_transmit_skb() fails), so
# it stays unsent and the persist timer tries again (tcp_probe_timer()): no retransmission is counted. Where the network
# drops, or IP_MINTTL does (--drop-with socket), the retransmission timer does (tcp_retransmit_timer()), one doubling
# later. Both count tcp_retries2. Measured on Linux 6.18 with tcp_retries2 = 3: 3.1 s and 6.9 s.
from __future__ import annotations

import contextlib
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.cause import AtLeast, Keepalive, Misuse, Play, Promise, Rst, Served, Socket, Trigger, described, option
from faultkit.evidence import timers
from faultkit.options import drop_with, duration, keepalive_count, keepalive_idle, keepalive_interval, retries2
from faultkit.stage import sysctl
from faultkit.witness.tap import Tap

EXPIRY = "client's keepalive expiry (probes)"
RETRIES = "server's tcp_retries2 expiry"
TICK = b"tick\n"
EVERY = 0.5  # seconds between the server's sends


@dataclass(frozen=True)
class IdleFirewall(Keepalive):
    keepalive_seconds: float = keepalive_idle(2.0, " of the client")
    # What libuv sets beside the idle time that Node's setKeepAlive is given: 1 s and 10 probes.
    interval_seconds: float = keepalive_interval(1.0)
    count: int = keepalive_count(10)
    kernel_defaults: bool = option(False, "leave interval and count to the kernel: 75 s x 9, the 12-minute version")
    gap_seconds: float = duration(0.1, "time between the OUTPUT rule and the INPUT rule", least=0, most=60000)
    port: int = option(0, "the server's port; 0 takes a free one", least=0, most=65535)
    drop_with: str = drop_with("what drops")
    no_heal: bool = option(False, "never open the firewall again: the server runs into tcp_retries2")
    retries2: int | None = retries2(None, ", with --no-heal; default the kernel's (15: 15 minutes)")

    def check(self) -> None:
        if self.retries2 is not None and not self.no_heal:
            raise Misuse("--retries2 decides nothing while the firewall is opened again: add --no-heal")
        if self.gap_seconds >= self.keepalive_seconds:
            raise Misuse(
                f"--gap {self.gap_seconds * 1000:g} is no shorter than --keepalive {self.keepalive_seconds * 1000:g}, so the "
                "probes would begin before the second rule: take a shorter --gap"
            )

    def probing(self) -> tuple[float, int]:
        """Interval in seconds and count, the kernel's own where they are left to it."""
        if self.kernel_defaults:
            return int(sysctl.read("ipv4.tcp_keepalive_intvl")), int(sysctl.read("ipv4.tcp_keepalive_probes"))
        return self.interval_seconds, self.count


def exhaustion(options: IdleFirewall, play: Play) -> timers.Expiry:
    """From the first lost send until tcp_retries2 is exhausted: which timer counts depends on what drops."""
    retries = options.retries2 or int(sysctl.read("ipv4.tcp_retries2"))
    if play.scenery.tool:
        return timers.exactly(timers.persist_expiry(retries))
    return timers.data_expiry(retries)


async def prepare(play: Play) -> None:
    """Set what the promise depends on: how often the server tries."""
    options: IdleFirewall = play.options
    if options.retries2 is not None:
        play.scenery.sysctl("ipv4.tcp_retries2", options.retries2)
    if options.no_heal and not play.scenery.tool and (ends := exhaustion(options, play).earliest) < options.expiry:
        raise Misuse(
            f"idle-firewall: the server would end after {ends:g} s, before the client's keepalive ({options.expiry:g} s), and "
            "without a firewall its host would then answer the probes: take a higher --retries2, a shorter --keepalive, or "
            "--drop-with iptables"
        )


class _Wall:
    """The thing in between. Step 1 cuts server to client, step 2 client to server."""

    def __init__(self, play: Play, client: Socket) -> None:
        self._play, self._ends = play, (client, play.accepted[0])

    async def drop(self, step: int) -> None:
        port = self._ends[1].address.port
        await self._play.scenery.cut("idle-firewall", step, port=port, deaf=self._ends[step - 1])

    async def reset_passed(self, tap: Tap | None) -> None:
        """Wait until the client's RST has gone its way, to the firewall's rule or the deaf socket.

        The kernel tells the client before its RST is through loopback's queue. A play that ended then would be over before
        that RST is captured, and a firewall that opened would let it in.
        """
        client, server = self._ends
        if tap is not None:
            await tap.hear(lambda packet: packet.source == client.address and "RST" in packet.flags)
            return
        await server.dropped(self._play.options.probing()[1] + 1)  # the probes and the RST

    async def heal(self) -> None:
        if self._play.scenery.tool:
            await self._play.scenery.lift()
        else:
            sockets.heal(self._ends[1])
            self._play.notes.step("black hole", "the server's socket hears again")


async def fault(connection: Socket, play: Play) -> None:
    """Send every half second until the client is gone, then wait for what the kernel says."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_regularly, connection, play)
        await connection.readable()  # the client never sends anything: this is an error
        nursery.cancel_scope.cancel()
    told = await connection.recv(65536)
    if play.options.no_heal:
        cut_ns = next(step.time_ns for step in play.transcript.steps if step.actor in ("firewall", "black hole"))
        lost = next(call for call in play.transcript.calls_of("server", "send") if call.began_ns > cut_ns)
        due = exhaustion(play.options, play)
        play.notes.measure(RETRIES, predicted=due, began_ns=lost.ended_ns, ended_ns=told.ended_ns)


async def _send_regularly(connection: Socket, play: Play) -> None:
    while not play.cues["expired"].is_set():
        await connection.send(TICK)
        with trio.move_on_after(EVERY):
            await play.cues["expired"].wait()


async def script(play: Play) -> None:
    options: IdleFirewall = play.options
    interval, count = options.probing()
    client = play.socket("client")
    set_too = {} if options.kernel_defaults else {"interval_seconds": int(interval), "count": count}
    sockets.keepalive(client, idle_seconds=int(options.keepalive_seconds), **set_too)
    await client.connect(await play.cues.serving())
    await client.recv(65536)
    wall = _Wall(play, client)
    # A tap is handed a segment before the capture is; its close() waits for those that are still to be (synchronize_net()).
    # It listens before the first rule: on a slow machine the client may have given up before the second is there.
    with contextlib.closing(Tap()) if play.scenery.tool else contextlib.nullcontext() as tap:
        await wall.drop(1)
        await trio.sleep(options.gap_seconds)
        await wall.drop(2)
        play.notes.expect("ETIMEDOUT at the client", tick="keepalive probe", ticks=options.probes, ends=options.expiry)
        told = await client.drain()  # of what was on its way before the first rule
        await wall.reset_passed(tap)
    play.notes.measure(EXPIRY, predicted=options.expiry, began_ns=_last_heard_ns(play), ended_ns=told.ended_ns)
    _note_clocks(play, client)
    if not options.no_heal:
        await wall.heal()
    play.cues["expired"].set()


def _last_heard_ns(play: Play) -> int:
    """When the server began the last send that reached the client: a program on a busy machine looks later than its kernel."""
    received = sum(len(call.data) for call in play.transcript.calls_of("client", "recv"))
    return play.transcript.calls_of("server", "send")[received // len(TICK) - 1].began_ns


def _note_clocks(play: Play, client: Socket) -> None:
    """Which clock killed the client, and which one is at work in the server, by the kernel's own numbers (TCP_INFO)."""
    probes = sockets.clock(client.raw).probes
    play.notes.step("client", f"{sockets.state(client.raw)} after {probes} keepalive probes without an answer")
    if sockets.state(play.accepted[0].raw) == "CLOSED":
        return  # the server's own clock was faster
    clock = sockets.clock(play.accepted[0].raw)
    if clock.unacknowledged:
        at_work = f"its retransmission timer is at work: {clock.retransmits} retransmissions without an answer"
    else:
        at_work = f"its persist timer is at work: {clock.probes} tries, {clock.unsent} bytes that OUTPUT never let go"
    play.notes.step("server", f"{at_work}; keepalive is silent meanwhile")


def promise(options: IdleFirewall, play: Play) -> Promise:
    walled = bool(play.scenery.tool)
    last, measured = "recv ECONNRESET", [EXPIRY]
    # What OUTPUT dropped was never captured, so the first try that gets through is new to the wire.
    ended, forgotten = ["server PSH,ACK n *", "client RST"], [Rst("client", "NO_SOCKET")]
    seconds = options.expiry * 2.2  # the next try after the expiry may be as far away again
    if options.no_heal:
        last, measured = "recv ETIMEDOUT", [EXPIRY, RETRIES]
        # Without a firewall the forgotten connection's retransmissions do reach the client's host, and the server is deaf
        # to its answers.
        ended, forgotten = ([], []) if walled else (["client RST *"], [Rst("client", "NO_SOCKET", " *")])
        seconds = max(options.expiry, exhaustion(options, play).latest)
    resets = [Rst("client", "TCP_KEEPALIVE_TIMEOUT"), *forgotten]
    return Promise(
        calls={
            "client": ("connect ok", "recv n +", "recv ETIMEDOUT"),
            "server": ("accept ok", "send n +", last),
        },
        packets=["client SYN", "server SYN,ACK", "server PSH,ACK n +", "client RST,ACK", *ended],
        resets=resets,
        counters={
            "TcpExtTCPKeepAlive": options.probing()[1],
            "TcpExtTCPAbortOnTimeout": 2 if options.no_heal else 1,
            "TcpOutRsts": AtLeast(1) if options.no_heal and not walled else len(resets),
            "TcpEstabResets": 2,
            **({} if walled else {"TcpRetransSegs": AtLeast(1)}),
        },
        measurements=measured,
        seconds=seconds,
    )


def doing(options: IdleFirewall) -> str:
    interval, count = options.probing()
    return (
        f"A firewall silently drops an established connection on which the server sends every {EVERY:g} s; the client "
        f"probes it after {options.keepalive_seconds:g} s, then {count} times {interval:g} s."
    )


CAUSE = described(
    __name__,
    family="middlebox",
    summary="packets silently dropped: ETIMEDOUT here, ECONNRESET there",
    story=(
        "Packets vanish, and nobody is told. Two clocks run, one at each end. The client is idle, so its keepalive probes "
        "decide: ETIMEDOUT after idle + interval × count (tcp(7)), and a RST that is dropped too. The server has data "
        "unacknowledged, so its retransmission or persist timer decides: about 15 minutes (tcp_retries2), keepalive or "
        "not. If the firewall opens before that, the next try meets a host that has forgotten the connection: RST, "
        "ECONNRESET. Otherwise the server, too, ends with ETIMEDOUT, and sends no RST."
    ),
    variants=(
        {"keepalive_seconds": 1.0, "count": 1},
        *({"keepalive_seconds": 1.0, "count": 1, "drop_with": what} for what in ("iptables", "nft", "socket")),
        {"keepalive_seconds": 1.0, "count": 1, "no_heal": True, "retries2": 3},
        {"keepalive_seconds": 1.0, "count": 1, "no_heal": True, "retries2": 3, "drop_with": "socket"},
        {"keepalive_seconds": 1.0, "count": 4, "no_heal": True, "retries2": 1},
    ),
    after_idle=True,
    served={"": Served(lambda conn: conn.black_hole(), when=Trigger("idle", 0.5), hangs=True)},
    lookalikes={
        "keepalive-timeout": "one dead host instead of a cut path: the server's own timers have stopped too",
        "closed-port": "connect() fails at once: somebody answers",
    },
    met=(
        "cloud NAT gateways and load balancers that forget a flow after 60 s to 350 s idle, and drop what comes later",
        "a stateful firewall after a failover or a reload without connection tracking state",
        "`read ETIMEDOUT` in Node some 12 s (setKeepAlive(true, 2000)) or 12 minutes (the kernel's defaults) after the cut",
    ),
    remedy=(
        "keepalive on both ends, with an idle time shorter than the shortest idle timeout in between",
        "TCP_USER_TIMEOUT for the end that sends: keepalive does nothing while data is unacknowledged",
        "firewalls: reject with tcp-reset instead of dropping, so that the ends learn at once",
    ),
)
