# The kernel repeats a SYN each second at first (tcp_syn_linear_timeouts = 4 since Linux 6.5), then with doubling timeouts
# (faultkit.evidence.timers has the arithmetic).
# late-answer: only EmbryonicRsts and AttemptFails of the server move. The answer is held back by a deaf client (IP_MINTTL), so
# it is the server's retransmission of it, a second later, that meets no socket: RST, reason NO_SOCKET.
from __future__ import annotations

import time
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.handshake import connect_in_vain
from faultkit.cause import Misuse, Options, Play, Promise, Rst, Served, Trigger, described, option
from faultkit.evidence import timers
from faultkit.options import drop_with, duration, syn_retries
from faultkit.stage import sysctl
from faultkit.witness.kernel import when_listed


@dataclass(frozen=True)
class ConnectTimeout(Options):
    ended_by: str = option(
        "syn-retries",
        "which comes first: the kernel's retries, the program's own timeout, or that and then an answer after all",
        choices=("syn-retries", "own-timeout", "late-answer"),
    )
    syn_retries: int = syn_retries(" (the kernel's own default is 6)", only_with=("ended_by", "syn-retries"))
    own_timeout_seconds: float = duration(
        0.5, "the program's connect timeout", most=3600000, only_with=("ended_by", "own-timeout", "late-answer")
    )
    drop_with: str = drop_with("what drops the SYN")

    def check(self) -> None:
        if self.ended_by == "late-answer" and self.drop_with in ("iptables", "nft"):
            raise Misuse("--drop-with is for a SYN that is lost, and with late-answer the server gets it: leave it out")
        if self.ended_by == "late-answer" and self.own_timeout_seconds > 0.9:
            raise Misuse(
                "--own-timeout is too long for late-answer: the server's kernel repeats its answer after 1 s and the client "
                "must have given up by then: take 900 or less"
            )

    @property
    def lost(self) -> bool:
        """Is it the SYN that is lost, and not the answer?"""
        return self.ended_by != "late-answer"

    def due(self) -> tuple[str, float]:
        """What is measured, and how many seconds after the first SYN it is due."""
        if self.ended_by == "own-timeout":
            return "client's own connect timeout", self.own_timeout_seconds
        if self.ended_by == "syn-retries":
            return "client's SYN retries", sysctl.syns(self.syn_retries)[-1]
        return "the late answer", timers.RTO_SYN  # the server's kernel repeats its SYN,ACK (reqsk_timer_handler())


async def server(play: Play) -> None:
    """Listen, and never hear a SYN; or hear it, and be answered by nobody."""
    listener = play.listen()
    if play.options.lost:
        await play.scenery.cut("syn-drop", 1, port=listener.address.port, deaf=listener, called="the listening socket")
    play.cues["silent"].set()


async def script(play: Play) -> None:
    options: ConnectTimeout = play.options
    address = await play.cues.serving()
    await play.cues["silent"].wait()
    client = play.socket("client")
    name, due = options.due()
    if options.ended_by == "syn-retries":
        await connect_in_vain(client, address, play, name, retries=options.syn_retries)
        return
    if not options.lost:
        sockets.black_hole(client)
        play.notes.step("network", "holds the server's answer back")
    play.notes.expect(name, ends=due)
    began_ns = time.time_ns()  # a busy machine may stop us between the program's clock and its connect()
    with trio.move_on_after(options.own_timeout_seconds):
        await client.connect(address)
    ours = client.address
    told = play.transcript.calls[-1]
    ended_ns = told.ended_ns
    client.close()
    if not options.lost:
        began_ns = told.began_ns
        play.notes.step("client", "gave up; its kernel has forgotten the connection, the server's has not")
        ended_ns = (await when_listed(address, ours, lambda end: end.state != "SYN-RECEIVED")).time_ns
    play.notes.measure(name, predicted=due, began_ns=began_ns, ended_ns=ended_ns)


def promise(options: ConnectTimeout, play: Play) -> Promise:
    name, due = options.due()
    told, again = ("connect cancelled", "close ok"), len(sysctl.syns(options.syn_retries)) - 1
    moved = {
        "syn-retries": {"TcpAttemptFails": 1, "TcpExtTCPSynRetrans": again, "TcpExtTCPAbortOnTimeout": 1},
        "late-answer": {"TcpAttemptFails": 1, "TcpExtEmbryonicRsts": 1, "TcpOutRsts": 1},
    }
    return Promise(
        calls={"client": ("connect ETIMEDOUT",) if options.ended_by == "syn-retries" else told, "server": ()},
        packets=("client SYN", *(() if options.lost else ("server SYN,ACK", "client RST"))),
        resets=() if options.lost else (Rst("client", "NO_SOCKET"),),
        counters=moved.get(options.ended_by, {}),
        measurements=(name,),
        seconds=due,
    )


def doing(options: ConnectTimeout) -> str:
    wait = f"{options.own_timeout_seconds * 1000:g} ms"
    return {
        "syn-retries": f"The client's SYN goes unanswered, and is repeated by TCP_SYNCNT = {options.syn_retries}.",
        "own-timeout": f"The client's SYN goes unanswered, and the program gives up after {wait}.",
        "late-answer": f"The client gives up after {wait}, and then the server's SYN,ACK arrives.",
    }[options.ended_by]


CAUSE = described(
    __name__,
    family="absent",
    summary="nobody answers the SYN: connect() hangs, then ETIMEDOUT",
    story=(
        "The SYN, or its answer, is lost. The client's kernel repeats it until tcp_syn_retries is exhausted, 131 s by "
        "default, then connect() fails with ETIMEDOUT (tcp(7); tcp_write_timeout()). A program's own connect timeout "
        "mostly comes first: it closes a socket in SYN-SENT, which sends nothing. If the server's SYN,ACK arrives after "
        "that, the client's kernel answers it with RST (RFC 9293 section 3.10.7.1), and the server's kernel drops its "
        "half of the handshake; the server's program is never told."
    ),
    variants=({}, {"ended_by": "own-timeout"}, {"ended_by": "late-answer"}, {"drop_with": "socket"}),
    served={"": Served(door=lambda door: door.hang(), when=Trigger("listen"), hangs=True)},
    lookalikes={
        "closed-port": "connect() fails at once with ECONNREFUSED: somebody answers",
        "backlog-full": "the server's ListenOverflows and ListenDrops move: the SYN arrived and was refused",
        "reject": "EHOSTUNREACH, ENETUNREACH or ECONNREFUSED: a firewall says so by ICMP or RST",
        "retransmit-timeout": "connect() had succeeded: send() or recv() gives the ETIMEDOUT",
    },
    met=(
        "a security group or firewall that drops what it does not allow; a wrong address; a host that is down",
        "a route back that is missing: the SYN arrives, its answer does not (ss -tn state syn-recv on the server)",
        "many RSTs from clients to fresh SYN,ACKs: their connect timeout is shorter than the way there and back",
    ),
    remedy=(
        "a connect timeout in the program, longer than 1 s and better than 3 s: a lost SYN is repeated after 1 s only",
        "try every address of the name (RFC 8305), each with a timeout of its own",
        "firewalls: reject instead of drop for what comes from within, so that clients learn at once",
        "TCP_SYNCNT or net.ipv4.tcp_syn_retries where the program cannot be changed",
    ),
)
