# Multipath TCP (RFC 8684) adds further subflows to a connection, each a TCP connection of its own with its own resets. A
# subflow that does not fit is reset with a reason in an MP_TCPRST option (section 3.6), and the connection lives on over
# the others: no program sees anything. Which, by which reset and by which function of the kernel: PATHS. Linux 6.18.
# The second path is forged, with the keys that the handshake of the first shows to everybody on it.
from __future__ import annotations

import hashlib
import hmac
import socket
import struct
from dataclasses import dataclass

import trio

from faultkit import sockets
from faultkit.acting.dialogue import ask, echo
from faultkit.cause import Options, Play, Promise, Rst, Socket, Unable, described, option
from faultkit.evidence.segments import mptcp_options
from faultkit.evidence.transcript import Address, Packet
from faultkit.stage.addresses import ip
from faultkit.stage.forge import Forgery
from faultkit.stage.namespace import Namespace
from faultkit.witness import kernel

IPPROTO_MPTCP = 262  # linux/in.h; Python names it only where its own headers did
# Subtypes of TCP option 30 (RFC 8684 section 8.2), in the upper half of a byte.
MP_CAPABLE, MP_JOIN, DSS, MP_TCPRST = 0x00, 0x10, 0x20, 0x80
EMPTCP = 1  # "MPTCP-specific error", a reason in MP_TCPRST (RFC 8684 section 3.6)
ISN, NONCE = 1000, b"\1\2\3\4"  # of the forged path; arbitrary
SECOND = {int(socket.AF_INET): "127.0.0.2", int(socket.AF_INET6): "::2"}  # another address of the loopback
SENT = b"again"


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
    play.scenery.tap()
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
                await ip(own(play), "mptcp endpoint flush")
    else:
        await second_path(play, client.address, address)
    await ask(client, SENT)
    client.shutdown(socket.SHUT_WR)
    await client.recv(65536)
    client.close()


async def second_path(play: Play, first: Address, server: Address) -> None:
    """Forge another interface of the client's. Its port is held by a deaf socket, so that no kernel answers for it."""
    tap, wanted = play.scenery.tap(), play.options.path
    ours, target = listen_deaf(play, "path", Address(server.host, 0)), server
    if wanted == "other-port":
        other = play.socket("server", protocol=IPPROTO_MPTCP)
        other.bind(Address(server.host, 0))
        other.listen()
        target = other.address
    mine, theirs = await keys(play, first, server)
    token = bytes(4) if wanted == "unknown-token" else hashlib.sha256(theirs).digest()[:4]

    def forge(what: str, flags: tuple[str, ...], seq: int, ack: int, options: bytes, payload: bytes = b"") -> int:
        carried = (("opt30", options),) if options else ()
        forgery = Forgery(ours, target, flags, seq, ack, options=carried, payload=payload)
        return play.scenery.forge(forgery, f"{what} of the second path")

    def from_server(packet: Packet) -> bool:
        return packet.source == target and packet.destination == ours

    passed = forge("MP_JOIN SYN", ("SYN",), ISN, 0, bytes((MP_JOIN, 1)) + token + NONCE)
    answer = await tap.hear(from_server, since=passed)
    if "RST" in answer.flags:
        return
    proof = hmac.digest(mine + theirs, NONCE + mptcp_options(answer)[0][-4:], "sha256")[:20]
    proof = {"wrong-proof": bytes(20), "no-proof": b""}.get(wanted, proof)
    passed = forge("last ACK", ("ACK",), ISN + 1, answer.seq + 1, bytes((MP_JOIN, 0)) + proof if proof else b"")
    if "RST" in (await tap.hear(from_server, since=passed)).flags:
        return
    # 64-bit data sequence number, of which the first path has used 1 + len(SENT), and a checksum that is wrong.
    start = int.from_bytes(hashlib.sha256(mine).digest()[-8:]) + 1 + len(SENT)
    mapping = bytes((DSS, 0x0C)) + struct.pack("!QIHH", start & (1 << 64) - 1, 1, len(SENT), 0x1234)
    options = mapping if wanted == "changed-data" else b""
    passed = forge("data", ("PSH", "ACK"), ISN + 1, answer.seq + 1, options, SENT)
    reset = await tap.hear(lambda p: from_server(p) and "RST" in p.flags, since=passed)
    if wanted == "no-mapping":
        [code] = [option[1] for option in mptcp_options(reset) if option[0] & 0xF0 == MP_TCPRST]
        if code == EMPTCP:
            play.cues["EMPTCP"].set()
        name = _EMPTCP if code == EMPTCP else PATHS[wanted].reason
        play.notes.step("server", f"Linux {kernel.release()} gives the reason {name} (docs/kernels.md)")


async def keys(play: Play, client: Address, server: Address) -> tuple[bytes, bytes]:
    """Both cross in the open: the server's in its SYN,ACK, the client's in its first ACK (RFC 8684 section 3.1)."""
    tap = play.scenery.tap()
    theirs = mptcp_options(await tap.hear(lambda p: p.source == server and "SYN" in p.flags))[0][2:10]
    mine = mptcp_options(await tap.hear(lambda p: p.source == client and "SYN" not in p.flags))[0][2:10]
    return mine, theirs


def own(play: Play) -> Namespace:
    assert play.stage.namespace is not None, "prepare() has refused every other stage"
    return play.stage.namespace


async def stripped(play: Play, first: Address, server: Address) -> None:
    """Answer the join of the client's kernel in the server's name, and let the options of the last ACK get lost."""
    tap, second = play.scenery.tap(), SECOND[play.stage.family]
    play.notes.step("client", f"its kernel may join from {second}")
    if play.stage.family == socket.AF_INET6:
        await ip(own(play), f"-6 addr replace {second}/128 dev lo nodad")
    await ip(own(play), f"mptcp endpoint add {second} subflow")
    mine, theirs = await keys(play, first, server)
    syn = await tap.hear(lambda p: p.destination == server and p.source != first and p.flags == ("SYN",))
    path = syn.source
    play.transcript.roles[path] = "path"
    proof = hmac.digest(theirs + mine, NONCE + mptcp_options(syn)[0][-4:], "sha256")[:8]
    joined = (("opt30", bytes((MP_JOIN, 0)) + proof + NONCE),)
    answer = Forgery(server, path, ("SYN", "ACK"), ISN, syn.seq + 1, options=joined)
    passed = play.scenery.forge(answer, "the server's answer to the join")
    await tap.hear(lambda p: p.source == path and p.flags == ("ACK",), since=passed)
    bare = Forgery(server, path, ("ACK",), ISN + 1, syn.seq + 1)
    play.scenery.forge(bare, "the server's last ACK of the join, without options")
    await tap.hear(lambda p: p.source == path and "RST" in p.flags, since=passed)


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
