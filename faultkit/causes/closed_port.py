# A SYN for a port on which nobody listens is answered with RST,ACK (RFC 9293 section 3.10.7.1); connect() fails at once.
# Linux 6.18: ECONNREFUSED, counter AttemptFails, reason NO_SOCKET, window 0 and no options: an answer of the stack.
# The port is held by a socket that is bound and not listening. A port picked and then closed is a race: the kernel may
# hand it to somebody else in between.
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit.cause import Options, Promise, Rst, Served, Trigger, described, option

if TYPE_CHECKING:
    from faultkit.cause import Play


@dataclass(frozen=True)
class ClosedPort(Options):
    port: int = option(0, "the port to hold closed; 0 takes a free one", least=0, most=65535)


async def server(play: Play) -> None:
    play.hold(play.options.port)


async def script(play: Play) -> None:
    await play.connect()


def promise(options: ClosedPort, play: Play) -> Promise:
    return Promise(
        calls={"client": ("connect ECONNREFUSED",), "server": ()},
        packets=("client SYN", "server RST,ACK"),
        resets=(Rst("server", "NO_SOCKET"),),
        counters={"TcpAttemptFails": 1, "TcpOutRsts": 1},
    )


CAUSE = described(
    __name__,
    family="absent",
    summary="connect() to a port nobody listens on: ECONNREFUSED",
    doing=lambda options: "The client connects to a port that is bound but not listening.",
    story=(
        "The server's kernel finds no listening socket for the SYN and answers RST,ACK (RFC 9293 section 3.10.7.1; "
        "tcp_v4_rcv()). The client's connect() fails at once with ECONNREFUSED: the host is alive, the port is closed."
    ),
    served={"": Served(door=lambda door: door.refuse(), when=Trigger("listen"))},
    lookalikes={"idle-firewall": "a silent drop: connect() waits and ends in ETIMEDOUT, not at once"},
    met=(
        "a service that is not started yet, has crashed, or listens on another address or port",
        "a firewall that rejects with tcp-reset looks the same from the client, but the server's OutRsts stands still",
    ),
    remedy=(
        "ss -ltn on the server: is anything listening, and on which address",
        "retry with backoff while a service starts: ECONNREFUSED is safe to retry, nothing was delivered",
    ),
)
