# The balancer is the catalogue's (load-balancer-idle): a proxy with a timer that every byte sets back, and that resets both
# sides when it runs out, as the cloud's do. The ends are real: the websockets library at both, an HTTP server and a
# client. They run with their real numbers, in seconds that are shorter: SECOND = the timeout / 60.
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from faultkit.acting.balancer import IDLE, carry
from faultkit.acting.exchange import Client
from faultkit.acting.program import Library, Part
from faultkit.cause import option
from faultkit.evidence.transcript import Address
from faultkit.evidence.verdict import Promise, Rst
from faultkit.playing.stack import StackOptions, stack

if TYPE_CHECKING:
    from faultkit.acting.play import Play

# As in the programs' files.
WEBSOCKET, HTTP = Address("127.0.0.1", 8080), Address("127.0.0.1", 8081)
SERVER, EVENTS = Address("127.0.0.1", 8090), Address("127.0.0.1", 8091)
TIMEOUT, SILENCE = 60, 180
WEBSOCKETS = Library("websockets", "websockets")
CLOSED = "ConnectionClosedError: no close frame received or sent; ConnectionResetError(104, 'Connection reset by peer')"


@dataclass(frozen=True)
class LoadBalancer(StackOptions):
    timeout_seconds: float = option(
        1.0, "the balancer's idle timeout; 60000 in real life", unit="ms", least=500, most=60000
    )

    @property
    def expires(self) -> Literal["reset"]:
        """What the balancer does then: as the option of load-balancer-idle."""
        return "reset"


async def script(play: Play) -> None:
    play.programs.callers({WEBSOCKET: "subscriber"})
    second = {"SECOND": f"{play.options.timeout_seconds / TIMEOUT:.6f}"}
    server = await play.programs.start("server", WEBSOCKETS, "server.py", environment=second)
    events = await play.programs.start("events", WEBSOCKETS, "events.py", environment=second)
    await server.listens(SERVER)
    await events.listens(EVENTS)
    for port, behind in (WEBSOCKET.port, SERVER), (HTTP.port, EVENTS):
        play.beside.start_soon(_balance, play, port, behind)
    await play.cues.serving()
    silence = play.options.timeout_seconds * SILENCE / TIMEOUT
    if play.options.fixed:
        play.notes.expect("the news", ends=silence)
    else:
        play.notes.expect(IDLE, ends=play.options.timeout_seconds)
    subscriber = await play.programs.start("subscriber", WEBSOCKETS, "subscriber.py", environment=second)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Client(play, HTTP).request, "GET", "/events")
        await subscriber.ended()
    if not play.options.fixed:
        await server.said("ConnectionClosedError")
        await events.said("ConnectionResetError")


async def _balance(play: Play, port: int, behind: Address) -> None:
    listener = play.listen(port, role="balancer")
    while (connection := await listener.accept()) is not None:
        play.beside.start_soon(carry, connection, behind, play)


def promise(options: LoadBalancer, play: Play) -> Promise:
    asked = '"GET /events HTTP/1.1" 200 -'
    if options.fixed:
        return Promise(
            calls={},
            packets=None,
            exchanges=["GET /events 200"],
            lines={"server": [], "subscriber": ["subscribed", "news"], "events": [asked]},
            seconds=1.5 + options.timeout_seconds * SILENCE / TIMEOUT,
        )
    return Promise(
        calls={},
        packets=None,
        resets=[Rst("balancer", "TCP_STATE")] * 4,
        # Both connections of the balancer have two ends each: it resets the one, and the other is reset.
        counters={"TcpOutRsts": 4, "TcpEstabResets": 8, "TcpExtTCPAbortOnData": 4},
        measurements=[IDLE],
        exchanges=["GET /events 200 then recv ECONNRESET"],
        lines={
            "server": [CLOSED],
            "subscriber": ["subscribed", CLOSED],
            "events": [asked, "ConnectionResetError: [Errno 104] Connection reset by peer"],
        },
        seconds=1.5 + options.timeout_seconds,
    )


def doing(options: LoadBalancer) -> str:
    told = "pings each third of that keep the connections" if options.fixed else "the application is silent for longer"
    return f"A load balancer ends what is idle for {options.timeout_seconds * 1000:g} ms, and {told}."


def shows(options: LoadBalancer) -> tuple[str, ...]:
    pings = f" --heartbeat {options.timeout_seconds * 1000 / 3:.0f}" if options.fixed else ""
    return (f"load-balancer-idle --timeout {options.timeout_seconds * 1000:g}{pings}",)


def parts(options: LoadBalancer) -> tuple[Part, ...]:
    return (WEBSOCKETS,)


STACK = stack(
    __file__,
    shows=shows,
    parts=parts,
    doing=doing,
    script=script,
    promise=promise,
    options=LoadBalancer,
)
