# Multipath TCP (RFC 8684) adds further subflows to a connection, each a TCP connection of its own with its own resets. A
# subflow that does not fit is reset with a reason in an MP_TCPRST option (section 3.6), and the connection lives on over
# the others: no program sees anything. Which, by which reset and by which function of the kernel: PATHS. Linux 6.18.
# The second path is forged, with the keys that the handshake of the first shows to everybody on it.
from __future__ import annotations

import socket
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.dialogue import ask, echo
from faultkit.cause import Options, Play, Promise, Rst, Socket, Unable, described, option
from faultkit.evidence import multipath
from faultkit.evidence.transcript import Address
from faultkit.stage.forge import ISN, Forgery

IPPROTO_MPTCP = 262  # linux/in.h; Python names it only where its own headers did
NONCE = b"\1\2\3\4"  # of the forged path; arbitrary
SECOND = {int(socket.AF_INET): "127.0.0.2", int(socket.AF_INET6): "::2"}  # another address of the loopback
SENT = b"again"
WRONG = 0x1234  # for a checksum; arbitrary


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way in which a second path is refused."""

    what: str
    reason: str
    counted: str  # the counters that move by one
    joined: bool = False  # the subflow was there before it was reset
    answer: str = "RST,ACK"  # the flags of the reset
    by: str = "server"


_EMPTCP, _EMIDDLEBOX = "MPTCP_RST_EMPTCP", "MPTCP_RST_EMIDDLEBOX"

PATHS: dict[str, Refusal] = {
    "unknown-token": Refusal(  # subflow_check_req()
        "asks to join a connection that is not here", _EMPTCP, "MPTcpExtMPJoinNoTokenFound"
    ),
    "wrong-proof": Refusal(  # its last ACK with a wrong HMAC: subflow_syn_recv_sock()
        "joins without knowing the keys", _EMPTCP, "MPTcpExtMPJoinAckHMacFailure TcpAttemptFails", answer="RST"
    ),
    "no-proof": Refusal(  # its last ACK without MPTCP options
        "loses its MPTCP options in the middle of the join", _EMPTCP, "TcpAttemptFails", answer="RST"
    ),
    "other-port": Refusal(
        "joins at a port that was never announced", "MPTCP_RST_EPROHIBIT", "MPTcpExtMismatchPortSynRx"
    ),
    "no-mapping": Refusal(  # subflow_check_data_avail()
        "has joined, and a middlebox strips the options of its data", _EMIDDLEBOX, "MPTcpExtMPRstTx", joined=True
    ),
    "changed-data": Refusal(  # a wrong checksum: validate_data_csum()
        "has joined, and a middlebox changes its data",
        _EMIDDLEBOX,
        "MPTcpExtDataCsumErr MPTcpExtMPFailTx MPTcpExtMPRstTx",
        joined=True,
    ),
    "stripped": Refusal(  # the ACK of the join without options, and the one who joins resets: check_fully_established()
        "has joined, and a middlebox strips the options of the answer",
        "MPTCP_RST_EUNSPEC",
        "MPTcpExtMPJoinSynAckRx MPTcpExtMPRstTx",
        joined=True,
        by="path",
    ),
}


@dataclass(frozen=True)
class Mptcp(Options):
    path: str = option("wrong-proof", "what the second path does", choices=tuple(PATHS))

    @property
    def refusal(self) -> Refusal:
        return PATHS[self.path]


async def prepare(play: Play) -> None:
    try:
        play.scenery.sysctl("mptcp.enabled", 1)
    except Unable as error:
        raise Unable(f"mptcp: this kernel offers no MPTCP ({error}): it takes one with CONFIG_MPTCP=y") from error
    play.scenery.sysctl("mptcp.checksum_enabled", int(play.options.path == "changed-data"))


async def server(play: Play) -> None:
    listener = play.listen(protocol=IPPROTO_MPTCP)
    connection = await play.accept(listener)
    if play.options.path == "stripped":
        # No kernel is to answer the join: a deaf listener takes the place of the one that would.
        address = listener.address
        listener.close()
        listen_deaf(play, "server", address)
    play.cues["accepted"].set()
    await fault(connection, play)


def listen_deaf(play: Play, role: str, address: Address) -> Address:
    """Let nobody answer at that address, not even with a RST. Gives it, with its port."""
    deaf = play.socket(role)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deaf.bind(address)
    sockets.black_hole(deaf)
    deaf.listen()
    return deaf.address


async def fault(connection: Socket, play: Play) -> None:
    await echo(connection)  # the program on MPTCP never learns of the second path


async def script(play: Play) -> None:
    client = play.socket("client", protocol=IPPROTO_MPTCP)
    address = await play.cues.serving()
    if play.options.path == "stripped":
        # Both ends are in one namespace, so the server's kernel would join towards the client's port just the same.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(Address(address.host, 0))
        listen_deaf(play, "client", client.address)
    await client.connect(address)
    await play.cues["accepted"].wait()
    await ask(client, SENT)
    if play.options.path == "stripped":
        try:
            await stripped(play, client.address, address)
        finally:
            with trio.CancelScope(shield=True):
                await play.scenery.ip("mptcp endpoint flush")
    else:
        await second_path(play, client.address, address)
    await ask(client, SENT)
    client.shutdown(socket.SHUT_WR)
    await client.recv(65536)
    client.close()


async def second_path(play: Play, first: Address, server: Address) -> None:
    """Forge another interface of the client's. Its port is held by a deaf socket, so that no kernel answers for it."""
    wanted = play.options.path
    ours, target = listen_deaf(play, "path", Address(server.host, 0)), server
    if wanted == "other-port":
        other = play.socket("server", protocol=IPPROTO_MPTCP)
        other.bind(Address(server.host, 0))
        other.listen()
        target = other.address
    mine, theirs = await keys(play, first, server)
    token = bytes(4) if wanted == "unknown-token" else multipath.token(theirs)

    def segment(flags: str, ack: int, *options: tuple[str, bytes], payload: bytes = b"") -> Forgery:
        seq = ISN if flags == "SYN" else ISN + 1
        return Forgery(ours, target, tuple(flags.split(",")), seq, ack, options=options, payload=payload)

    syn = segment("SYN", 0, multipath.join(token + NONCE, address=1))
    answer = await play.scenery.answer(syn, "MP_JOIN SYN of the second path")
    if "RST" in answer.flags:
        return
    proof = multipath.proof(mine + theirs, NONCE + multipath.nonce(answer), 20)
    proven = [] if wanted == "no-proof" else [multipath.join(bytes(20) if wanted == "wrong-proof" else proof)]
    last = segment("ACK", answer.seq + 1, *proven)
    if "RST" in (await play.scenery.answer(last, "last ACK of the second path")).flags:
        return
    mapped = [multipath.mapping(mine, len(SENT), len(SENT), WRONG)] if wanted == "changed-data" else []
    data = segment("PSH,ACK", answer.seq + 1, *mapped, payload=SENT)
    reset = await play.scenery.answer(data, "data of the second path", "RST")
    if wanted == "no-mapping":
        reason = multipath.reason(reset)
        if reason == _EMPTCP:
            play.cues["EMPTCP"].set()
        play.notes.of_this_kernel("server", f"gives the reason {reason}")


async def keys(play: Play, client: Address, server: Address) -> tuple[bytes, bytes]:
    """The client's and the server's, which everybody on the path reads."""
    tap = play.scenery.tap()
    theirs = await tap.hear(lambda p: p.source == server and "SYN" in p.flags)
    mine = await tap.hear(lambda p: p.source == client and "SYN" not in p.flags)
    return multipath.key(mine), multipath.key(theirs)


async def stripped(play: Play, first: Address, server: Address) -> None:
    """Answer the join of the client's kernel in the server's name, and let the options of the last ACK get lost."""
    tap, second = play.scenery.tap(), SECOND[play.stage.family]
    play.notes.step("client", f"its kernel may join from {second}")
    if play.stage.family == socket.AF_INET6:
        await play.scenery.ip(f"-6 addr replace {second}/128 dev lo nodad")
    await play.scenery.ip(f"mptcp endpoint add {second} subflow")
    mine, theirs = await keys(play, first, server)
    syn = await tap.hear(lambda p: p.destination == server and p.source != first and p.flags == ("SYN",))
    path = syn.source
    play.transcript.roles[path] = "path"
    joined = multipath.join(multipath.proof(theirs + mine, NONCE + multipath.nonce(syn), 8) + NONCE)
    answer = Forgery(server, path, ("SYN", "ACK"), ISN, syn.seq + 1, options=(joined,))
    bare = Forgery(server, path, ("ACK",), ISN + 1, syn.seq + 1)
    await play.scenery.answer(answer, "the server's answer to the join")
    await play.scenery.answer(bare, "the server's last ACK of the join, without options", "RST")


def promise(options: Mptcp, play: Play) -> Promise:
    refusal = options.refusal
    said = ("client PSH,ACK 5", "server PSH,ACK 5")
    join = ("path SYN",) if refusal.answer == "RST,ACK" and not refusal.joined else ("path SYN", "server SYN,ACK")
    # The path's deaf socket lets its SYN,ACK be sent again where a run is slow; that is nothing new.
    data = ("path PSH,ACK 5",) if refusal.joined and refusal.by == "server" else ()
    listening = ("close ok",) if options.path == "stripped" else ()
    by_kernel = Rst(refusal.by, _EMPTCP, looks="active")
    lost = ("TcpEstabResets",) if refusal.joined else ()
    return Promise(
        calls={
            "client": ("connect ok", *("send 5", "recv 5") * 2, "shutdown ok", "recv EOF", "close ok"),
            "server": ("accept ok", *listening, *("recv 5", "send 5") * 2, "recv EOF", "close ok"),
        },
        packets=(
            *("client SYN", "server SYN,ACK", *said, *join, *data, f"{refusal.by} {refusal.answer}", *said),
            *("client FIN,ACK *", "server FIN,ACK *", "client FIN,ACK *"),
        ),
        resets=(by_kernel if play.cues["EMPTCP"].is_set() else Rst(refusal.by, refusal.reason),),
        counters=dict.fromkeys(("TcpOutRsts", *lost, *refusal.counted.split()), 1),
    )


CAUSE = described(
    __name__,
    family="protocol",
    summary="Multipath TCP resets one path, and the connection lives on",
    seldom=True,
    overhears=True,
    doing=lambda options: f"An MPTCP connection gets a second path, which {options.refusal.what}.",
    story=(
        "MPTCP runs one connection over several TCP subflows (RFC 8684). A subflow whose join cannot be verified, or whose "
        "options or data were changed on the way, is reset, with the reason in an MP_TCPRST option (section 3.6); the data "
        "goes over the others, and the programs see nothing. A capture and OutRsts show resets all the same."
    ),
    variants=tuple({"path": name} for name in PATHS),
    lookalikes={
        "injected": "that RST has no MP_TCPRST option, and the connection dies of it",
        "bad-segment": "there no connection of yours is near; here nstat's MPTcpExt counters move too",
    },
    met=(
        "iPhones and other hosts with two networks, behind a NAT or firewall that strips unknown TCP options on one of them",
        "load balancers that send the join of a second path to another server: unknown token",
    ),
    remedy=(
        "nothing for the program; nstat -a MPTcpExt: which join failed, and why",
        "ip mptcp endpoint and limits: announce only addresses and ports that reach the same host",
        "a balancer must choose by token, or let servers announce addresses of their own (RFC 8684 section 5)",
    ),
)
