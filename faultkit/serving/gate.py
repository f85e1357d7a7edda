"""Each attempt to connect, by itself: refused, let in, or left unanswered as a plan has it; counted before its client is told.

The kernel refuses without telling anybody, so in its place stands this: the listening socket throws away every SYN that a client
sends (SO_ATTACH_FILTER, socket(7)), a packet socket shows it, and what is sent to the client is a RST, or the same SYN goes to
the listening socket again, marked. A client's next attempt comes after that, however quick it is.
"""

from __future__ import annotations

import array
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from faultkit.errors import Misuse, Unable
from faultkit.evidence.transcript import Address, Packet
from faultkit.serving.door import Door
from faultkit.stage import sandbox
from faultkit.stage.forge import Forger, Forgery, relayed
from faultkit.witness.wire import (
    ETH_P_ALL,
    PACKET_IGNORE_OUTGOING,
    SO_ATTACH_FILTER,
    SO_TIMESTAMPNS_NEW,
    SOL_PACKET,
    decode,
    packet_socket,
)

SO_DETACH_FILTER = 27  # asm-generic/socket.h
MARKED = 255  # the TTL of a SYN that is let in; the kernel's own is 64
LONGEST = 1 << 16  # bytes of a SYN: what an IP packet has room for

Program = tuple[tuple[int, int, int, int], ...]  # classic BPF (linux/filter.h): opcode, jump if true, if false, operand


def _let_marked_in(ttl: int) -> Program:
    """What a listening socket's filter sees begins with the TCP header; at SKF_NET_OFF (-0x100000) there is IP's."""
    return (
        (0x30, 0, 0, 13),  # ldb TCP's flags
        (0x54, 0, 0, 0x12),  # and SYN|ACK
        (0x15, 0, 2, 0x02),  # SYN alone? else let it in
        (0x30, 0, 0, 2**32 - 0x100000 + ttl),  # ldb the TTL
        (0x15, 0, 1, MARKED),
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    )


def _syns_to(port: int) -> Program:
    """Of an Ethernet frame: TCP's SYN to that port, over IPv4 or IPv6, and not marked."""
    return (
        (0x28, 0, 0, 12),  # ldh the EtherType
        (0x15, 0, 9, 0x0800),
        (0x30, 0, 0, 23),  # IPv4's protocol
        (0x15, 0, 15, socket.IPPROTO_TCP),
        (0x30, 0, 0, 22),  # its TTL
        (0x15, 13, 0, MARKED),
        (0xB1, 0, 0, 14),  # ldxb 4*([14]&0xf): its header's length
        (0x48, 0, 0, 16),  # ldh [x + 16]: the destination port
        (0x15, 0, 10, port),
        (0x50, 0, 0, 27),  # ldb [x + 27]: the flags
        (0x05, 0, 0, 5),  # ja
        (0x30, 0, 0, 21),  # IPv6's hop limit
        (0x15, 6, 0, MARKED),
        (0x28, 0, 0, 56),
        (0x15, 0, 4, port),
        (0x30, 0, 0, 67),
        (0x54, 0, 0, 0x12),  # and SYN|ACK
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    )


Verdict = Literal["admit", "refuse", "ignore"]


@dataclass(frozen=True, slots=True)
class Syn:
    """A client that asks to connect."""

    peer: Address
    at: float  # of time.monotonic(), by the kernel's stamp
    packet: Packet


class Attempt(NamedTuple):
    """A client's attempt to connect, as a test sees it."""

    number: int  # from 1 on: the place in the plan, and in `server.connections`
    peer: Address | None
    met: str  # "connected", or how it was turned away: "refused", "unanswered", "never accepted"
    at: float  # of time.monotonic()
    pause_seconds: float  # since the attempt before it; 0 for the first


class Gate:
    """Stands before a door that listens. Raises `Unable` outside of a namespace that faultkit made, `Misuse` off loopback."""

    def __init__(self, door: Door) -> None:
        import dpkt  # noqa: F401  # what `decode` takes a while to import, before the first client waits for it

        own = sandbox.inside()
        if own is None:
            raise Unable(
                "a plan with refuse counts attempts that no program is told of, and works only inside a private namespace: "
                "run it with faultkit sandbox -- ...; accept-then-close and accept-then-reset are counted everywhere"
            )
        self._door = door
        v6 = door.sock.family == socket.AF_INET6
        if not (door.address.host.startswith("127.") or door.address.host == "::1"):
            raise Misuse(f"a plan with refuse is for loopback, and {door.address.host} is not: leave host out")
        self._judged: dict[Address, tuple[int, Verdict]] = {}  # by the client's address, with its SYN's number
        self.sock = packet_socket()
        try:
            self._forger = Forger(own, door.sock.family)
            self.sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # or loopback shows each twice
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
            _attach(self.sock, _syns_to(door.address.port))
            self.sock.bind(("lo", ETH_P_ALL))
            _attach(door.sock, _let_marked_in(7 if v6 else 8))
        except BaseException:
            self.sock.close()
            raise

    def look(self, judge: Callable[[Syn], Verdict]) -> None:
        """Do with each attempt what the judge says, who is asked once; with what a client sends again the same."""
        for attempt in self._attempts():
            number, verdict = self._judged.get(attempt.peer, (None, None))
            if number != attempt.packet.seq or verdict is None:
                verdict = judge(attempt)
                self._judged[attempt.peer] = attempt.packet.seq, verdict
            if verdict == "admit":
                self._admit(attempt)
            elif verdict == "refuse":
                self._refuse(attempt)

    def _attempts(self) -> Iterator[Syn]:
        """What has come since the last look, in order, and what a client has sent again."""
        while True:
            try:
                frame, control, _, _ = self.sock.recvmsg(LONGEST, socket.CMSG_SPACE(16))
            except BlockingIOError:
                return
            packet = decode(0, frame)
            if packet and packet.destination == self._door.address:
                seconds, nanoseconds = struct.unpack("qq", control[0][2])
                ago = time.time() - seconds - nanoseconds / 1e9
                yield Syn(packet.source, time.monotonic() - ago, packet)

    def _refuse(self, attempt: Syn) -> None:
        """Answer as a kernel does on whose port nobody listens: connect() gets ECONNREFUSED (RFC 9293 section 3.10.7.1)."""
        syn = attempt.packet
        after = (syn.seq + syn.payload + 1) & 0xFFFFFFFF
        self._forger.send(Forgery(syn.destination, syn.source, ("RST", "ACK"), seq=0, ack=after, window=0))

    def _admit(self, attempt: Syn) -> None:
        """Let it reach the listening socket."""
        self._forger.put(relayed(attempt.packet.frame[14:], MARKED), self._door.address.host)

    def close(self) -> None:
        """Let go of everything but the door."""
        self.sock.close()
        self._forger.close()


def _attach(sock: socket.socket, program: Program) -> None:
    code = array.array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), code.buffer_info()[0]))


def open_to_all(sock: socket.socket) -> None:
    """Take the door's filter off a connection, which inherits it."""
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
