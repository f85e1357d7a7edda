# The balancer is a real proxy in a process of its own. What it resets (SO_LINGER {on, 0}) goes out as RST,ACK, reason TCP_STATE.
# What it forgets is answered by its stack: on the client's side something still listens there, so the reason is TCP_FLAGS; on
# the server's there is no socket: NO_SOCKET. Whoever does not look gets send ECONNRESET, because the error of the socket goes
# to the first call that asks.
from __future__ import annotations

from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.balancer import IDLE, carry, may_vanish
from faultkit.acting.child import Inside, child
from faultkit.acting.dialogue import ask
from faultkit.acting.heartbeat import SPAN, beat, beats, check_beats
from faultkit.cause import AtLeast, Misuse, Options, Play, Promise, Rst, Served, Socket, Trigger, described, option
from faultkit.evidence.transcript import Address
from faultkit.options import duration

MESSAGES = {
    "websocket": (b"subscribe\n", b"event\n"),
    "http": (b"GET / HTTP/1.1\r\nHost: balancer.test\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"),
}


@dataclass(frozen=True)
class LoadBalancerIdle(Options):
    timeout_seconds: float = duration(1.0, "the balancer's idle timeout; 60000 in real life", least=300, most=7200000)
    expires: str = option(
        "reset", "what the balancer does then: reset both sides, or forget them silently", choices=("reset", "forget")
    )
    protocol: str = option(
        "websocket",
        "both ends wait for the other's word, or the client sends a request now and then",
        choices=tuple(MESSAGES),
    )
    heartbeat_seconds: float | None = duration(
        None, "the remedy: the client sends a message this often, shorter than the timeout", least=10, most=7200000
    )
    tcp_keepalive: bool = option(False, "TCP keepalive each second at both ends: shows that it does not help")

    def check(self) -> None:
        if self.heartbeat_seconds is not None:
            check_beats(every=self.heartbeat_seconds, timeout=self.timeout_seconds)
        if self.tcp_keepalive and self.timeout_seconds < 1.5:
            limit = f"{self.timeout_seconds * 1000:g} ms"
            raise Misuse(f"--tcp-keepalive sends its first probe after 1 s and --timeout is {limit}: take 2000")

    @property
    def beats(self) -> int:
        """Messages sent to keep it alive."""
        return beats(every=self.heartbeat_seconds, timeout=self.timeout_seconds)


def _set_up(end: Socket, play: Play) -> None:
    if play.options.tcp_keepalive:
        sockets.keepalive(end, idle_seconds=1, interval_seconds=1)
    if play.options.expires == "forget" and not may_vanish(end.family):
        sockets.hear_only_stack(end)


async def server(play: Play) -> None:
    """The server here, and the balancer before it, which listens until the play is over."""
    backend = play.socket("server")
    backend.bind(Address(play.stage.host, 0))
    backend.listen()
    async with child(play, balance, backend=backend.address) as balancer:
        await _serve(backend, play)
        await play.cues["over"].wait()
        balancer.tell("over")


async def _serve(backend: Socket, play: Play) -> None:
    """Answers, and, where both sides may speak, speaks first once the connection is forgotten."""
    options: LoadBalancerIdle = play.options
    connection = await play.accept(backend)
    _set_up(connection, play)
    play.cues["joined"].set()
    answer = MESSAGES[options.protocol][1]
    async with trio.open_nursery() as nursery:

        async def forgotten() -> None:
            if options.protocol == "websocket":
                await play.cues["expired"].wait()
                await connection.send(answer)
            else:
                await play.cues["over"].wait()  # it would wait for ever
                nursery.cancel_scope.cancel()

        if options.expires == "forget" and not options.beats:
            nursery.start_soon(forgotten)
        while (told := await connection.recv_later()).data:
            await connection.send(answer)
        if told.outcome == "EOF":
            connection.close()
        nursery.cancel_scope.cancel()
    play.cues["server told"].set()


async def balance(play: Inside, backend: Address) -> None:
    """The balancer's process, for one connection."""
    play.transcript.roles[backend] = "server"
    connection = await play.accept(play.listen(role="balancer"))
    await fault(connection, play)
    play.tell("expired")
    await play.cues["over"].wait()


async def fault(connection: Socket, play: Play) -> None:
    """The balancer, before the one server there is."""
    await carry(connection, next(address for address, role in play.transcript.roles.items() if role == "server"), play)


async def script(play: Play) -> None:
    options: LoadBalancerIdle = play.options
    request = MESSAGES[options.protocol][0]
    client = play.socket("client")
    _set_up(client, play)
    await client.connect(await play.cues.serving())
    await play.cues["joined"].wait()
    await ask(client, request)
    if options.heartbeat_seconds is not None:
        await beat(client, request, play, every=options.heartbeat_seconds, timeout=options.timeout_seconds)
        client.close()
        play.cues["over"].set()
        return
    play.notes.expect("the balancer's idle timeout", ends=options.timeout_seconds)
    await play.cues["expired"].wait()
    if options.expires == "forget":
        if options.protocol == "websocket":
            await play.cues["server told"].wait()
        await ask(client, request)
    elif options.protocol == "http":
        await client.readable()  # the RST is in the client's kernel; its pool does not look before it sends
        await client.send(request)
    else:
        await client.recv(65536)
    await client.recv(65536)
    await client.send(request)
    if (options.protocol, options.expires) == ("http", "forget"):
        play.notes.step("server", f"was told nothing: its end is still {sockets.state(play.accepted[0].raw)}")
    play.cues["over"].set()


def promise(options: LoadBalancerIdle, play: Play) -> Promise:
    forgets, http = options.expires == "forget", options.protocol == "http"
    asked = 1 + options.beats
    client: tuple[str, ...] = ("connect ok", *("send n", "recv n") * asked)
    balancer: tuple[str, ...] = ("accept ok", "connect ok", *("recv n", "send n") * 2 * asked)
    server: tuple[str, ...] = ("accept ok", *("recv n", "send n") * asked)
    packets: tuple[str, ...] = (
        *("client SYN", "balancer SYN,ACK", "balancer SYN", "server SYN,ACK"),
        *("client PSH,ACK n", "balancer PSH,ACK n", "server PSH,ACK n", "balancer PSH,ACK n") * asked,
    )
    if options.beats:
        return Promise(
            calls={
                "client": (*client, "close ok"),
                "balancer": (*balancer, "recv EOF", "close ok", "close ok"),
                "server": (*server, "recv EOF", "close ok"),
            },
            packets=(*packets, "client FIN,ACK", "balancer FIN,ACK", "balancer FIN,ACK", "server FIN,ACK"),
            seconds=0.5 + SPAN * options.timeout_seconds,  # a process starts
        )
    if forgets:
        resets = [Rst("balancer", "TCP_FLAGS")]
        if not http:
            server += ("send n", "recv ECONNRESET")
            packets += ("server PSH,ACK n", "balancer RST")
            resets.insert(0, Rst("balancer", "NO_SOCKET"))
        client += ("send n", "recv ECONNRESET")
        packets += ("client PSH,ACK n", "balancer RST")
    else:
        client += ("send ECONNRESET",) if http else ("recv ECONNRESET",)
        server += ("recv ECONNRESET",)
        packets += ("balancer RST,ACK", "balancer RST,ACK")
        resets = [Rst("balancer", "TCP_STATE")] * 2
    # The balancer's two ends, and whoever was told, are reset.
    counters: dict[str, int | AtLeast] = {"TcpOutRsts": len(resets), "TcpEstabResets": 2 + len(resets)}
    if not forgets:
        counters["TcpExtTCPAbortOnData"] = 2
    if options.tcp_keepalive:
        counters["TcpExtTCPKeepAlive"] = AtLeast(2)
    return Promise(
        calls={
            "client": (*client, "recv EOF", "send EPIPE"),
            "balancer": (*balancer, "close ok", "close ok"),
            "server": server,
        },
        packets=packets,
        resets=resets,
        counters=counters,
        measurements=(IDLE,),
        seconds=0.5 + options.timeout_seconds,
    )


def doing(options: LoadBalancerIdle) -> str:
    limit = f"{options.timeout_seconds * 1000:g} ms"
    if options.heartbeat_seconds is not None:
        return (
            f"A load balancer ends what is idle for {limit}, and a message every "
            f"{options.heartbeat_seconds * 1000:g} ms keeps the connection alive."
        )
    what = "resets both sides of" if options.expires == "reset" else "silently forgets"
    kind = "WebSocket-like" if options.protocol == "websocket" else "pooled HTTP"
    beside = ", TCP keepalive or not" if options.tcp_keepalive else ""
    return f"A load balancer {what} a {kind} connection that is idle for {limit}{beside}."


CAUSE = described(
    __name__,
    family="middlebox",
    summary="a balancer's idle timeout: RST now, or at the next use",
    story=(
        "The balancer holds two connections and a timer, usually of 60 s, that every byte sets back. When it runs out, "
        "some reset both sides: whoever waits in recv gets ECONNRESET at once, and a pool that does not look gets it from "
        "its next send. Others forget silently: both ends believe in a connection that is gone, the next segment of "
        "either is answered with RST by the balancer's stack, and whoever only waits, waits for ever. The RST carries the "
        "address of the balancer, which to the client is the server. TCP keepalive does not reach the timer of a proxy: "
        "its kernel answers the probes. A message of the application does."
    ),
    variants=(
        {},
        {"timeout_seconds": 0.3, "protocol": "http"},
        {"timeout_seconds": 0.3, "expires": "forget"},
        {"timeout_seconds": 0.3, "expires": "forget", "protocol": "http"},
        {"timeout_seconds": 0.6, "heartbeat_seconds": 0.15},
        {"timeout_seconds": 2.0, "tcp_keepalive": True},
    ),
    after_idle=True,
    served={"": Served(lambda conn: conn.abort(), when=Trigger("idle", 1.0))},
    lookalikes={
        "linger": "the same RST,ACK with a window, but from the server itself and after no idle time",
        "keepalive-race": "also after an idle time, but the server closed (FIN) and the request crossed it",
        "firewall-reset": "the RST is forged: no host on the way counts it in OutRsts",
        "idle-firewall": "nobody answers the next segment at all: it ends by a timer",
    },
    met=(
        "AWS: an NLB forgets after 350 s idle and answers the next segment with RST; an ALB ends it after 60 s",
        "Azure Load Balancer: 4 minutes, silent by default, with TCP Reset enabled a RST to both sides",
        "WebSockets, server-sent events, gRPC streams and LISTEN/NOTIFY that die exactly one minute after the last message",
    ),
    remedy=(
        "a heartbeat of the application, at most half the timeout: WebSocket ping, gRPC keepalive, an SSE comment line",
        "TCP keepalive below the timeout where the balancer only forwards segments (NLB); it does nothing for a proxy",
        "pools: give up an idle connection before the balancer does, and let the balancer's timeout be below the server's",
    ),
)
