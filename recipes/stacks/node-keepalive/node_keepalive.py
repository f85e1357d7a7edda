# setKeepAlive(true, 2000) sets TCP_KEEPIDLE to 2 s, and libuv, beside it, TCP_KEEPINTVL to 1 s and TCP_KEEPCNT to 10: a
# connection that nobody answers on ends 12 s after the last segment. Without a delay, setKeepAlive(true), and once it is
# connected, Node 20 leaves all three to the kernel: 7200 s, 75 s and 9. (Before that libuv puts in a minute of its own, and
# its 10 probes: 70 s.) --full has the 7200 shortened to the same 2 s, by a sysctl of the namespace: 2 + 9 * 75 s are the 11
# minutes and 17 seconds that older Node needed, which set the idle time alone.
# The firewall is the kernel's connection tracking. A segment of a connection that it has forgotten is dropped without a word;
# RST is let through (recipes/stateful-firewall.md), so the server hears of the end.
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from faultkit.acting.program import Part
from faultkit.cause import option
from faultkit.causes.firewall_reset import STEPS
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack
from faultkit.stage import conntrack, sysctl

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.witness.calls import Socket

NODE = Part("node", "nodejs")
# As in client.js.
SERVER, KEEPALIVE = Address("127.0.0.1", 8090), "socket.setKeepAlive(true, 2000);"
KERNELS_OWN = 'socket.once("connect", () => socket.setKeepAlive(true));'
IDLE, INTERVAL, COUNT = 2, 1, 10  # seconds, seconds, probes
SILENCE = 5  # seconds; longer than either firewall waits
EXPIRY = "Node's keepalive expiry"


@dataclass(frozen=True)
class NodeKeepalive(StackOptions):
    full: bool = option(False, "with the kernel's interval and count, which takes more than 11 minutes")

    def probing(self) -> tuple[int, int]:
        """Interval in seconds, and count."""
        return _kernels_own() if self.full else (INTERVAL, COUNT)

    @property
    def expiry(self) -> int:
        """Seconds after the client has last heard."""
        interval, count = self.probing()
        return IDLE + interval * count


def _kernels_own() -> tuple[int, int]:
    return int(sysctl.read("ipv4.tcp_keepalive_intvl")), int(sysctl.read("ipv4.tcp_keepalive_probes"))


async def script(play: Play) -> None:
    options: NodeKeepalive = play.options
    await _raise_firewall(play)
    if options.full:
        play.scenery.sysctl("ipv4.tcp_keepalive_time", IDLE)
        client = play.programs.directory / "client.js"
        client.write_text(client.read_text().replace(KEEPALIVE, KERNELS_OWN))
    play.programs.callers({SERVER: "client"})
    listener = play.listen(SERVER.port)
    node = await play.programs.start("client", NODE, "client.js")
    connection = await play.accept(listener)
    heard_ns = await _say(connection, b"hello\n")
    if options.fixed:
        play.notes.expect("the silence", ends=SILENCE)
        await trio.sleep(SILENCE)
        await _say(connection, b"still there?\n")
        connection.close()
    else:
        interval, count = options.probing()
        probes = tuple(float(IDLE + interval * n) for n in range(count))
        play.notes.expect("ETIMEDOUT", tick="keepalive probe", ticks=probes, ends=options.expiry)
        line = await node.said("ETIMEDOUT")
        play.notes.measure(EXPIRY, predicted=options.expiry, began_ns=heard_ns, ended_ns=line.time_ns)
        await connection.recv(65536)
    await node.ended()


async def _raise_firewall(play: Play) -> None:
    assert play.stage.namespace is not None
    await play.scenery.need_tool("auto")
    await play.scenery.apply("stateful-firewall", STEPS.index("drop") + 1, port=SERVER.port)
    conntrack.flush(play.stage.namespace)  # of what an earlier play left
    play.scenery.sysctl("netfilter.nf_conntrack_tcp_loose", 0)
    for line in (play.programs.directory / "firewall.sysctl").read_text().splitlines():
        name, is_one, value = line.partition(" = ")
        if is_one and not line.startswith("#"):
            play.scenery.sysctl(name.removeprefix("net."), int(value))


async def _say(connection: Socket, words: bytes) -> int:
    """Say it, and have it back. Gives when."""
    await connection.send(words)
    return (await connection.recv(65536)).ended_ns


def promise(options: NodeKeepalive, play: Play) -> Promise:
    said = ("accept ok", "send 6", "recv 6")
    if options.fixed:
        return Promise(
            calls={"server": (*said, "send 13", "recv 13", "close ok")},
            packets=None,
            lines={"client": ["the server says hello", "the server says still there?"]},
            seconds=1.0 + SILENCE,
        )
    return Promise(
        calls={"server": (*said, "recv ECONNRESET")},
        packets=None,
        resets=[Rst("client", "TCP_KEEPALIVE_TIMEOUT")],
        counters={
            "TcpOutRsts": 1,
            "TcpEstabResets": 2,
            "TcpExtTCPKeepAlive": options.probing()[1],
            "TcpExtTCPAbortOnTimeout": 1,
        },
        measurements=[EXPIRY],
        lines={
            "client": ["the server says hello", "Error: read ETIMEDOUT, code ETIMEDOUT, syscall read"],
        },
        seconds=1.0 + options.expiry,
    )


def doing(options: NodeKeepalive) -> str:
    if options.fixed:
        return f"A firewall forgets an idle connection after 3 s, and Node probes it after {IDLE} s."
    interval, count = options.probing()
    minutes, seconds = divmod(IDLE + _kernels_own()[0] * _kernels_own()[1], 60)
    beside = "" if options.full else f" By the kernel's defaults it would take {minutes} min {seconds} s (--full)."
    return (
        f"A firewall forgets an idle connection after 1 s, and Node probes it after {IDLE} s, then {count} times "
        f"{interval} s: ETIMEDOUT after {options.expiry} s.{beside}"
    )


def shows(options: NodeKeepalive) -> tuple[str, ...]:
    return ("idle-firewall --kernel-defaults" if options.full else "idle-firewall",)


def parts(options: NodeKeepalive) -> tuple[Part, ...]:
    return (NODE,)


STACK = stack(
    __file__,
    shows=shows,
    parts=parts,
    doing=doing,
    script=script,
    promise=promise,
    options=NodeKeepalive,
)
